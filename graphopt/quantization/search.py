"""Sensitivity and decision: the search for the point that keeps the limits, each point built and measured."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.ir.save import save
from graphopt.quantization import decision
from graphopt.quantization.applying import with_table
from graphopt.quantization.choices import CHOICES, Choice
from graphopt.quantization.finishing import finished
from graphopt.quantization.front import Point, Search
from graphopt.quantization.journal import Journal
from graphopt.quantization.limits import SLACK, SLACK_OF_SIZE, Limits, pick
from graphopt.quantization.memory import give_back
from graphopt.quantization.noise import Metric
from graphopt.quantization.performing import Doing, Performed, digest_of, here
from graphopt.quantization.sensitivity import (
    additivity,
    local_noise,
    measure_alone,
    measured,
    sensitivities,
)
from graphopt.quantization.speeds import keeps_codes
from graphopt.quantization.statistics import Statistics
from graphopt.quantization.trials import Bench, prepare_bench

__all__ = ["EIGHT_BITS", "Point", "Search", "search"]

Array = npt.NDArray[np.generic]

EIGHT_BITS: tuple[Choice, ...] = ("int8", "weight_only", "float16", "float")
# Points of the ladder: what each may cost more than the fastest one, in shares of its time and bytes.
NEAR = (0.0, 0.02, 0.05, SLACK)
FAR = (0.1, 0.2, 0.5, 1.0, 2.0, float("inf"))
# Between the bytes of the smallest and those of 8 bits, with 4 bits allowed.
SIZES = (0.0, 0.25, 0.5, 0.75)
# What groups may be besides, within a size; and so much of all bytes may be spent where they are worth most.
OTHER_SIZES: tuple[Choice, ...] = ("int4", "float16", "float")
CRUMBS = 0.0016
# Steps of a bisection where a limit begins to be kept; tries with files that came out too large, and the
# share of their bytes that is left free then, twice as much each time.
BISECTIONS, TOO_LARGE, RESERVE = 3, 8, 5e-5


def search(
    model: ir.Model,
    table: QuantTable,
    samples: Iterable[Mapping[str, Array]],
    *,
    statistics: Statistics | None = None,
    limits: Limits | None = None,
    choices: Sequence[Choice] = EIGHT_BITS,
    blocks: Mapping[str, TensorPlan] | None = None,
    target: str = "onnx",
    most_samples: int = 64,
    whole_front: bool = False,
    run: Doing | None = None,
    journal: Journal | None = None,
    tell: Callable[[str], None] = lambda _: None,
) -> Search:
    """Measure what each group loses, and find the point to take.

    Args:
        model: The float model, with the names of the table.
        table: Everything quantized that may be.
        samples: Inputs.
        statistics: Of operators' inputs, from calibration.
        limits: To keep to; None: the default.
        choices: What groups may be.
        blocks: Plans of weights with 4 bits; the nearest codes where there is none.
        target: Who runs the result.
        most_samples: How many samples points are measured on.
        whole_front: Whether to measure the whole front, beyond what the limits need.
        run: Who performs trials; None: this process.
        journal: Where an interrupted search left its results, and this one leaves its own.
        tell: Called with a few words at each step.
    """
    limits = limits or Limits()
    limits.check()
    tell("record the float model's path")
    bench = prepare_bench(model, table, samples, most_samples, blocks, target)
    if journal is not None:
        journal.open(digest_of(bench))
    performed = Performed(bench, run or here, journal)
    found = _Searching(bench, limits, choices, target, performed, tell).search(
        statistics, whole_front=whole_front or limits.knee
    )
    bench.forget()
    return found


class _Searching:
    """One search."""

    def __init__(
        self,
        bench: Bench,
        limits: Limits,
        choices: Sequence[Choice],
        target: str,
        run: Performed,
        tell: Callable[[str], None],
    ) -> None:
        self.bench = bench
        self.limits = limits
        self.choices = choices
        self.target = target
        self.run = run
        self.tell = tell
        is_scored = any(probe.is_distribution for probe in bench.probes)
        self.metric: Metric = "kl" if is_scored and limits.metric != "sqnr" else "sqnr"
        self.points: dict[tuple[tuple[str, Choice], ...], Point] = {}
        self.options: dict[str, list[decision.Option]] = {}
        self.file_sizes: dict[tuple[tuple[str, Choice], ...], int] = {}

    def search(self, statistics: Statistics | None, *, whole_front: bool) -> Search:
        bench, metric = self.bench, self.metric
        first = [c for c in self.choices if c != "int4"]
        self.tell("noise of each operator")
        local = local_noise(bench, statistics, CHOICES)
        self.tell(f"{len(bench.groups)} groups one by one")
        alone = measure_alone(bench, local, first, self.run)
        found = sensitivities(bench, local, alone, first, metric)
        is_sum = additivity(bench, found, first, metric, self.run)
        self.every = decision.options_of(bench.groups, found, CHOICES, self.target)
        self.options = self._allowed(first)
        self.fastest = {name: options[0].choice for name, options in self.options.items()}
        start = decision.sums(self.options, self.fastest)
        self.time, self.bytes = max(start.time, 1.0), max(start.bytes, 1)
        self.overhead = self._file_bytes(self.fastest) - start.bytes
        self.rungs = decision.ladder(self.options, self._cost)
        self.lean = decision.ladder(self._lean(), self._cost)
        self._explore(whole_front=whole_front)
        ordered = sorted(self.points.values(), key=lambda p: (p.bytes, p.time))
        taken, is_reached = self._taken(ordered)
        reasons = {name: self._reason(name, ordered[taken]) for name in self.options}
        losses = {name: s.loss(ordered[taken].choices[name]) for name, s in found.items()}

        def table_of(number: int) -> QuantTable:
            given = {n: why for n, why in reasons.items() if why} if number == taken else {}
            return bench.table_of(ordered[number].choices, given, losses)

        return Search(
            table_of(taken),
            tuple(ordered),
            taken,
            is_reached,
            self.limits,
            metric,
            tuple(bench.groups),
            found,
            is_sum,
            table_of,
        )

    # ------------------------------------------------------------------ what is possible

    def _allowed(self, choices: Sequence[Choice]) -> dict[str, list[decision.Option]]:
        """Options of all groups; weights of 8 bits only where the target runs no slower by them."""
        options = {name: [o for o in mine if o.choice in choices] for name, mine in self.every.items()}
        if self.limits.max_size is not None:
            return options
        for group in self.bench.groups:
            if group.is_integer and not all(keeps_codes(self.target, m) for m in group.members):
                kept = [o for o in options[group.name] if o.choice != "weight_only"]
                options[group.name] = kept if len(kept) > 1 else options[group.name]
        return options

    def _lean(self) -> dict[str, list[decision.Option]]:
        """Options that take no more bytes than the fastest one."""
        return {
            name: [o for o in mine if o.bytes <= mine[0].bytes] or mine[:1]
            for name, mine in self.options.items()
        }

    def _cost(self, option: decision.Option) -> float:
        """A percent of time counts as much as a percent of bytes."""
        return option.bytes / self.bytes + option.time / self.time

    def _rung(self, slack: float, *, is_lean: bool = False) -> dict[str, Choice]:
        """The highest rung that costs no more than so much above the lowest."""
        rungs = self.lean if is_lean else self.rungs
        costs = [self._cost(decision.sums(self.options, rung)) for rung in rungs]
        return rungs[max(i for i, cost in enumerate(costs) if cost <= costs[0] + slack)]

    def _sized(self, budget: float) -> dict[str, Choice] | None:
        """The least loss within bytes: each group as it is near the fastest point, or of another size."""
        home = self._rung(SLACK, is_lean=True)
        options = {
            name: [o for o in mine if o.choice == home[name] or o.choice in OTHER_SIZES]
            for name, mine in self.every.items()
        }
        return decision.best_within(options, budget, lambda o: o.bytes)

    def _quick(self, options: decision.Options, budget: float, slack: float) -> dict[str, Choice] | None:
        """The least loss within bytes, and not much more time than the fastest point takes."""
        most = self.time * (1 + slack)
        return decision.best_within_time(options, budget, lambda o: o.bytes, most)

    # ------------------------------------------------------------------ the points

    def _explore(self, *, whole_front: bool) -> None:
        limits = self.limits
        self._measure([self._rung(slack, is_lean=True) for slack in NEAR])
        if limits.max_size is None and limits.max_fallbacks is None:
            crumbs = self._quick(self.options, self.bytes * (1 + CRUMBS), SLACK)
            self._measure([crumbs] if crumbs is not None else [])
        if limits.max_fallbacks is not None:
            best = decision.best_within(self.options, limits.max_fallbacks, lambda o: o.fallbacks)
            self._measure([best] if best is not None else [])
        elif limits.max_size is not None:
            self._explore_size(limits.max_size)
        elif "int4" in self.choices:
            self._explore_small()
        if whole_front:
            self._measure([self._rung(slack, is_lean=is_lean) for slack in FAR for is_lean in (True, False)])
        if limits.max_size is None and limits.max_fallbacks is None and not limits.knee:
            self._climb()

    def _climb(self) -> None:
        """Where no point keeps the limit so far: up the ladder until one does, and back half of the way."""
        failed = 0
        for slack in FAR:
            if any(self.limits.keeps(point) for point in self.points.values()):
                return
            near = self._rung(slack, is_lean=True)
            self._measure([near])
            reached = self.rungs.index(self._rung(slack))
            if self._keeps(self.rungs[reached]):
                for _ in range(BISECTIONS):
                    middle = (failed + reached) // 2
                    if middle in (failed, reached):
                        break
                    if self._keeps(self.rungs[middle]):
                        reached = middle
                    else:
                        failed = middle
                return
            failed = reached

    def _keeps(self, choices: Mapping[str, Choice]) -> bool:
        self._measure([choices])
        return self.limits.keeps(self.points[_key(choices)])

    def _explore_size(self, most: int) -> None:
        """The best of a size; files that come out too large take the excess back."""
        smallest = {
            name: min(mine, key=lambda o: (o.bytes, o.loss)).choice for name, mine in self.every.items()
        }
        budget, reserve = float(most - self.overhead), most * RESERVE
        for _ in range(TOO_LARGE):
            choices = self._quick(self.every, budget, SLACK_OF_SIZE) or self._sized(budget) or smallest
            excess = self._file_bytes(choices) - most
            if excess <= 0 or choices is smallest:
                break
            budget, reserve = budget - excess - reserve, 2 * reserve
        self._measure([choices])

    def _explore_small(self) -> None:
        """Points of rising size, and more of them where the limit begins to be kept."""
        least = sum(min(o.bytes for o in mine) for mine in self.every.values())
        budgets = [least + (self.bytes - least) * share for share in SIZES]
        found = [(budget, choices) for budget in budgets if (choices := self._sized(budget)) is not None]
        self._measure([choices for _, choices in found])
        kept = [self.limits.keeps(self.points[_key(choices)]) for _, choices in found]
        i = kept.index(True) if True in kept else len(found)
        if not found or i == 0:
            return
        low, high = found[i - 1][0], found[i][0] if i < len(found) else float(self.bytes)
        for _ in range(BISECTIONS):
            middle = (low + high) / 2
            choices = self._sized(middle)
            if choices is None:
                return
            if self._keeps(choices):
                high = middle
            else:
                low = middle

    def _measure(self, wanted: Sequence[Mapping[str, Choice]]) -> None:
        """Build and measure points that are new."""
        new = {_key(choices): dict(choices) for choices in wanted if _key(choices) not in self.points}
        if not new:
            return
        self.tell(f"measure {len(new)} points, {len(self.points)} done")
        outcomes = measured(self.bench, list(new), self.run, is_free=True)
        for (key, choices), outcome in zip(new.items(), outcomes, strict=True):
            total = decision.sums(self.every, choices)
            self.points[key] = Point(
                choices,
                self._file_bytes(choices),
                total.time / self.time,
                total.fallbacks,
                total.loss,
                outcome.noise.loss(self.metric),
                outcome,
            )

    def _file_bytes(self, choices: Mapping[str, Choice]) -> int:
        """Bytes of a point's files, which are written once to be weighed."""
        key = _key(choices)
        if key not in self.file_sizes:
            self.file_sizes[key] = self.run.size(key, lambda: self._weighed(choices))
        return self.file_sizes[key]

    def _weighed(self, choices: Mapping[str, Choice]) -> int:
        model = finished(with_table(self.bench.model, self.bench.table_of(choices)), self.target)
        with TemporaryDirectory(prefix="graphopt-") as folder:
            save(model, Path(folder, "model.onnx"))
            size = sum(file.stat().st_size for file in Path(folder).iterdir())
        del model
        give_back()
        return size

    # ------------------------------------------------------------------ the one that is taken

    def _taken(self, points: Sequence[Point]) -> tuple[int, bool]:
        if self.limits.knee:
            return decision.knee([(self._cost_of(p), p.noise) for p in points]), True
        if self.limits.max_fallbacks is not None:
            allowed = [i for i, p in enumerate(points) if p.fallbacks <= self.limits.max_fallbacks]
            return min(allowed, key=lambda i: (points[i].noise, points[i].bytes)), True
        return pick(points, self.limits)

    def _cost_of(self, point: Point) -> float:
        return point.bytes / max(self.bytes + self.overhead, 1) + point.time

    def _reason(self, name: str, point: Point) -> str | None:
        """Why a group is no longer what is fastest."""
        choice = point.choices[name]
        if choice == self.fastest[name]:
            return None
        mine = {o.choice: o for o in self.every[name]}
        now, before = mine[choice], mine[self.fastest[name]]
        size = now.bytes - before.bytes
        return f"{self.metric} {before.loss:.2e} -> {now.loss:.2e} for {size:+,} bytes"


def _key(choices: Mapping[str, Choice]) -> tuple[tuple[str, Choice], ...]:
    return tuple(choices.items())
