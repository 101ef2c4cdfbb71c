"""How much each group's rounding is heard at the outputs, without labels.

Local: the noise of each operator's output, on rows of its input that calibration kept: all groups and all
choices from one pass over the data. Global: one group alone quantized, the rest floats, on the float model's
path. What a group adds to a metric is its noise power times a gain; the gain is measured for the groups that
make the most noise or hold the most bytes, at most `MOST` of them, and taken from those for the others. Time
is linear in layers: one pass for all of the local noise, and a fixed number of runs for the global one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graphopt.ir.quant_table import QuantTable
from graphopt.ir.quantizing import Grid, dequantized, quantized
from graphopt.quantization.choices import CHOICES, Choice, may_be, restored_weight, stored_bytes, weight_plan
from graphopt.quantization.groups import Group, Member, weighted_operators
from graphopt.quantization.noise import Metric
from graphopt.quantization.products import Product, product_of
from graphopt.quantization.runtime_rounding import block_of, rounded_in_blocks
from graphopt.quantization.statistics import Statistics
from graphopt.quantization.trials import Bench, Choices, Outcome, Trial, merged, trials_of

__all__ = ["MOST", "Additivity", "Sensitivity", "local_noise", "measure_alone", "sensitivities"]

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Perform = Callable[[Sequence[Trial]], Sequence[Outcome]]

# Groups measured alone, and shards that they are measured on.
MOST, SHARDS = 64, 2
# Rows of an input: the noise of a mean of squares over so many is known to a few percent.
ROWS = 256
# Noise that is no more than the rounding of float32 says nothing of a gain.
_FAINT = 1e-13


@dataclass(frozen=True, slots=True)
class Sensitivity:
    """What a group does to the outputs.

    Attributes:
        group: Its name.
        local: Relative noise power at its own outputs, by choice.
        gain: Metric for each unit of local noise.
        alone: What was measured with it alone quantized; None: the gain is that of others.
    """

    group: str
    local: Mapping[Choice, float]
    gain: float
    alone: Outcome | None = None

    def loss(self, choice: Choice) -> float:
        """What a choice adds to the metric."""
        return self.gain * self.local.get(choice, 0.0)


@dataclass(frozen=True, slots=True)
class Additivity:
    """Whether losses of single groups add up.

    Attributes:
        predicted: Sum of all.
        measured: All together.
        halves: The same of sets of half of the groups.
    """

    predicted: float
    measured: float
    halves: tuple[tuple[float, float], ...] = field(default=())

    @property
    def ratio(self) -> float:
        """Measured to predicted."""
        return self.measured / self.predicted if self.predicted > 0 else 1.0

    @property
    def holds(self) -> bool:
        """Whether all predictions are right within a factor of two."""
        pairs = ((self.predicted, self.measured), *self.halves)
        return all(0.5 <= m / p <= 2 for p, m in pairs if p > 0)


def local_noise(
    bench: Bench, statistics: Statistics | None, choices: Sequence[Choice]
) -> dict[str, dict[Choice, float]]:
    """Noise power to signal power at the outputs of each group's operators, summed over them, by choice."""
    weighted = weighted_operators(bench.model)
    found: dict[str, dict[Choice, float]] = {}
    for group in bench.groups:
        mine: dict[Choice, float] = {c: 0.0 for c in choices if may_be(group, c)}
        for member in group.members:
            product = product_of(weighted[member.name])
            seen = statistics.of(member.name) if statistics is not None else None
            rows = seen.rows[:ROWS] if seen is not None and product is not None else None
            for choice in mine:
                if choice != "float":
                    mine[choice] += _noise(bench, member, product, rows, choice)
        found[group.name] = mine
    return found


def _noise(
    bench: Bench, member: Member, product: Product | None, rows: Floats | None, choice: Choice
) -> float:
    weight = bench.weights[member.weight]
    plan = weight_plan(member, choice, weight, bench.table, bench.blocks)
    restored = restored_weight(weight, plan, choice)
    if product is None or rows is None or not len(rows):
        return _ratio(weight, restored)
    taken = rows
    if choice in ("int8", "int7") and member.input is not None:
        taken = _rounded(rows, bench.table, member.input)
    elif choice in ("weight_only", "int4") and member.op_type in ("MatMul", "Gemm"):
        block = block_of(bench.target, rows.shape[-1])
        taken = rounded_in_blocks(rows, block) if block is not None else rows
    before = np.matmul(rows.transpose(1, 0, 2), product.matrix(weight))
    after = np.matmul(taken.transpose(1, 0, 2), product.matrix(restored))
    return _ratio(before, after)


