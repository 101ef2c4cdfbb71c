"""Relabellings: operators that give a tensor other dims and leave its elements in their order.

Reshape, Flatten, Squeeze and Unsqueeze are one thing in four spellings. From the dims before and after, this
finds a spelling whose numbers are constants, so that no shape has to be computed when the model runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.dims import Dim, low, product, terms_of
from graphopt.ir.dims.expression import Atom, of_atom

__all__ = [
    "RELABELLINGS",
    "Relabelling",
    "at_least_one",
    "constant_target",
    "inserted_axes",
    "is_relabelling",
    "positive_atoms",
    "relabelling",
    "reshape_targets",
]

RELABELLINGS = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")

# Reshape got `allowzero`, without which a dim of 0 can only be copied.
ALLOWZERO_SINCE = 14

Dims = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Relabelling:
    """One node that gives a tensor its new dims.

    Attributes:
        op_type: Reshape, Flatten, Squeeze or Unsqueeze; "" where nothing has to be done.
        numbers: The target, the axis (one number) or the axes.
        allowzero: For a Reshape: a 0 is a dim of 0, not a copy.
    """

    op_type: str
    numbers: tuple[int, ...] = ()
    allowzero: bool = False


def is_relabelling(node: ir.Node | None) -> bool:
    """Whether the node is a Reshape, Flatten, Squeeze or Unsqueeze."""
    return node is not None and node.op_type in RELABELLINGS and node.domain == ""


def relabelling(
    source: Dims, result: Dims, opset: int, positive: frozenset[Atom] = frozenset()
) -> Relabelling | None:
    """The node that turns dims `source` into `result`, with constant numbers only.

    Args:
        source: Dims of the tensor.
        result: Dims that it is to have; a legal run has as many elements in both.
        opset: Version of the default domain.
        positive: Atoms that are at least 1 wherever the model runs (see `positive_atoms`).

    Returns:
        None where the numbers depend on the run, or 0 could not be told from "copy".
    """
    if source == result:
        return Relabelling("")
    axes = inserted_axes(source, result)
    if axes is not None:
        return Relabelling("Unsqueeze", axes)
    axes = inserted_axes(result, source)
    if axes is not None:
        return Relabelling("Squeeze", axes)
    target = constant_target(source, result, opset, positive)
    if target is not None:
        return target
    if len(result) == 2:
        for axis in range(len(source) + 1):
            if product(source[:axis]) == result[0] and product(source[axis:]) == result[1]:
                return Relabelling("Flatten", (axis,))
    return None


def inserted_axes(source: Dims, result: Dims) -> tuple[int, ...] | None:
    """The axes of `result` that are dims of 1 put between those of `source`; None where others differ too."""
    axes: list[int] = []
    place = 0
    for axis, dim in enumerate(result):
        if place < len(source) and source[place] == dim:
            place += 1
        elif dim == 1:
            axes.append(axis)
        else:
            return None
    return tuple(axes) if place == len(source) else None


def constant_target(
    source: Dims, result: Dims, opset: int, positive: frozenset[Atom] = frozenset()
) -> Relabelling | None:
    """The Reshape with a target of numbers, each dim written out, copied (0) or inferred (-1).

    A dim is inferred only where the product of the others is at least 1: beside a 0 no runtime infers.
    Copies come first, since they hold for every size.
    """
    target: list[int | None] = []
    for axis, dim in enumerate(result):
        if type(dim) is int and dim > 0:
            target.append(dim)
        elif axis < len(source) and source[axis] == dim:
            target.append(0)
        elif dim == 0:
            # Only a target of plain numbers may say a true 0: -1 and copies mean something else beside it.
            numbers = tuple(d for d in result if type(d) is int)
            known = len(numbers) == len(result) and opset >= ALLOWZERO_SINCE
            return Relabelling("Reshape", numbers, allowzero=True) if known else None
        else:
            target.append(None)
    missing = [axis for axis, number in enumerate(target) if number is None]
    if len(missing) > 1:
        return None
    if missing and not at_least_one(result, missing[0], positive):
        return None
    return Relabelling("Reshape", tuple(-1 if number is None else number for number in target))


def reshape_targets(source: Dims, result: Dims, elements: Dims) -> list[Dims]:
    """Other contents that a computed target (without `allowzero`) may have, for the same result.

    An element that is neither copied, nor a number, nor inferred stays what it is: where it is 0 it means a
    copy, as before.
    """
    written = tuple(
        0 if axis < len(source) and source[axis] == dim else dim if type(dim) is int and dim > 0 else element
        for axis, (dim, element) in enumerate(zip(result, elements, strict=True))
    )
    found = [elements, written]
    if -1 not in written:
        positive = positive_atoms(elements, result)
        found += [
            (*written[:axis], -1, *written[axis + 1 :])
            for axis in range(len(written))
            if type(written[axis]) is not int and at_least_one(result, axis, positive)
        ]
    return found


def positive_atoms(elements: Sequence[object], result: Dims) -> frozenset[Atom]:
    """Atoms that are at least 1 wherever a Reshape with -1 among its target's elements runs."""
    if -1 not in elements or len(elements) != len(result):
        return frozenset()
    others = [dim for element, dim in zip(elements, result, strict=True) if element != -1]
    factors = [terms_of(dim)[0][0] for dim in others if len(terms_of(dim)) == 1]
    return frozenset(factor for monomial in factors for factor in monomial if _is_no_less(factor, 0))


def at_least_one(dims: Sequence[Dim], without: int, positive: frozenset[Atom] = frozenset()) -> bool:
    """Whether all dims but one are proven not to be 0."""
    return all(_is_positive(dim, positive) for axis, dim in enumerate(dims) if axis != without)


def _is_positive(dim: Dim, positive: frozenset[Atom]) -> bool:
    if (low(dim) or 0) >= 1:
        return True
    terms = terms_of(dim)
    if len(terms) != 1 or terms[0][1] < 1:
        return False
    return all(factor in positive or _is_no_less(factor, 1) for factor in terms[0][0])


def _is_no_less(factor: Atom, number: int) -> bool:
    least = low(of_atom(factor))
    return least is not None and least >= number
