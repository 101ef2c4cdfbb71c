"""Element-wise operators (thin)."""

from __future__ import annotations

from graphopt.ir.dims import Dim, broadcast
from graphopt.ir.facts.registry import InferenceContext, Results, operator

__all__: list[str] = []


def broadcast_dims(shapes: list[tuple[Dim, ...] | None]) -> tuple[Dim, ...] | None:
    """The shape that numpy's broadcasting gives; None where a rank is unknown."""
    rank = 0
    for dims in shapes:
        if dims is None:
            return None
        rank = max(rank, len(dims))
    result: list[Dim] = [1] * rank
    for dims in shapes:
        for i, dim in enumerate(dims or (), rank - len(dims or ())):
            result[i] = broadcast(result[i], dim)
    return tuple(result)


@operator("Relu", "Identity", elementwise=True)
def same(ctx: InferenceContext) -> Results:
    return [ctx.input(0)]


@operator("Add", "Mul", elementwise=True, commutative=True)
def binary(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), broadcast_dims([ctx.dims(0), ctx.dims(1)]))]
