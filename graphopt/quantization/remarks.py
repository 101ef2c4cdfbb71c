"""What samples and weights had in them that is not as it should be: one line each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from graphopt.ir.quant_table import OperatorPlan
from graphopt.quantization.calibration import Calibration
from graphopt.quantization.planning import Candidate

__all__ = ["remarks"]


def remarks(
    found: Sequence[Candidate], seen: Calibration, operators: Mapping[str, OperatorPlan]
) -> list[str]:
    """Lines on values that are no numbers, on channels that are all zero, on operators that stay floats."""
    lines = [
        f"{name}: {observer.not_finite} values that are no finite numbers were left out"
        for name, observer in seen.observers.items()
        if observer.not_finite
    ]
    weights = {candidate.weight_name: candidate.weight for candidate in found}
    for name, weight in weights.items():
        array = weight.tensor.numpy()
        others = tuple(axis for axis in range(array.ndim) if axis != weight.channels)
        idle = int((~array.any(axis=others)).sum())
        if idle:
            lines.append(f"{name}: {idle} of {array.shape[weight.channels]} output channels are all zero")
    ends = {"weight_only": "its weight alone is stored in 8 bits", "float": "it is left as it is"}
    lines += [
        f"{name}: {plan.reason}; {ends[plan.mode]}"
        for name, plan in operators.items()
        if plan.reason and plan.mode in ends
    ]
    return lines
