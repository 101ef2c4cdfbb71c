"""Trials: a truly quantized model beside the float one, on a shard of the samples.

A trial is a pure function of what a `Bench` holds: any process that has a copy gives the same sums, and those
of shards add up to the same total wherever they were made.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import ModelError
from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.quantization.applying import with_table
from graphopt.quantization.choices import Choice, chosen
from graphopt.quantization.finishing import as_stored
from graphopt.quantization.groups import Group, groups_of, weighted_operators
from graphopt.quantization.loss import agreeing
from graphopt.quantization.memory import give_back
from graphopt.quantization.noise import Noise, noise_between, total
from graphopt.quantization.replay import Decision, Probe, Replay, Run, decisions_of, probes_of, ranks_of
from graphopt.quantization.runtime_rounding import with_runtime_rounding

__all__ = ["SHARD", "Bench", "Choices", "Outcome", "Trial", "merged", "perform", "prepare_bench", "trials_of"]

Array = npt.NDArray[np.generic]
Feeds = Mapping[str, Array]
Choices = tuple[tuple[str, Choice], ...]

# Samples of one shard: what a worker does between two messages.
SHARD = 8


@dataclass(frozen=True, slots=True)
class Trial:
    """What to measure.

    Attributes:
        choices: Of each group by name.
        shard: On which part of the samples.
        is_free: Whether the quantized model decides for itself, too, and its answers are compared.
    """

    choices: Choices
    shard: int
    is_free: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a trial measured.

    Attributes:
        noise: On the float model's path.
        answers: Answers compared: of each sample one, or one for each row where the largest number is one.
        alike: How many of them were the same.
        distance: Edit distance of answers that are sequences, over all of them.
        length: Of the float model's answers.
    """

    noise: Noise = field(default_factory=Noise)
    answers: int = 0
    alike: int = 0
    distance: int = 0
    length: int = 0

    @property
    def agreement(self) -> float | None:
        """Share of answers that are the same; None: nothing is decided, or it was not asked for."""
        return self.alike / self.answers if self.answers else None


def merged(parts: Mapping[int, Outcome]) -> Outcome:
    """The sum over shards, by their numbers."""
    ordered = [parts[i] for i in sorted(parts)]
    return Outcome(
        total([part.noise for part in ordered]),
        sum(part.answers for part in ordered),
        sum(part.alike for part in ordered),
        sum(part.distance for part in ordered),
        sum(part.length for part in ordered),
    )


