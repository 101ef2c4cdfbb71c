"""Facts of losses: NegativeLogLikelihoodLoss, SoftmaxCrossEntropyLoss."""

from __future__ import annotations

from graphopt.ir.facts.normalization import flops_an_element
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, like


def _loss_dims(ctx: InferenceContext) -> Dims | None:
    """A scalar, or under reduction "none" the target's shape: (N, d1, ...) of scores (N, C, d1, ...)."""
    if ctx.attr("reduction", "mean") != "none":
        return ()
    scores, target = ctx.dims(0), ctx.dims(1)
    if scores is not None and len(scores) >= 2:
        return (scores[0], *scores[2:])
    return target


# A target outside the classes fails.
@operator("NegativeLogLikelihoodLoss", can_fail=True, flops=flops_an_element(1))
def _negative_log_likelihood(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), _loss_dims(ctx))]


@operator("SoftmaxCrossEntropyLoss", can_fail=True, flops=flops_an_element(6))
def _softmax_cross_entropy(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), _loss_dims(ctx)), like(ctx)]
