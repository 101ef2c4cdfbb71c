"""Reshape over symbolic dims.

What a target element t at place i means when it is an expression that may be 0 (Reshape-5 to 25):

- With `allowzero` it is the dim.
- Else 0 copies the input's dim d at i, so the dim is "t, but d where t = 0". It is t if t = 0
  implies d = 0: d has every factor of t that may vanish.
- Without such factors: let the volumes of input and target be the same polynomial, and no -1
  stand in the target. Where t = 0 the input is empty, so a legal result has some dim of 0; if no
  other element of the target may be 0, it is this one, and the dim is t again.
- Else t is *assumed* not to be a 0 that copies (`Facts.assumptions` lists these nodes). What the
  assumption leaves out are runs in which a computed size is 0 and the exporter's "0 means copy"
  turns it into something else, say [0, 8, 0, 32] reshaped by a computed [-1, 0, 32] into
  [0, 8, 32]: input and result are empty, and where the result meets a tensor that was not
  reshaped so, the run ends with an error. Written exactly, t + d * max(1 - t, 0), no two
  dims of a transformer would ever be found equal.

A -1 is the input's volume divided by the product of the other dims. A legal Reshape with -1 has a
product of at least 1: the specification leaves 0 out ("cannot be determined uniquely"), numpy and
onnxruntime refuse it. So a quotient may cancel factors that could be 0 elsewhere: where
x*y // y is evaluated, y is at least 1. The quotient itself may be 0.
"""

from __future__ import annotations

from collections.abc import Sequence

from graphopt.ir.dims import Dim, Expr, low, product, quotient
from graphopt.ir.dims.expression import of_atom, terms_of
from graphopt.ir.fact import Element
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
    allowzero = bool(ctx.int_attr("allowzero", 0))
    if not allowzero and assumes_no_copy(source, target):
        ctx.facts.assumptions[ctx.node] = "a computed 0 in the target does not copy a dim"
    dims = reshaped_dims(source, target, allowzero, ctx)
    return [ctx.tensor(ctx.dtype(0), dims, None if fact is None else fact.elements)]


def reshaped_dims(
    source: tuple[Dim, ...] | None,
    target: Sequence[Element],
    allowzero: bool,
    ctx: InferenceContext,
) -> tuple[Dim, ...]:
    """The dims of Reshape's result; what only a run can tell becomes a new symbol."""
    wanted = [as_dim(element) for element in target]
    inferred = [i for i, dim in enumerate(wanted) if type(dim) is int and dim == -1]
    dims: list[Dim | None] = [
        _resolved(source, wanted, i, allowzero, bool(inferred), ctx) if dim is not None else None
        for i, dim in enumerate(wanted)
    ]
    for i in inferred:
        dims[i] = None
    missing = [i for i, dim in enumerate(dims) if dim is None]
    if len(missing) == 1 and source is not None:
        rest = product(tuple([dim for dim in dims if dim is not None]))
        if inferred == missing or (low(rest) or 0) >= 1:
            dims[missing[0]] = quotient(product(source), rest) if rest != 0 else None
    return tuple([ctx.fresh("reshaped") if dim is None else dim for dim in dims])


def _resolved(
    source: tuple[Dim, ...] | None,
    wanted: list[Dim | None],
    i: int,
    allowzero: bool,
    inferring: bool,
    ctx: InferenceContext,
) -> Dim | None:
    """The dim at i, unless it is to be inferred or only a run can tell."""
    dim = wanted[i]
    copied = source[i] if source is not None and i < len(source) else None
    if type(dim) is not Expr:
        return copied if dim == 0 and not allowzero else dim
    # Without a -1 of its own, the target may have one here.
    if not inferring and not ctx.is_nonnegative(dim):
        return None
    return dim


def assumes_no_copy(source: tuple[Dim, ...] | None, target: Sequence[Element]) -> bool:
    """Whether the target has an element that may be 0 and is not proven to stand for itself then."""
    wanted = [as_dim(element) for element in target]
    for i, dim in enumerate(wanted[: len(wanted) if source is None else len(source)]):
        if type(dim) is not Expr or (low(dim) or 0) >= 1:
            continue
        if source is None or not (_vanishes_with(source[i], dim) or _only_zero(source, wanted, i)):
            return True
    return False


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
