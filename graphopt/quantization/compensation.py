"""Compensation before anything is quantized: channels are rescaled where that makes quantizing lose less.

At each seam (see `rescaling`) cross-layer equalization, SmoothQuant with several strengths and, where weights
have one scale each, the adjustment of weights are tried. What loses least on the rows to choose by is kept if
it loses less on held-out rows, too, than what there was before; else it is undone. Both are in the notes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.quant_table import Scaling
from graphopt.quantization.equalization import adjusting, equalize, side_ranges
from graphopt.quantization.layer_error import LayerErrors
from graphopt.quantization.observers import Method
from graphopt.quantization.planning import Candidate
from graphopt.quantization.products import product_of
from graphopt.quantization.rescaling import Layer, Seam, seams
from graphopt.quantization.scalings import scalings_of
from graphopt.quantization.smoothing import ALPHAS, smoothing
from graphopt.quantization.statistics import Statistics
from graphopt.reporting.compensation import CompensationStep

__all__ = ["Compensation", "compensate"]

Floats = npt.NDArray[np.float64]
Shared = dict[tuple[int, bool, bytes], npt.NDArray[np.float32]]
Choice = tuple[str, float | None, Floats]

# What is gained must be more than what rounding differently may give.
NOTICEABLE = 0.999


@dataclass(frozen=True, slots=True)
class Compensation:
    """What to multiply constants by.

    Attributes:
        scalings: By scoped name.
        notes: What was tried, in order.
    """

    scalings: Mapping[str, tuple[Scaling, ...]]
    notes: tuple[CompensationStep, ...]


def compensate(
    model: ir.Model,
    found: Sequence[Candidate],
    statistics: Statistics,
    observer: Method = "mse",
    *,
    with_equalization: bool = True,
    with_smoothing: bool = True,
    per_tensor: bool = False,
) -> Compensation:
    """Choose scalings for a model.

    Args:
        model: The float model.
        found: Its operators that may be quantized.
        statistics: Of their inputs.
        observer: How ranges will be chosen.
        with_equalization: Whether cross-layer equalization is tried, and the adjustment of weights.
        with_smoothing: Whether SmoothQuant is.
        per_tensor: Whether weights get one scale each, not one for each output.
    """
    layers = _layers(found, statistics, observer, per_tensor=per_tensor)
    search = _Search(
        [seam for seam in seams(model) if _is_open(seam, layers, per_tensor)], layers, per_tensor
    )
    if with_equalization:
        search.try_all(search.equalized())
    if with_smoothing:
        search.try_all(search.smoothed())
    if with_equalization and per_tensor:
        search.try_all(search.adjusted())
    return Compensation(scalings_of(search.seams, search.numbers), tuple(search.notes))


def _layers(
    found: Sequence[Candidate], statistics: Statistics, observer: Method, *, per_tensor: bool
) -> dict[str, LayerErrors]:
    taken = {candidate.input for candidate in found}
    layers: dict[str, LayerErrors] = {}
    for candidate in found:
        weight = candidate.weight
        seen, product = statistics.of(candidate.name), product_of(weight)
        array = weight.tensor.numpy()
        if seen is None or product is None or not np.isfinite(array).all():
            continue
        if not len(seen.fit) or not len(seen.held_out):
            continue  # Nothing to choose by, or nothing to judge by.
        # What the next operator takes is counted there.
        gives = candidate.output is not None and candidate.output not in taken
        node = weight.node
        layers[candidate.name] = LayerErrors(
            product,
            array,
            weight.channels,
            seen,
            observer,
            per_tensor,
            constants.array(node.inputs[2]) if len(node.inputs) > 2 else None,
            gives and (candidate.output or "").endswith(node.outputs[0].name or ""),
        )
    return layers


def _is_open(seam: Seam, layers: Mapping[str, LayerErrors], per_tensor: bool) -> bool:
    """Whether rescaling can change what quantizing loses: a scale for each output takes up the rest."""
    concerned = (*seam.takers, *(seam.givers if per_tensor else ()))
    return any(layer.name in layers for layer in concerned)


class _Search:
    """The numbers chosen so far."""

    def __init__(self, found: Sequence[Seam], layers: Mapping[str, LayerErrors], per_tensor: bool) -> None:
        self.seams = list(found)
        self.layers = layers
        self.per_tensor = per_tensor
        self.numbers = [np.ones(seam.size) for seam in found]
        self.notes: list[CompensationStep] = []
        self.weights = {
            layer.weight_name: layers[layer.name].weight
            for seam in found
            for layer in (*seam.takers, *seam.givers)
            if layer.name in layers
        }
        # Which seams an operator's input follows, and a weight.
        self.inputs: dict[str, list[tuple[int, Layer]]] = {}
        self.parts: dict[str, list[tuple[int, int, bool]]] = {}
        for i, seam in enumerate(found):
            for layer in seam.takers:
                self.inputs.setdefault(layer.name, []).append((i, layer))
            for j, part in enumerate(seam.constants):
                if part.name in self.weights:
                    self.parts.setdefault(part.name, []).append((i, j, part.is_given))

    # ------------------------------------------------------------------ what is tried

    def equalized(self) -> list[list[Choice]]:
        numbers = equalize(self.seams, self.weights, [self._input_ranges(seam) for seam in self.seams])
        return [[("equalize", None, chosen)] for chosen in numbers]

    def smoothed(self) -> list[list[Choice]]:
        choices: list[list[Choice]] = []
        for seam in self.seams:
            inputs = self._input_ranges(seam)
            weights = side_ranges(seam, self.weights, made=False)
            choices.append(
                []
                if inputs is None or weights is None
                else [("smooth", alpha, smoothing(inputs, weights, alpha)) for alpha in ALPHAS]
            )
        return choices

    def adjusted(self) -> list[list[Choice]]:
        choices: list[list[Choice]] = []
        for seam in self.seams:
            made = side_ranges(seam, self.weights, made=True)
            choices.append([] if made is None else [("adjust", None, adjusting(made))])
        return choices

    def _input_ranges(self, seam: Seam) -> Floats | None:
        """The largest size that the operators' inputs had in each channel, where it was seen."""
        found = np.zeros(seam.size)
        is_seen = False
        for layer in seam.takers:
            if layer.name in self.layers and layer.input is not None:
                here = layer.input.power != 0
                largest = self.layers[layer.name].statistics.largest.astype(np.float64)
                np.maximum.at(found, layer.input.index[here], largest[here])
                is_seen = True
        return found if is_seen else None

    # ------------------------------------------------------------------ what it does

    def try_all(self, choices: Sequence[Sequence[Choice]]) -> None:
        """Try one step at every seam, on top of what was kept."""
        for i, seam in enumerate(self.seams):
            if not choices[i]:
                continue
            before = self.numbers[i]
            fit = [self._error(i, numbers, held_out=False) for _, _, numbers in choices[i]]
            step, strength, chosen = choices[i][int(np.argmin(fit))]
            first = self._error(i, before, held_out=True)
            second = self._error(i, chosen, held_out=True)
            kept = second < first * NOTICEABLE
            if kept:
                self.numbers[i] = chosen
            name = (seam.takers or seam.givers)[0].name
            self.notes.append(CompensationStep(name, step, strength, first, second, kept))

    def _error(self, i: int, numbers: Floats, *, held_out: bool) -> float:
        """What quantizing the operators at a seam loses if its channels are divided by these numbers."""
        seam, shared = self.seams[i], Shared()
        before, self.numbers[i] = self.numbers[i], numbers
        try:
            total = 0.0
            importance = np.zeros(seam.size)
            for layer in seam.takers:
                if layer.name not in self.layers:
                    continue
                errors = self.layers[layer.name]
                signal = max(errors.signal(held_out=held_out), np.finfo(np.float64).tiny)
                found = self._differences(layer, held_out, shared)
                total += float((found**2).mean(1).sum()) / signal
                importance += self._row_sizes(layer, seam) / signal
            for layer in seam.givers:
                if layer.name in self.layers:
                    total += self._made_error(layer, i, importance, held_out, shared)
            return total
        finally:
            self.numbers[i] = before

    def _differences(self, layer: Layer, held_out: bool, shared: Shared) -> Floats:
        errors = self.layers[layer.name]
        inputs = np.ones(errors.product.channels)
        for i, taker in self.inputs.get(layer.name, ()):
            assert taker.input is not None
            inputs = inputs * taker.input.factors(self.numbers[i])
        along, outputs = self._factors(layer)
        return errors.differences(inputs, along, outputs, held_out=held_out, shared=shared)

    def _factors(self, layer: Layer) -> tuple[dict[int, Floats], Floats]:
        """What a weight is multiplied by along its axes, and its outputs thereby."""
        errors = self.layers[layer.name]
        outputs = np.ones(errors.weight.shape[errors.channels])
        along: dict[int, Floats] = {}
        for i, j, is_given in self.parts.get(layer.weight_name, ()):
            part = self.seams[i].constants[j]
            factors = part.factors(self.numbers[i])
            along[part.axis] = along.get(part.axis, 1.0) * factors
            if is_given:
                outputs = outputs * factors
        return along, outputs

    def _row_sizes(self, layer: Layer, seam: Seam) -> Floats:
        """Sum of squares of what a weight multiplies each channel with."""
        found = np.zeros(seam.size)
        for part in seam.constants:
            if part.name == layer.weight_name and not part.is_given:
                array = np.asarray(self.weights[part.name], np.float64) ** 2
                others = tuple(axis for axis in range(array.ndim) if axis != part.axis)
                here = part.power != 0
                np.add.at(found, part.index[here], array.sum(others)[here])
        return found

    def _made_error(self, layer: Layer, i: int, importance: Floats, held_out: bool, shared: Shared) -> float:
        """What the operators behind get of the error of one that makes the channels."""
        errors, seam = self.layers[layer.name], self.seams[i]
        found = np.zeros(errors.weight.shape[errors.channels])
        if self.per_tensor:
            found += errors.of_channels((self._differences(layer, held_out, shared) ** 2).mean(1))
        if errors.gives_codes:
            found += errors.rounded_outputs(self._factors(layer)[1], held_out=held_out)
        if not importance.any():
            return float(found.sum()) / max(errors.signal(held_out=held_out), np.finfo(np.float64).tiny)
        total = 0.0
        for part in seam.constants:
            if part.name == layer.weight_name and part.is_given:
                here = part.power != 0
                total += float((found[here] * importance[part.index[here]]).sum())
        return total
