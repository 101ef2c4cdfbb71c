"""The range of each activation, chosen by what rounding it does to the outputs of the operators that take it.

Every way to choose a range (`observers`) proposes one. On rows of the input that calibration kept, each is
judged by the squared error of the products that take them, as shares of the outputs' power; the best is taken
if on held-out rows, too, it is no worse than the least squared error of the input itself. What no product
takes has that. Where all that was seen may be kept for little more, it is: what is to come reaches farther
than the samples did.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quantizing import Grid, asymmetric, dequantized, quantized
from graphopt.quantization.easyquant import choose_input
from graphopt.quantization.observers import METHODS, Method, Observer
from graphopt.quantization.planning import Candidate
from graphopt.quantization.products import product_of
from graphopt.quantization.statistics import InputStatistics, Statistics

__all__ = ["choose_ranges"]

Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Range = tuple[float, float]

DEFAULT: Method = "mse"
# What cutting nothing that was seen may cost on these rows, as a share of the least loss.
WIDENING = 0.1
# Groups of a convolution that are looked at.
_GROUPS = 64


def choose_ranges(
    found: Sequence[Candidate],
    observers: Mapping[str, Observer],
    statistics: Statistics,
    methods: Sequence[Method] = METHODS,
) -> dict[str, Range]:
    """Ranges of the inputs of operators with weights, by scoped name.

    Args:
        found: The operators.
        observers: Of their inputs.
        statistics: Of the same.
        methods: Ways to choose a range.
    """
    takers: dict[str, list[Candidate]] = {}
    for candidate in found:
        if candidate.input is not None and statistics.of(candidate.name) is not None:
            takers.setdefault(candidate.input, []).append(candidate)
    chosen: dict[str, Range] = {}
    for name, users in takers.items():
        observer = observers[name]
        if not observer.is_observed:
            continue
        proposed = list(dict.fromkeys([observer.range(DEFAULT), *(observer.range(m) for m in methods)]))
        fit = _losses(proposed, users, statistics, held_out=False)
        best = int(np.argmin(fit))
        if best:
            held = _losses([proposed[0], proposed[best]], users, statistics, held_out=True)
            best = best if held[1] <= held[0] else 0
        whole = (observer.low, observer.high)
        if whole in proposed and fit[proposed.index(whole)] <= fit[best] * (1 + WIDENING):
            best = proposed.index(whole)
        chosen[name] = proposed[best]
    return chosen


def _losses(
    proposed: Sequence[Range], users: Sequence[Candidate], statistics: Statistics, *, held_out: bool
) -> Wide:
    """The loss of each range, summed over all that take the input."""
    ways = [partial(_rounded, ends=ends) for ends in proposed]
    by_input: dict[int, tuple[InputStatistics, list[Wide]]] = {}
    for user in users:
        seen, product = statistics.of(user.name), product_of(user.weight)
        if seen is not None and product is not None:
            matrix = product.matrix(user.weight.tensor.numpy())[:_GROUPS].astype(np.float64)
            by_input.setdefault(id(seen), (seen, []))[1].append(matrix)
    total = np.zeros(len(proposed))
    for seen, matrices in by_input.values():
        rows = (seen.held_out if held_out else seen.fit).astype(np.float64)
        for group in range(matrices[0].shape[0]):
            pairs = [(matrix[group], matrix[group]) for matrix in matrices]
            total += np.asarray(choose_input(rows[:, group], ways, pairs)) / matrices[0].shape[0]
    return total


def _rounded(numbers: Wide, ends: Range) -> Wide:
    scale, zero = asymmetric(*ends, ir.DataType.UINT8)
    grid = Grid(ir.DataType.UINT8, np.asarray(scale, np.float32), np.asarray(zero, np.uint8))
    return dequantized(quantized(numbers, grid), grid).astype(np.float64)
