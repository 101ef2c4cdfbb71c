"""Make one node, or none, of a chain of Reshape, Flatten, Squeeze and Unsqueeze.

    before   x[batch,4,1,64] -> Squeeze(2) -> Reshape(0,256) -> Unsqueeze(1) -> y[batch,1,256]
    after    x[batch,4,1,64] -> Reshape(0,1,256) -> y

All of these leave the elements in their order, so only the first dims and the last ones count. Where those
are proven equal nothing is left. A target that copies a dim of a value inside the chain, or that has to be
computed, is written anew from the facts. Where that can't be done with constants, a target that is computed
already is taken, if it means the same there, with other constants between what is computed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.dims import Dim
from graphopt.ir.dims.expression import Atom
from graphopt.ir.relabelling import (
    RELABELLINGS,
    at_least_one,
    is_relabelling,
    positive_atoms,
    relabelling,
)
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, op, rule_on
from graphopt.rewriting.relabels import written

NEEDS_MIDDLE = "the last target can't be written without the value between"

# A chain is followed this far up; what lies above is seen when its lower part has become one node.
LONGEST_CHAIN = 8

Dims = tuple[Dim, ...]


@rule_on(*RELABELLINGS, depth=LONGEST_CHAIN)
def one_relabelling(m: Match) -> ir.Value | Rejection | None:
    """Reshape(Squeeze(x)) -> Reshape(x), or x where nothing is left to do."""
    chain = _chain(m.root)
    sources = [node.inputs[0] for node in chain if node.inputs[0] is not None]
    same = next((v for v in reversed(sources) if m.facts.same_shape(v, m.output)), None)
    if same is not None:
        return same
    shared = next((i for i, v in enumerate(sources[:-1]) if not _may_go(m, v)), len(sources) - 1)
    if len(sources) < 2:
        return None
    if shared == 0:
        return Rejection(HAS_OTHER_CONSUMERS, sources[0])
    return _from(m, sources[shared], chain[: shared + 1])


def _may_go(m: Match, value: ir.Value) -> bool:
    """Whether nobody needs the value of a chain, once those that can are written without it."""
    if value.is_graph_output():
        return False
    users = [use.node for use in value.uses()]
    if len(users) == 1:
        return True
    producer = value.producer()
    source = producer.inputs[0] if producer is not None else None
    before = m.dims(source) if source is not None else None
    if before is None:
        return False
    for user in users:
        after = m.dims(user.outputs[0]) if is_relabelling(user) and user.inputs[0] is value else None
        if after is None or relabelling(before, after, m.opset, _positive(m, [user])) is None:
            return False
    return True


def _chain(node: ir.Node) -> list[ir.Node]:
    """The node and the relabellings right above it, upwards."""
    found: list[ir.Node] = []
    current: ir.Node | None = node
    while current is not None and is_relabelling(current) and len(found) < LONGEST_CHAIN:
        value = current.inputs[0]
        if value is None or current.graph is not node.graph:
            break
        found.append(current)
        current = value.producer()
    return found


def _from(m: Match, source: ir.Value, chain: list[ir.Node]) -> ir.Value | Rejection:
    """The root's value, straight from the source."""
    before, after = m.dims(source), m.dims(m.output)
    if before is not None and after is not None:
        positive = _positive(m, chain)
        found = relabelling(before, after, m.opset, positive)
        if found is not None:
            return written(source, found)
        for node in chain:
            target = _adapted(m, node, before, after, positive)
            if target is not None:
                return op.Reshape(source, target)
    elements = m.facts.elements(m.root.inputs[1]) if _has_target(m.root) else None  # type: ignore[arg-type]
    if elements and all(isinstance(e, int) and (e or "allowzero" in m.root.attributes) for e in elements):
        return op.Reshape(source, m.root.inputs[1], allowzero=m.attribute(m.root, "allowzero") or None)
    return Rejection(NEEDS_MIDDLE, m.output)


