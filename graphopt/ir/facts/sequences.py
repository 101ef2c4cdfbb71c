"""Sequences and optionals."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from graphopt.ir.dims import Dim, exact_quotient, floordiv, low
from graphopt.ir.fact import UNKNOWN, Fact, OptionalFact, SequenceFact, TensorFact
from graphopt.ir.facts.axes import normalized
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import scalar
from graphopt.ir.joins import VARYING, element_fact, join_elements_of_sequence, nothing

__all__: list[str] = []

INT64 = ir.DataType.INT64


def element_of(fact: Fact | None) -> Fact:
    """What is known of every element of a sequence."""
    return fact.element if isinstance(fact, SequenceFact) else UNKNOWN


@operator("SequenceEmpty")
def sequence_empty(ctx: InferenceContext) -> Results:
    """No element yet; what will be known of the elements comes with them."""
    code = ctx.int_attr("dtype", ir.DataType.FLOAT.value)
    return [SequenceFact(nothing(ir.DataType(code)))]


@operator("SequenceConstruct")
def sequence_construct(ctx: InferenceContext) -> Results:
    """What holds for all elements given."""
    element: Fact = nothing(None)
    for i in range(ctx.count):
        element = join_elements_of_sequence(element, ctx.input(i) or UNKNOWN)
    return [SequenceFact(element)]


@operator("SequenceInsert", shape_inputs=(2,), can_fail=True)
def sequence_insert(ctx: InferenceContext) -> Results:
    """What holds for the old elements and the new one."""
    return [SequenceFact(join_elements_of_sequence(element_of(ctx.input(0)), ctx.input(1) or UNKNOWN))]


@operator("SequenceErase", shape_inputs=(1,), can_fail=True)
def sequence_erase(ctx: InferenceContext) -> Results:
    """What held for all holds for the rest."""
    return [ctx.input(0)]


@operator("SequenceAt", shape_inputs=(1,), can_fail=True)
def sequence_at(ctx: InferenceContext) -> Results:
    """One element."""
    return [element_fact(element_of(ctx.input(0)), ctx.fresh)]


@operator("SequenceLength")
def sequence_length(ctx: InferenceContext) -> Results:
    """A scalar."""
    return [ctx.tensor(INT64, ())]


@operator("SplitToSequence", shape_inputs=(1,), can_fail=True)
def split_to_sequence(ctx: InferenceContext) -> Results:
    """Parts of size 1 without `split` (and without that axis, unless `keepdims`), else of the sizes given."""
    dims = ctx.dims(0)
    if dims is None:
        return [SequenceFact(ctx.tensor(ctx.dtype(0), None))]
    axis = normalized((ctx.int_attr("axis", 0),), len(dims))[0]
    before, after = dims[:axis], dims[axis + 1 :]
    if not ctx.has(1):
        middle: tuple[Dim, ...] = (1,) if ctx.int_attr("keepdims", 1) else ()
        return [SequenceFact(TensorFact(ctx.dtype(0), before + middle + after, None))]
    return [SequenceFact(TensorFact(ctx.dtype(0), (*before, _part(ctx, dims[axis]), *after), None))]


def _part(ctx: InferenceContext, dim: Dim) -> Dim:
    """The size of every part, if it is one."""
    sizes = ctx.elements(1)
    if sizes and ctx.dims(1) != () and all(size is not None and size == sizes[0] for size in sizes):
        return sizes[0]  # type: ignore[return-value]
    size = scalar(ctx, 1) if ctx.dims(1) == () else None
    # A scalar cuts equal parts; the last is smaller unless it divides.
    if size is not None and (low(size) or 0) >= 1 and exact_quotient(dim, size) is not None:
        return size
    if type(size) is int and type(dim) is int and size >= 1 and floordiv(dim, size) == 0:
        return dim
    return VARYING


@operator("ConcatFromSequence", can_fail=True)
def concat_from_sequence(ctx: InferenceContext) -> Results:
    """Along `axis`, or stacked along a new one."""
    element = element_of(ctx.input(0))
    if not isinstance(element, TensorFact):
        return [None]
    if element.dims is None:
        return [TensorFact(element.dtype, None, None)]
    stacked = bool(ctx.int_attr("new_axis", 0))
    rank = len(element.dims) + stacked
    axis = normalized((ctx.int_attr("axis", 0),), rank)[0]
    dims = [ctx.fresh("element") if dim is VARYING else dim for dim in element.dims]
    if stacked:
        dims.insert(axis, 0)
    dims[axis] = ctx.fresh("concatenated")
    return [TensorFact(element.dtype, tuple(dims), None)]


@operator("SequenceMap")
def sequence_map(ctx: InferenceContext) -> Results:
    """A sequence an output of the body, which sees one element of each sequence, and whole tensors."""
    body = ctx.attr("body", None)
    if not isinstance(body, ir.Graph):
        return []
    facts = ctx.facts
    facts.forget_body(body)
    start = facts.births
    for i, value in enumerate(body.inputs):
        given = ctx.input(i) or UNKNOWN
        facts.assume(
            value, element_fact(given.element, ctx.fresh) if isinstance(given, SequenceFact) else given
        )
    inner = facts.born_since(start)
    return [SequenceFact(_of_all(facts.of(output), inner)) for output in body.outputs]


def _of_all(fact: Fact, inner: Callable[[Dim], bool]) -> Fact:
    """What holds for all elements, of the fact of one: dims of this one alone vary."""
    if not isinstance(fact, TensorFact) or fact.dims is None:
        return fact
    return TensorFact(fact.dtype, tuple([VARYING if inner(dim) else dim for dim in fact.dims]), None)


@operator("Optional")
def optional(ctx: InferenceContext) -> Results:
    """With a content, or empty of a type that need not concern us: no tensor comes out of it."""
    return [OptionalFact(ctx.input(0) or UNKNOWN)]


@operator("OptionalGetElement", can_fail=True)
def optional_get_element(ctx: InferenceContext) -> Results:
    """The content; from opset 18 on also of what is no optional, which is itself."""
    fact = ctx.input(0)
    return [fact.element if isinstance(fact, OptionalFact) else fact]


@operator("OptionalHasElement")
def optional_has_element(ctx: InferenceContext) -> Results:
    """A scalar bool."""
    return [ctx.tensor(ir.DataType.BOOL, ())]
