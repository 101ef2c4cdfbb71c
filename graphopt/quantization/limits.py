"""What the result must keep to, and which of the measured points is taken."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

from graphopt.errors import UsageError

__all__ = ["AGREEMENT", "SLACK", "SQNR", "Limits", "Measure", "Measured", "loss_of", "pick"]

Measure = Literal["kl", "sqnr", "agreement"]

# Without a limit given: share of samples decided alike, and decibels where nothing is decided.
AGREEMENT, SQNR = 0.99, 30.0
# Sizes that differ by less are one size: scales and names of a few operators.
SAME_SIZE = 0.0025
# Predicted time that may be spent on losing less; under a size limit, which leaves the rest free, more of it.
SLACK, SLACK_OF_SIZE = 0.15, 0.2


class Measured(Protocol):
    """A point of the front as far as limits look at it."""

    @property
    def bytes(self) -> int: ...
    @property
    def time(self) -> float: ...
    @property
    def kl(self) -> float | None: ...
    @property
    def sqnr(self) -> float | None: ...
    @property
    def agreement(self) -> float | None: ...
    @property
    def noise(self) -> float: ...


@dataclass(frozen=True, slots=True)
class Limits:
    """At most one of these is given; none: agreement of `AGREEMENT`, or `SQNR`.

    Attributes:
        max_loss: Of the metric; of agreement the share of samples that may be decided otherwise, of sqnr the
            decibels that must be left.
        metric: Which.
        max_size: Bytes of the file.
        max_fallbacks: Operators that may compute floats though they could compute with codes.
        knee: The point where losing less begins to cost more.
    """

    max_loss: float | None = None
    metric: Measure = "kl"
    max_size: int | None = None
    max_fallbacks: int | None = None
    knee: bool = False

    def check(self) -> None:
        """Make sure that they can be kept to.

        Raises:
            UsageError: Two at once, or a number that is none.
        """
        numbers = (self.max_loss, self.max_size, self.max_fallbacks)
        if sum(n is not None for n in numbers) + self.knee > 1:
            raise UsageError("max_loss, max_size, max_fallbacks and knee: one of them at a time")
        if self.max_loss is not None and not (math.isfinite(self.max_loss) and self.max_loss >= 0):
            raise UsageError(f"max_loss must be a number of 0 or more, not {self.max_loss}")
        if self.max_size is not None and self.max_size < 1:
            raise UsageError(f"max_size must be a number of bytes, not {self.max_size}")
        if self.max_fallbacks is not None and self.max_fallbacks < 0:
            raise UsageError(f"max_fallbacks must be 0 or more, not {self.max_fallbacks}")

    def keeps(self, point: Measured) -> bool:
        """Whether a point is within them."""
        if self.max_size is not None:
            return point.bytes <= self.max_size
        if self.max_loss is not None:
            if self.metric == "sqnr":
                return point.sqnr is not None and point.sqnr >= self.max_loss
            loss = loss_of(point, self.metric)
            return loss is not None and loss <= self.max_loss
        if point.agreement is not None:
            return point.agreement >= AGREEMENT
        return point.sqnr is None or point.sqnr >= SQNR

    def __str__(self) -> str:
        if self.max_size is not None:
            return f"at most {self.max_size:,} bytes"
        if self.max_fallbacks is not None:
            return f"at most {self.max_fallbacks} operators fall back"
        if self.max_loss is not None:
            return f"{self.metric} {'at least' if self.metric == 'sqnr' else 'at most'} {self.max_loss:g}"
        return "the knee" if self.knee else f"{AGREEMENT:.0%} decided alike, or {SQNR:g} dB"


def loss_of(point: Measured, metric: Measure) -> float | None:
    """A point's loss by a metric, 0 for none; None: it was not measured."""
    if metric == "kl":
        return point.kl
    if metric == "agreement":
        return None if point.agreement is None else 1 - point.agreement
    return None if point.sqnr is None else -point.sqnr


def pick(points: Sequence[Measured], limits: Limits) -> tuple[int, bool]:
    """The number of the point to take, and whether it keeps the limits.

    Of those that do, the smallest; of its size, the fastest; of those not slower by more than `SLACK`, the
    one that loses least. Under `max_size` the one that loses least of those not slower than the fastest by
    more than `SLACK_OF_SIZE`. If none keeps them: the nearest one.
    """
    kept = [i for i, point in enumerate(points) if limits.keeps(point)]
    if not kept:
        if limits.max_size is not None:
            return min(range(len(points)), key=lambda i: points[i].bytes), False
        return min(range(len(points)), key=lambda i: _distance(points[i], limits)), False
    if limits.max_size is None:
        smallest = min(points[i].bytes for i in kept)
        kept = [i for i in kept if points[i].bytes <= smallest * (1 + SAME_SIZE)]
    slack = SLACK if limits.max_size is None else SLACK_OF_SIZE
    fastest = min(points[i].time for i in kept)
    kept = [i for i in kept if points[i].time <= fastest * (1 + slack)]
    return min(kept, key=lambda i: (points[i].noise, points[i].bytes)), True


def _distance(point: Measured, limits: Limits) -> tuple[float, float]:
    """How far a point is from limits that it does not keep."""
    metric: Measure = limits.metric
    if limits.max_loss is None:
        metric = "agreement" if point.agreement is not None else "sqnr"
    loss = loss_of(point, metric)
    return (math.inf if loss is None else loss), point.noise
