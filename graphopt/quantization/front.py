"""Points that a search has built and measured, and the one that it took."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from graphopt.ir.quant_table import QuantTable
from graphopt.quantization.choices import Choice
from graphopt.quantization.groups import Group
from graphopt.quantization.limits import Limits
from graphopt.quantization.noise import Metric
from graphopt.quantization.sensitivity import Additivity, Sensitivity
from graphopt.quantization.trials import Outcome

__all__ = ["Point", "Search"]


@dataclass(frozen=True, slots=True)
class Point:
    """A quantized model that was built and measured.

    Attributes:
        choices: Of each group by name.
        bytes: Of the file.
        time: Predicted time of weighted operators, the fastest point's being 1.
        fallbacks: Operators that compute floats though they could compute with codes.
        predicted: Loss as a sum over groups.
        noise: The same, measured.
        outcome: Everything measured.
    """

    choices: Mapping[str, Choice]
    bytes: int
    time: float
    fallbacks: int
    predicted: float
    noise: float
    outcome: Outcome

    @property
    def kl(self) -> float | None:
        return self.outcome.noise.kl

    @property
    def sqnr(self) -> float | None:
        return self.outcome.noise.sqnr

    @property
    def agreement(self) -> float | None:
        return self.outcome.agreement


@dataclass(frozen=True, slots=True)
class Search:
    """What was found.

    Attributes:
        table: The point that was taken.
        points: All that were measured, by rising bytes, then time.
        taken: Which of them.
        is_reached: Whether it keeps the limits.
        limits: These.
        metric: What losses of groups are in.
        groups: In the order of the model.
        sensitivity: By a group's name.
        additivity: Whether they add up.
        tables: Of all points.
    """

    table: QuantTable
    points: tuple[Point, ...]
    taken: int
    is_reached: bool
    limits: Limits
    metric: Metric
    groups: tuple[Group, ...]
    sensitivity: Mapping[str, Sensitivity]
    additivity: Additivity
    tables: Callable[[int], QuantTable] = field(repr=False)

    @property
    def front(self) -> list[int]:
        """Numbers of the points that no other beats in bytes, time and noise at once."""
        return [i for i, p in enumerate(self.points) if not any(_beats(q, p) for q in self.points)]


def _beats(a: Point, b: Point) -> bool:
    first, second = (a.bytes, a.time, a.noise), (b.bytes, b.time, b.noise)
    return first != second and all(x <= y for x, y in zip(first, second, strict=True))
