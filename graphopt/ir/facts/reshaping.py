"""Reshape over symbolic dims.

What a target element t at place i means when it is an expression that may be 0 (Reshape-5 to 25):

- With `allowzero` it is the dim.
- Else 0 copies the input's dim d at i, so the dim is "t, but d where t = 0". It is t if t = 0
  implies d = 0: d has every factor of t that may vanish.
- Without such factors: let the volumes of input and target be the same polynomial, and no -1
  stand in the target. Where t = 0 the input is empty, so a legal result has some dim of 0; if no
  other element of the target may be 0, it is this one, and the dim is t again.
- Else (two dims may be 0 at once, or a -1 takes up the slack: [0, 5] reshaped to [0, -1] with
  a computed 0 from another axis) it is written as what it is: t + d * max(1 - t, 0).

A -1 is the input's volume divided by the product of the other dims. A legal Reshape with -1 has a
product of at least 1: the specification leaves 0 out ("can not be determined uniquely"; without
allowzero numpy and onnxruntime both refuse it). So a quotient may cancel factors that
could be 0 elsewhere: where x*y // y is evaluated, y is at least 1. The quotient itself may be 0.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from graphopt.ir.dims import Dim, Expr, low, maximum, product, quotient
from graphopt.ir.dims.expression import of_atom, terms_of
from graphopt.ir.fact import Element, TensorFact
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.partial_values import as_dim

__all__ = ["reshaped_dims"]


@operator("Reshape", movement=True, shape_inputs=(1,), can_fail=True)
def reshape(ctx: InferenceContext) -> Results:
    """The target is an attribute before opset 5."""
    fact = ctx.tensor_input(0)
    source = None if fact is None else fact.dims
    target: Sequence[Element] | None = ctx.ints_attr("shape") if ctx.opset < 5 else ctx.elements(1)
    if target is None:
        length = ctx.dims(1)
        if length is None or len(length) != 1 or type(length[0]) is not int:
            return [ctx.tensor(ctx.dtype(0), None)]
        target = (None,) * length[0]
    dims = reshaped_dims(source, target, bool(ctx.int_attr("allowzero", 0)), ctx.fresh)
    return [ctx.tensor(ctx.dtype(0), dims, None if fact is None else fact.elements)]


def reshaped_dims(
    source: tuple[Dim, ...] | None,
    target: Sequence[Element],
    allowzero: bool,
    fresh: Callable[[str], Dim],
) -> tuple[Dim, ...]:
    """The dims of Reshape's result; what only a run can tell becomes a new symbol."""
    wanted = [as_dim(element) for element in target]
    inferred = [i for i, dim in enumerate(wanted) if type(dim) is int and dim == -1]
    dims: list[Dim | None] = [
        _resolved(source, wanted, i, allowzero, bool(inferred)) if dim is not None else None
        for i, dim in enumerate(wanted)
    ]
    for i in inferred:
        dims[i] = None
    missing = [i for i, dim in enumerate(dims) if dim is None]
    if len(missing) == 1 and source is not None:
        rest = product(tuple([dim for dim in dims if dim is not None]))
        if inferred == missing or (low(rest) or 0) >= 1:
            dims[missing[0]] = quotient(product(source), rest) if rest != 0 else None
    return tuple([fresh("reshaped") if dim is None else dim for dim in dims])


def _resolved(
    source: tuple[Dim, ...] | None, wanted: list[Dim | None], i: int, allowzero: bool, inferring: bool
) -> Dim | None:
    """The dim at i, unless it is to be inferred or only a run can tell."""
    dim = wanted[i]
    copied = source[i] if source is not None and i < len(source) else None
    if type(dim) is not Expr:
        return copied if dim == 0 and not allowzero else dim
    least = low(dim)
    if least is not None and least >= 1:
        return dim
    if (least is None or least < 0) and not inferring:
        return None  # it may be -1 itself
    if allowzero or (source is not None and i >= len(source)):
        return dim  # a 0 with nothing to copy is not legal
    if copied is None:
        return None
    if _vanishes_with(copied, dim) or _only_zero(source or (), wanted, i):
        return dim
    return dim + copied * maximum(1 - dim, 0)


def _vanishes_with(dim: Dim, factors: Expr) -> bool:
    """Whether `dim` is 0 wherever `factors`, a product, is 0."""
    if dim is factors or dim == 0:
        return True
    if len(factors.terms) != 1 or type(dim) is not Expr:
        return False
    return all(
        (low(of_atom(factor)) or 0) >= 1 or all(factor in monomial for monomial, _ in terms_of(dim))
        for factor in factors.terms[0][0]
    )


def _only_zero(source: tuple[Dim, ...], wanted: list[Dim | None], i: int) -> bool:
    """Whether the volumes agree and nothing but element i may be 0."""
    others = [dim for place, dim in enumerate(wanted) if place != i]
    if any(dim is None or (low(dim) or 0) < 1 for dim in others):
        return False
    return product(source) == product(tuple([dim for dim in wanted if dim is not None]))