def _rounded(rows: Floats, table: QuantTable, name: str) -> Floats:
    grid: Grid = table.tensors[name].grid
    return dequantized(quantized(rows, grid), grid)


def _ratio(before: Array, after: Array) -> float:
    wide = before.astype(np.float64)
    signal = float((wide * wide).sum())
    noise = float(((after.astype(np.float64) - wide) ** 2).sum())
    return noise / signal if signal > 0 else 0.0


def first_choice(group: Group, choices: Sequence[Choice]) -> Choice | None:
    """What a group is where nothing falls back: the first of the choices that it may be."""
    return next((c for c in CHOICES if c in choices and may_be(group, c)), None)


def measure_alone(
    bench: Bench,
    local: Mapping[str, Mapping[Choice, float]],
    choices: Sequence[Choice],
    run: Perform,
    most: int = MOST,
) -> dict[str, Outcome]:
    """Measure groups one at a time: those that make the most noise and those that hold the most bytes."""
    loud = sorted(bench.groups, key=lambda g: -max(local[g.name].values(), default=0.0))
    large = sorted(bench.groups, key=lambda g: -stored_bytes(g, "int8"))
    turns = [group for pair in zip(loud, large, strict=True) for group in pair]
    important = list(dict.fromkeys(group.name for group in turns))[:most]
    tried: dict[str, Choices] = {}
    for group in bench.groups:
        choice = first_choice(group, choices)
        if group.name in important and choice is not None and choice != "float":
            tried[group.name] = bench.only(group, choice)
    return dict(zip(tried, measured(bench, list(tried.values()), run, most=SHARDS), strict=True))


def measured(
    bench: Bench, variants: Sequence[Choices], run: Perform, *, is_free: bool = False, most: int | None = None
) -> list[Outcome]:
    """Measure variants, each on all of its shards; the sums do not depend on who ran what."""
    trials = [t for choices in variants for t in trials_of(bench, choices, is_free=is_free, most=most)]
    by_variant: dict[Choices, dict[int, Outcome]] = {}
    for trial, outcome in zip(trials, run(trials), strict=True):
        by_variant.setdefault(trial.choices, {})[trial.shard] = outcome
    return [merged(by_variant[choices]) for choices in variants]


def sensitivities(
    bench: Bench,
    local: Mapping[str, Mapping[Choice, float]],
    alone: Mapping[str, Outcome],
    choices: Sequence[Choice],
    metric: Metric,
) -> dict[str, Sensitivity]:
    """Gains of all groups: measured, or the geometric mean of those that were."""
    gains: dict[str, float] = {}
    for group in bench.groups:
        choice = first_choice(group, choices)
        if group.name in alone and choice is not None:
            noise = local[group.name].get(choice, 0.0)
            loss = alone[group.name].noise.loss(metric)
            if noise > _FAINT and 0 < loss < math.inf:
                gains[group.name] = loss / noise
    usual = math.exp(float(np.mean([math.log(g) for g in gains.values()]))) if gains else 1.0
    return {
        group.name: Sensitivity(
            group.name, local[group.name], gains.get(group.name, usual), alone.get(group.name)
        )
        for group in bench.groups
    }


def additivity(
    bench: Bench,
    found: Mapping[str, Sensitivity],
    choices: Sequence[Choice],
    metric: Metric,
    run: Perform,
    halves: int = 2,
    seed: int = 0,
) -> Additivity:
    """Predict all groups together, and random halves of them, and measure."""
    random = np.random.default_rng(seed)
    first = {g.name: first_choice(g, choices) or "float" for g in bench.groups}
    sets = [set(first)] + [
        {
            g.name
            for g, taken in zip(bench.groups, random.permutation(len(first)) % 2 == 0, strict=True)
            if taken
        }
        for _ in range(halves)
    ]
    variants: list[Choices] = [
        tuple((name, choice if name in chosen else "float") for name, choice in first.items())
        for chosen in sets
    ]
    outcomes = measured(bench, variants, run, most=SHARDS)
    pairs = [
        (math.fsum(found[n].loss(first[n]) for n in chosen), outcome.noise.loss(metric))
        for chosen, outcome in zip(sets, outcomes, strict=True)
    ]
    return Additivity(*pairs[0], halves=tuple(pairs[1:]))
