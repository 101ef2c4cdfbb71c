"""Facts of our own operators: their shapes come from their functions' bodies, their purity does not."""

from __future__ import annotations

from graphopt.ir.facts.linear import matmul_dims, matmul_flops
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.own_operators import ACTIVATIONS, DOMAIN, fully_connected


@operator(*(fully_connected(a) for a in ("", *ACTIVATIONS)), domain=DOMAIN, flops=matmul_flops)
def _fully_connected(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), matmul_dims(ctx.dims(0), ctx.dims(1)))]
