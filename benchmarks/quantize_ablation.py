"""What each algorithm of quantization gains, alone and among the others, on samples that none has seen.

    make bench-quantize ARGS="--ablation"                       the recogniser
    make bench-quantize MODELS=folder ARGS="--ablation --no-recogniser --names vit"

Each part of the table begins with what the lines below it are compared with. Signal to noise is of what the
model decides by, on the float model's path, the mean over samples; beside it the mean difference of a number.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.quantization.compensating import Compensated, Compensating, corrected, rescaled
from graphopt.quantization.first_table import FirstTable, Observing, Seen, see
from graphopt.quantization.judging import Judge, decibels, parted
from graphopt.quantization.noise import total
from graphopt.quantization.refinement import Method, block_plans, refine
from graphopt.quantization.refining import refined
from graphopt.quantization.weights_alone import weights_alone
from graphopt.quantizer import OPSET, prepare
from graphopt.rewriting import pipeline as pipelines

Feeds = Mapping[str, NDArray[Any]]
Row = tuple[str, ir.Model, QuantTable]

RANGES: tuple[Observing, ...] = ("minmax", "percentile", "kl", "mse", "auto")
METHODS: tuple[Method, ...] = ("none", "moments", "easyquant", "admm", "gptq", "auto", "adaround")
OF_BLOCKS: tuple[Method, ...] = ("none", "gptq", "adaround")
NEAREST = {"none": "nearest codes"}
RESCALING = {
    "equalization": Compensating(smooth=False),
    "smoothing": Compensating(equalize=False),
    "equalization, then smoothing": Compensating(),
}
_IDENTITY = ModelIdentity("0" * 64, OPSET)


def rows(model: Path, samples: Sequence[Feeds], unseen: Sequence[Feeds], only: Sequence[str] = ()) -> None:
    """Calibrate on samples, measure on others, print a line for each algorithm.

    Args:
        model: An .onnx file.
        samples: To calibrate on.
        unseen: To measure on.
        only: Beginnings of the titles of parts to print; all where there are none.
    """
    prepared, _ = prepare(model, str(pipelines.default(2, "onnx")), OPSET)
    ablation = _Ablation(prepared, samples)
    judge = Judge(prepared, unseen)
    print(f"\n{model.stem}: {len(samples)} samples to calibrate on, {len(unseen)} others to measure on")
    for title, part in ablation.parts():
        if only and not any(title.startswith(word) for word in only):
            continue
        print(f"{title:34} {'dB':>7} {'gain':>7} {'mean difference':>16} {'less':>7}")
        first: tuple[float, float] | None = None
        for name, float_model, table in part:
            noises = judge.noises(float_model, table)
            found = float(decibels(noises).mean()), total(noises).mean_distance or 0.0
            print(_line(name, found, first), flush=True)
            first = first or found


def _line(name: str, found: tuple[float, float], first: tuple[float, float] | None) -> str:
    start = f"  {name:32} {found[0]:7.2f}"
    if first is None:
        return f"{start} {'':7} {found[1]:16.6f}"
    return f"{start} {found[0] - first[0]:+7.2f} {found[1]:16.6f} {1 - found[1] / max(first[1], 1e-30):7.1%}"


class _Ablation:
    """One model: tables that differ in one algorithm each."""

    def __init__(self, model: ir.Model, samples: Sequence[Feeds]) -> None:
        self.model = model
        self.samples = list(samples)
        self.fit, held = parted(self.samples)
        self.judge = Judge(model, held)
        self.seen: Seen = see(model, self.samples)

    def parts(self) -> Iterator[tuple[str, Iterator[Row]]]:
        """Titles, and tables to measure; the first of each part is what the others are compared with."""
        yield "ranges, nearest codes", self._ranges()
        yield "weights alone, 8 bits", self._weights()
        yield "weights alone, blocks of 4 bits", self._blocks()
        yield "8 bits, nearest codes", self._channels(self._first())
        yield "the same with one scale a weight", self._channels(self._first(per_tensor=True))
        yield "everything, and without one", self._without()

    def _first(self, *, per_tensor: bool = False) -> FirstTable:
        return self.seen.first_table(_IDENTITY, per_tensor=per_tensor)

    def _ranges(self) -> Iterator[Row]:
        for observer in RANGES:
            yield observer, self.model, self.seen.first_table(_IDENTITY, observer).table

    def _weights(self) -> Iterator[Row]:
        first = self._first()
        for method in METHODS:
            found = refine(self.model, first.table, first.statistics, method).table
            yield NEAREST.get(method, method), self.model, weights_alone(self.model, found)
        before = Compensated(self.model, first)
        found = weights_alone(self.model, first.table)
        yield "biases", self.model, corrected(before, found, self.fit, self.judge).table

    def _blocks(self) -> Iterator[Row]:
        first = self._first()
        for method in OF_BLOCKS:
            blocks, _ = block_plans(self.model, first.statistics, method)
            found = weights_alone(self.model, first.table, blocks)
            yield NEAREST.get(method, method), self.model, found

    def _channels(self, first: FirstTable) -> Iterator[Row]:
        yield "nothing", self.model, first.table
        for name, chosen in RESCALING.items():
            found = self._rescaled(first, chosen)
            yield name, found.model, found.first.table
        biases = corrected(Compensated(self.model, first), first.table, self.fit, self.judge)
        yield "biases", self.model, biases.table

    def _rescaled(self, first: FirstTable, chosen: Compensating) -> Compensated:
        return rescaled(self.model, first, self.samples, "auto", chosen, self.judge)

    def _without(self) -> Iterator[Row]:
        """Everything as the command does it with all operators in 8 bits; then less one algorithm each."""
        plain = Compensated(self.model, self._first())
        before = self._rescaled(plain.first, Compensating())
        better = self._refined(before)
        yield "everything", before.model, self._corrected(before, better)
        yield "without biases", before.model, better
        yield "without refinement", before.model, self._corrected(before, before.first.table)
        yield "without rescaling", self.model, self._corrected(plain, self._refined(plain))
        extremes = see(before.model, self.samples).first_table(_IDENTITY, "minmax").table
        weights = {name: plan for name, plan in better.tensors.items() if plan.role == "weight"}
        ranges = replace(better, tensors={**extremes.tensors, **weights})
        yield "without ranges (minmax)", before.model, self._corrected(before, ranges)
        yield "without any", self.model, self.seen.first_table(_IDENTITY, "minmax").table

    def _refined(self, before: Compensated) -> QuantTable:
        first = before.first
        return refined(before.model, first.table, first.statistics, self.judge).table

    def _corrected(self, before: Compensated, table: QuantTable) -> QuantTable:
        return corrected(before, table, self.fit, self.judge).table
