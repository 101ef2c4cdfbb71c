"""Facts of our own operators: their shapes come from their functions' bodies, their purity does not."""

from __future__ import annotations

from collections.abc import Callable

import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.ir.facts.convolution import conv_dims, conv_flops_of
from graphopt.ir.facts.linear import matmul_dims, matmul_flops, matmul_flops_of
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.own_operators import ACTIVATIONS, CONVOLUTIONS, DOMAIN, PRODUCTS, fully_connected


@operator(*(fully_connected(a) for a in ("", *ACTIVATIONS)), domain=DOMAIN, flops=matmul_flops)
def _fully_connected(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), matmul_dims(ctx.dims(0), ctx.dims(1)))]


def _product(weight: int) -> tuple[Callable[[InferenceContext], Results], Callable[[InferenceContext], Dim]]:
    """Shape and work of a product with the input of this number."""

    def infer(ctx: InferenceContext) -> Results:
        return [ctx.tensor(ir.DataType.FLOAT, matmul_dims(ctx.dims(0), ctx.dims(weight)))]

    def flops(ctx: InferenceContext) -> Dim:
        return matmul_flops_of(ctx.dims(0), ctx.dims(weight))

    return infer, flops


for _operator in PRODUCTS.values():
    _infer, _flops = _product(_operator.index("w"))
    operator(_operator.name, domain=DOMAIN, flops=_flops)(_infer)


def _convolution(weight: int) -> Callable[[InferenceContext], Results]:
    """Shape of a channels-last convolution with the input of this number."""

    def infer(ctx: InferenceContext) -> Results:
        return [ctx.tensor(ir.DataType.FLOAT, conv_dims(ctx, 0, weight, channels_last=True))]

    return infer


for _name, (_inputs, _) in CONVOLUTIONS.items():
    _at = _inputs.index("w")
    operator(_name, domain=DOMAIN, flops=conv_flops_of(_at, _inputs.index("b")))(_convolution(_at))
