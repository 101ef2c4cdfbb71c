"""Facts of Softmax, LogSoftmax and Hardmax: whatever the axis, the shape stays."""

from __future__ import annotations

from graphopt.ir.facts.normalization import flops_an_element
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import like


# maximum, subtraction, exponential, sum, division.
@operator("Softmax", "LogSoftmax", flops=flops_an_element(5))
@operator("Hardmax", flops=flops_an_element(1))
def _keeps_shape(ctx: InferenceContext) -> Results:
    return [like(ctx)]
