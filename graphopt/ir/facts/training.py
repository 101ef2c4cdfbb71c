"""Facts of the training operators (domain ai.onnx.preview.training)."""

from __future__ import annotations

from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import like

DOMAIN = "ai.onnx.preview.training"


# Inputs: rate, step, then one group an optimized tensor: the tensor, its gradient, its moments.
# Outputs: the new tensors and the new moments; as many groups.
def _updated(ctx: InferenceContext, group: int) -> Results:
    count = (ctx.count - 2) // group
    kept = [like(ctx, 2 + place) for place in range(count)]
    for moment in range(2, group):
        kept += [like(ctx, 2 + moment * count + place) for place in range(count)]
    return kept


@operator("Adagrad", "Momentum", domain=DOMAIN)
def _one_moment(ctx: InferenceContext) -> Results:
    return _updated(ctx, 3)


@operator("Adam", domain=DOMAIN)
def _two_moments(ctx: InferenceContext) -> Results:
    return _updated(ctx, 4)


# It names values of the graph around it in its attributes, so the graph may not change under it: not pure.
@operator("Gradient", domain=DOMAIN, pure=False)
def _gradient(ctx: InferenceContext) -> Results:
    """One derivative a name in `xs`, shaped like it; which of the inputs are xs stands at their front."""
    names = ctx.attr("xs", None)
    count = len(names) if isinstance(names, tuple) else 0
    return [like(ctx, place) for place in range(count)]
