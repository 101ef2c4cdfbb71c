"""Random tensors. A `seed` makes a run repeatable in one runtime, not the same in all: never pure."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import output_dtype

__all__: list[str] = []


@operator("RandomNormal", "RandomUniform", random=True)
def from_attributes(ctx: InferenceContext) -> Results:
    """The shape is an attribute."""
    return [ctx.tensor(output_dtype(ctx, "dtype", ir.DataType.FLOAT), ctx.ints_attr("shape"))]


@operator("RandomNormalLike", "RandomUniformLike", random=True)
@operator("Bernoulli", random=True, elementwise=True)
def from_input(ctx: InferenceContext) -> Results:
    """The shape of input 0, its dtype unless `dtype` says otherwise."""
    return [ctx.tensor(output_dtype(ctx, "dtype", ctx.dtype(0)), ctx.dims(0))]


@operator("Multinomial", random=True)
def multinomial(ctx: InferenceContext) -> Results:
    """`sample_size` draws for each row of input 0."""
    dims = ctx.dims(0)
    rows = dims[0] if dims else ctx.fresh("rows")
    return [ctx.tensor(output_dtype(ctx, "dtype", ir.DataType.INT32), (rows, ctx.int_attr("sample_size", 1)))]
