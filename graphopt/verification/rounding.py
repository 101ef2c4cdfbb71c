"""How far a quantized model's answers move when what it rounds moves by next to nothing.

    before   x -> QuantizeLinear -> ...        after   x -> Mul (1 + 1e-6) -> QuantizeLinear -> ...

Sums that are taken in another order differ by that much, and a number on the edge of a step falls to the
other side. How many do, and how far that carries, depends on the model: it is measured on the original, with
a factor before each of its quantizers. A bias that is lost, or a scale that is wrong by a part of a step,
moves many elements one way; that is more than those few.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import onnx_ir as ir

from graphopt.ir.constants import constant
from graphopt.ir.names import Names
from graphopt.ir.scopes import all_graphs
from graphopt.verification.compare import SMALLEST_SCALE, Answer
from graphopt.verification.judge import Judge, JudgeError
from graphopt.verification.sampling import Sample
from graphopt.verification.stability import ALLOWANCE, RELATIVE_NOISE, TRIES

__all__ = ["QUANTIZERS", "Rounding"]

QUANTIZERS = frozenset({"QuantizeLinear", "DynamicQuantizeLinear"})


class Rounding:
    """The noise of each output of a quantized model, measured when it is first asked for.

    Args:
        load: Loads a model into the judge.
        model: The original; it stays as it is.
        seconds: For all measurements; one is always made.
    """

    def __init__(self, load: Callable[[ir.Model], Judge], model: ir.Model, seconds: float) -> None:
        self._load = load
        self._model = model
        self._seconds = seconds
        self._noise: list[tuple[float, float]] | None = None
        # Quantizers of other types, or with scales that are computed, may round otherwise: nothing is said.
        quantizers = [node for graph in all_graphs(model) for node in graph if _is_quantizer(node)]
        self._is_complete = all(map(_is_float32, quantizers))

    def explains(
        self, samples: Sequence[Sample], output: int, wanted: Answer, got: Answer, scale: float
    ) -> bool:
        """Whether rounding may take an answer as far from the original's, at most and on average."""
        if self._noise is None:
            self._noise = self._measure(samples)
        if not self._is_complete:
            return True
        largest, average = self._noise[output]
        most, mean = _distance(wanted, got, scale)
        return most <= ALLOWANCE * largest and mean <= ALLOWANCE * average

    def _measure(self, samples: Sequence[Sample]) -> list[tuple[float, float]]:
        found = [(0.0, 0.0)] * len(self._model.graph.outputs)
        end = time.perf_counter() + self._seconds
        for seed in range(TRIES):
            if seed and time.perf_counter() > end:
                break
            try:
                judge = self._load(_disturbed(self._model, seed))
            except JudgeError:
                continue
            for sample in samples:
                try:
                    answers = judge.run(sample.feeds)
                except JudgeError:
                    continue
                for i, (wanted, got) in enumerate(zip(sample.outputs, answers, strict=True)):
                    most, mean = _distance(wanted, got, sample.scales[i])
                    found[i] = max(found[i][0], most), max(found[i][1], mean)
        return found


def _distance(wanted: Answer, got: Answer, scale: float) -> tuple[float, float]:
    """The largest difference and the root of the mean square, over the output's scale."""
    if not isinstance(wanted, np.ndarray) or not isinstance(got, np.ndarray) or wanted.shape != got.shape:
        return 0.0, 0.0
    x, y = wanted.astype(np.float64), got.astype(np.float64)
    finite = np.isfinite(x) & np.isfinite(y)
    if not finite.any():
        return 0.0, 0.0
    scale = max(scale, float(np.abs(x[finite]).max()), SMALLEST_SCALE)
    distance = np.abs(x - y, where=finite, out=np.zeros_like(x)) / scale
    return float(distance.max()), float(np.sqrt(np.mean(distance**2)))


def _disturbed(model: ir.Model, seed: int) -> ir.Model:
    """The model with a factor of nearly one before each quantizer of a float32 value."""
    rng = np.random.default_rng(seed)
    copy = model.clone()
    names = Names(copy)
    for graph in all_graphs(copy):
        for node in list(graph):
            if _is_quantizer(node) and _is_float32(node):
                sign = -1 if rng.random() < 0.5 else 1
                factor = ir.node("Constant", [], {"value_float": 1.0 + sign * RELATIVE_NOISE})
                moved = ir.node("Mul", [node.inputs[0], factor.outputs[0]])
                for made in (factor, moved):
                    made.outputs[0].name = names.unique(f"{node.outputs[0].name}_moved")
                graph.insert_before(node, [factor, moved])
                node.replace_input_with(0, moved.outputs[0])
    return copy


def _is_quantizer(node: ir.Node) -> bool:
    return node.op_type in QUANTIZERS and node.domain == ""


def _is_float32(node: ir.Node) -> bool:
    """Whether what is quantized is float32, as the type of the scale says."""
    if node.op_type == "DynamicQuantizeLinear":
        return True
    scale = node.inputs[1]
    tensor = constant(scale) if scale is not None else None
    return tensor is not None and tensor.dtype is ir.DataType.FLOAT