class Bench:
    """A float model, its path on some samples, and everything that variants are made of.

    Attributes:
        model: The float model.
        table: Everything quantized that may be.
        groups: Its groups.
        blocks: Plans of weights with 4 bits, where the nearest codes are not the best.
        samples: Inputs.
        runs: What the float model made of them.
        decisions: What it decided.
        probes: What is compared.
        target: Who will run the result: what its runtime rounds besides is measured, too.
    """

    def __init__(
        self,
        model: ir.Model,
        table: QuantTable,
        groups: Sequence[Group],
        blocks: Mapping[str, TensorPlan],
        samples: Sequence[Feeds],
        runs: Sequence[Run],
        decisions: Sequence[Decision],
        probes: Sequence[Probe],
        target: str = "onnx",
    ) -> None:
        self.model = model
        self.table = table
        self.groups = list(groups)
        self.blocks = blocks
        self.samples = list(samples)
        self.runs = list(runs)
        self.decisions = list(decisions)
        self.probes = list(probes)
        self.target = target
        self._made: dict[tuple[Choices, bool], Replay] = {}

    @property
    def shards(self) -> range:
        """Numbers of the parts of the samples."""
        return range(-(-len(self.samples) // SHARD))

    @cached_property
    def weights(self) -> dict[str, Array]:
        """Numbers of all weights by scoped name."""
        operators = weighted_operators(self.model)
        found: dict[str, Array] = {}
        for group in self.groups:
            for name, member in group.weights.items():
                found[name] = operators[member.name].tensor.numpy()
        return found

    def table_of(
        self,
        choices: Mapping[str, Choice],
        reasons: Mapping[str, str] | None = None,
        sensitivity: Mapping[str, float] | None = None,
    ) -> QuantTable:
        """The table with groups as chosen, as the target stores it."""
        found = chosen(
            self.table,
            self.groups,
            choices,
            self.weights,
            self.blocks,
            reasons=reasons,
            sensitivity=sensitivity,
        )
        return as_stored(found, self.target)

    def only(self, group: Group, choice: Choice) -> Choices:
        """One group quantized, all others floats."""
        return tuple((g.name, choice if g is group else "float") for g in self.groups)

    def variant(self, choices: Choices, *, is_free: bool) -> Replay:
        """A quantized model; the last one is kept, shards come one after the other."""
        key = (choices, is_free)
        if key not in self._made:
            if any(kept != choices for kept, _ in self._made):
                self.forget()
            model = with_runtime_rounding(with_table(self.model, self.table_of(dict(choices))), self.target)
            recorded = None if is_free else ranks_of(self.runs)
            self._made[key] = Replay(model, [] if is_free else self.decisions, self.probes, recorded)
        return self._made[key]

    def forget(self) -> None:
        """Drop the quantized model that was kept."""
        self._made = {}
        give_back()

    def __getstate__(self) -> dict[str, object]:
        """For another process: the model as bytes."""
        state = {k: v for k, v in self.__dict__.items() if k not in ("model", "_made", "weights")}
        try:
            state["model"] = ir.to_proto(self.model).SerializeToString()
        except ValueError as error:
            raise ModelError(
                "a model of 2 GB or more can't be sent to workers", hint="measure with --workers 1"
            ) from error
        return state

    def __setstate__(self, state: dict[str, object]) -> None:
        import onnx

        content = state.pop("model")
        assert isinstance(content, bytes)
        self.__dict__.update(state)
        self.model = ir.from_proto(onnx.load_from_string(content))
        self._made = {}


def prepare_bench(
    model: ir.Model,
    table: QuantTable,
    samples: Iterable[Feeds],
    limit: int,
    blocks: Mapping[str, TensorPlan] | None = None,
    target: str = "onnx",
) -> Bench:
    """Record the float model's path on at most `limit` samples.

    Args:
        model: The float model, its nodes named.
        table: Everything quantized that may be.
        samples: Inputs.
        limit: How many of them are measured on.
        blocks: Plans of weights with 4 bits.
        target: Who will run the result.
    """
    decisions, probes = decisions_of(model), probes_of(model)
    recorder = Replay(model, decisions, probes)
    feeds: list[Feeds] = []
    runs: list[Run] = []
    for sample in samples:
        if len(feeds) == limit:
            break
        feeds.append(sample)
        runs.append(recorder.run(sample))
    groups = groups_of(model, table)
    return Bench(model, table, groups, blocks or {}, feeds, runs, decisions, probes, target)


def trials_of(
    bench: Bench, choices: Choices, *, is_free: bool = False, most: int | None = None
) -> list[Trial]:
    """One trial a shard."""
    return [Trial(choices, shard, is_free) for shard in list(bench.shards)[:most]]


def perform(bench: Bench, trial: Trial) -> Outcome:
    """Measure one variant on one shard."""
    part = range(trial.shard * SHARD, min((trial.shard + 1) * SHARD, len(bench.samples)))
    follower = bench.variant(trial.choices, is_free=False)
    noises, found = [], Outcome()
    # Without decisions on the way the model is free on that path, too.
    is_other = trial.is_free and bool(bench.decisions)
    free = bench.variant(trial.choices, is_free=True) if is_other else follower
    for i in part:
        run = follower.run(bench.samples[i], bench.runs[i])
        noises.append(noise_between(bench.probes, bench.runs[i], run))
        if trial.is_free:
            answer = run if free is follower else free.run(bench.samples[i])
            found = _compared(found, bench.runs[i], answer)
    return replace(found, noise=total(noises))


def _compared(found: Outcome, reference: Run, other: Run) -> Outcome:
    first, second = reference.answers, other.answers
    if first is None or second is None:
        return found
    pairs = list(zip(first.arrays, second.arrays, strict=True))
    alike, count = agreeing(first, second)
    return replace(
        found,
        answers=found.answers + count,
        alike=found.alike + alike,
        distance=found.distance + sum(_edits(a, b) for a, b in pairs),
        length=found.length + sum(a.size for a, _ in pairs),
    )


def _edits(a: Array, b: Array) -> int:
    """Edit distance of two sequences; of arrays of one shape with more axes, how many numbers differ."""
    if a.shape == b.shape and a.ndim != 1:
        return int((a != b).sum())
    first, second = a.reshape(-1), b.reshape(-1)
    if first.shape == second.shape and (first == second).all():
        return 0
    row = np.arange(len(second) + 1)
    for i, x in enumerate(first):
        # What is put in comes last: each place is at most one more than the one before it.
        best = np.concatenate([[i + 1], np.minimum(row[1:] + 1, row[:-1] + (second != x))])
        row = np.minimum.accumulate(best - np.arange(len(best))) + np.arange(len(best))
    return int(row[-1])