def _has_target(node: ir.Node) -> bool:
    return node.op_type == "Reshape" and len(node.inputs) > 1 and node.inputs[1] is not None


def _positive(m: Match, chain: list[ir.Node]) -> frozenset[Atom]:
    """What the targets with -1 in a chain prove."""
    found: frozenset[Atom] = frozenset()
    for node in chain:
        dims = m.dims(node.outputs[0])
        if dims is not None and _has_target(node):
            found |= positive_atoms(m.facts.elements(node.inputs[1]) or (), dims)  # type: ignore[arg-type]
    return found


def _adapted(
    m: Match, node: ir.Node, before: Dims, after: Dims, positive: frozenset[Atom]
) -> ir.Value | None:
    """The computed target of a Reshape in the chain, adapted to give `after`; None where it can't be.

    What is computed stays, as whole inputs of its Concat and in its order; the numbers between are free.
    """
    middle = m.dims(node.outputs[0])
    if not _has_target(node) or "allowzero" in node.attributes or middle is None:
        return None
    target = node.inputs[1]
    assert target is not None, "it has a target"
    if node is m.root:
        return target if _means(before, after, m.facts.elements(target), positive) else None
    concat = target.producer()
    if concat is None or concat.op_type != "Concat":
        return None
    pieces = _pieces(m, concat, middle, after)
    if pieces is None:
        return None
    elements = [
        e
        for piece in pieces
        for e in (m.facts.elements(piece) if isinstance(piece, ir.Value) else piece) or ()
    ]
    if not _means(before, after, elements, positive):
        return None
    made = op.Concat(
        *(p if isinstance(p, ir.Value) else constant(np.array(p, np.int64)) for p in pieces), axis=0
    )
    assert isinstance(made, ir.Value)
    return made


def _pieces(m: Match, concat: ir.Node, middle: Dims, after: Dims) -> list[ir.Value | list[int]] | None:
    """Computed inputs of a Concat, and numbers, that say `after`; None where they don't."""
    pieces: list[ir.Value | list[int]] = []
    place = axis = 0

    def numbers_until(wanted: Dim | None) -> None:
        nonlocal axis
        found: list[int] = []
        while axis < len(after) and isinstance(after[axis], int) and after[axis] != wanted:
            found.append(after[axis])  # type: ignore[arg-type]
            axis += 1
        if found:
            pieces.append(found)

    for value in concat.inputs:
        elements = m.facts.elements(value) if value is not None else None
        if value is None or elements is None:
            return None
        dims = middle[place : place + len(elements)]
        place += len(elements)
        if constants.constant(value) is not None:
            if elements == (-1,) and not isinstance(dims[0], int):
                numbers_until(None)
                if after[axis : axis + 1] != dims:
                    return None
                pieces.append([-1])
                axis += 1
            continue
        numbers_until(None if not isinstance(dims[0], int) else dims[0])
        if after[axis : axis + len(dims)] != dims:
            return None
        pieces.append(value)
        axis += len(dims)
    numbers_until(None)
    return pieces if axis == len(after) and len(pieces) > 1 else None


def _means(before: Dims, after: Dims, elements: Sequence[object] | None, positive: frozenset[Atom]) -> bool:
    """Whether a target with these elements gives `after`."""
    if elements is None or len(elements) != len(after):
        return False
    for axis, (element, dim) in enumerate(zip(elements, after, strict=True)):
        if element == 0:
            if before[axis : axis + 1] != (dim,):
                return False
        elif element == -1:
            if not at_least_one(after, axis, positive):
                return False
        elif element != dim:
            return False
    return True


@dataclass(frozen=True)
class RemoveRepeatedReshapes(Pass):
    """Make one node, or none, of a chain of Reshape, Flatten, Squeeze and Unsqueeze."""

    name = "remove-repeated-reshapes"
    family = "shapes"
    rules = (one_relabelling,)
