"""What calibration keeps of a tensor: constant memory, and the same whatever order or split the data has.

An observer sees every value of a tensor, those of all iterations of a loop. Empty arrays change nothing; NaN
and infinities are counted and left out. A tensor that was never seen with anything in it is unobserved.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from graphopt.errors import UsageError
from graphopt.ir.quant_table import Observed
from graphopt.quantization import thresholds
from graphopt.quantization.histogram import Histogram

__all__ = ["METHODS", "ChannelObserver", "Method", "Observer"]

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Range = tuple[float, float]

Method = Literal["minmax", "percentile", "kl", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "kl", "mse")

# Share of the values that a percentile keeps; of 100,000 values 10 saturate.
SHARE = 0.9999
# With fewer values a histogram is noise: the extremes say more.
SCARCE = 10_000
# Codes for one side of a tensor that has two, and for a tensor that has one.
HALF_LEVELS, ALL_LEVELS = 128, 256
# Candidates of the divergence lie this far apart, of 4096 bins.
KL_STEP = 16
# Candidates of the squared error.
MSE_STEPS = 128


@dataclass(slots=True)
class Observer:
    """Extremes and histograms of one tensor, over all of its elements.

    Attributes:
        low: Lowest finite number; infinite while nothing was seen.
        high: Highest.
        count: Finite numbers.
        zeros: Exact zeros among them.
        not_finite: NaN and infinities.
        positive: Histogram of what is above zero.
        negative: Histogram of the sizes of what is below.
    """

    low: float = np.inf
    high: float = -np.inf
    count: int = 0
    zeros: int = 0
    not_finite: int = 0
    positive: Histogram = field(default_factory=Histogram)
    negative: Histogram = field(default_factory=Histogram)

    def update(self, array: Array) -> None:
        """See one array."""
        values = np.asarray(array, np.float32).reshape(-1)
        if not values.size:
            return
        low, high = float(values.min()), float(values.max())
        if not (np.isfinite(low) and np.isfinite(high)):
            finite = np.isfinite(values)
            self.not_finite += int(values.size - finite.sum())
            values = values[finite]
            if not values.size:
                return
            low, high = float(values.min()), float(values.max())
        self.low, self.high = min(self.low, low), max(self.high, high)
        self.count += values.size
        self.zeros += int(values.size - np.count_nonzero(values))
        if high > 0:
            self.positive.add(values[values > 0])
        if low < 0:
            self.negative.add(-values[values < 0])

    def merge(self, other: Observer) -> None:
        """Add what another one has seen."""
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)
        self.count += other.count
        self.zeros += other.zeros
        self.not_finite += other.not_finite
        self.positive.merge(other.positive)
        self.negative.merge(other.negative)

    def state(self) -> dict[str, Array]:
        """All that it holds, as arrays."""
        found: dict[str, Array] = {
            "extremes": np.asarray([self.low, self.high]),
            "counts": np.asarray([self.count, self.zeros, self.not_finite], np.int64),
        }
        for name, side in (("positive", self.positive), ("negative", self.negative)):
            if side.exponent is not None:
                found[f"{name}_exponent"] = np.asarray(side.exponent)
                found[name] = side.counts
        return found

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take what `state` gave."""
        self.low, self.high = (float(x) for x in state["extremes"].tolist())
        self.count, self.zeros, self.not_finite = (int(x) for x in state["counts"].tolist())
        for name, side in (("positive", self.positive), ("negative", self.negative)):
            if name in state:
                side.exponent = int(state[f"{name}_exponent"].item())
                side.counts = state[name].astype(np.int64)

    @property
    def is_observed(self) -> bool:
        return self.count > 0

    @property
    def seen(self) -> Observed:
        """What the quant table says of it."""
        return Observed(self.low, self.high, self.count, self.zeros)

    def range(self, method: Method) -> Range:
        """The numbers that codes should span.

        Raises:
            UsageError: There is no such method, or nothing was seen.
        """
        if method not in METHODS:
            raise UsageError(f"there is no observer {method!r}", hint=f"one of {', '.join(METHODS)}")
        if not self.is_observed:
            raise UsageError("an unobserved tensor has no range")
        if method == "minmax" or self.count < SCARCE:
            return self.low, self.high
        found = {"percentile": self._percentile, "kl": self._divergence, "mse": self._squared_error}[method]()
        return max(found[0], self.low), min(found[1], self.high)

    def _percentile(self) -> Range:
        """What is beyond makes up half of the rest at each side of a tensor that has two."""
        sides = (self.negative, self.positive)
        is_two_sided = all(side.total for side in sides)
        beyond = (1 - SHARE) * self.count / (2 if is_two_sided else 1)
        low, high = (
            side.width * thresholds.percentile(side.counts, 1 - beyond / side.total)
            if side.total > beyond
            else 0.0
            for side in sides
        )
        return -low, high

    def _divergence(self) -> Range:
        sides = (self.negative, self.positive)
        levels = HALF_LEVELS if all(side.total for side in sides) else ALL_LEVELS
        low, high = (
            side.width * thresholds.kl(side.counts, levels, KL_STEP) if side.total else 0.0 for side in sides
        )
        return -low, high

    def _squared_error(self) -> Range:
        """One limit cuts both sides: the longer one first."""
        extremes = (max(-self.low, 0.0), max(self.high, 0.0))
        limits = np.arange(1, MSE_STEPS + 1, dtype=np.float64) / MSE_STEPS * max(extremes)
        spans = [np.minimum(limits, extreme).astype(np.float64) for extreme in extremes]
        scales = np.asarray((spans[0] + spans[1]) / (ALL_LEVELS - 1), np.float64)
        error = np.zeros(MSE_STEPS)
        for side, span in zip((self.negative, self.positive), spans, strict=True):
            if side.total:
                sizes = (np.arange(side.bins) + 0.5) * side.width
                error += thresholds.squared_errors(sizes.astype(np.float64), side.counts, span, scales)
        best = int(np.argmin(error))
        return -float(spans[0][best]), float(spans[1][best])


@dataclass(slots=True)
class ChannelObserver:
    """Extremes of each position along one axis of a tensor.

    Attributes:
        axis: The axis.
        low: Lowest finite number of each position; infinite where nothing was seen.
        high: Highest.
    """

    axis: int
    low: Floats | None = None
    high: Floats | None = None

    def update(self, array: Array) -> None:
        """See one array.

        Raises:
            UsageError: The axis has another length than before.
        """
        values = np.asarray(array, np.float32)
        axis = self.axis % values.ndim
        others = tuple(i for i in range(values.ndim) if i != axis)
        finite = np.isfinite(values)
        low = np.where(finite, values, np.inf).min(axis=others, initial=np.inf).astype(np.float32)
        high = np.where(finite, values, -np.inf).max(axis=others, initial=-np.inf).astype(np.float32)
        self._take(low, high)

    def merge(self, other: ChannelObserver) -> None:
        """Add what another one has seen."""
        if other.low is not None and other.high is not None:
            self._take(other.low, other.high)

    def _take(self, low: Floats, high: Floats) -> None:
        if self.low is None or self.high is None:
            self.low, self.high = low, high
        elif self.low.shape != low.shape:
            raise UsageError(f"axis {self.axis} had {self.low.size} positions and now has {low.size}")
        else:
            self.low, self.high = np.minimum(self.low, low), np.maximum(self.high, high)
