"""Histograms of sizes whose bins are powers of two apart: how they are cut and counted does not matter.

`BINS` bins over [0, 2^k), k the least with every size below 2^k. A larger k folds pairs of bins, which gives
exactly what counting with it from the start gives: batches in any order, on any number of workers, merge to
the same integers. Zeros are not in it: half of what follows a Relu is zero, and would hide all else.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

__all__ = ["BINS", "Histogram"]

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

BINS = 4096
# Exponents of float32; what is smaller counts as zero.
_LOWEST, _HIGHEST = -126, 128
# So many are counted at a time: what that takes stays in a cache, whatever the size of a tensor.
_PIECE = 1 << 16


@dataclass(slots=True)
class Histogram:
    """Counts of positive sizes.

    Attributes:
        bins: How many bins; even.
        exponent: k; None as long as nothing was counted.
        counts: One a bin.
    """

    bins: int = BINS
    exponent: int | None = None
    counts: Counts = field(default_factory=lambda: np.zeros(0, np.int64))

    def add(self, sizes: npt.NDArray[np.float32]) -> None:
        """Count positive finite sizes."""
        if not sizes.size:
            return
        exponent = min(max(int(np.frexp(sizes.max())[1]), _LOWEST), _HIGHEST)
        self._widen(exponent)
        assert self.exponent is not None
        for start in range(0, sizes.size, _PIECE):
            # Multiplying by a power of two is exact.
            piece = sizes[start : start + _PIECE].astype(np.float64)
            scaled = np.ldexp(piece, -self.exponent) * self.bins
            numbers = np.minimum(scaled.astype(np.int64), self.bins - 1)
            self.counts += np.bincount(numbers, minlength=self.bins)

    def merge(self, other: Histogram) -> None:
        """Add what another one has counted."""
        if other.exponent is None:
            return
        self._widen(other.exponent)
        assert self.exponent is not None
        self.counts += _folded(other.counts, self.exponent - other.exponent)

    def _widen(self, exponent: int) -> None:
        if self.exponent is None:
            self.exponent, self.counts = exponent, np.zeros(self.bins, np.int64)
        elif exponent > self.exponent:
            self.counts = _folded(self.counts, exponent - self.exponent)
            self.exponent = exponent

    @property
    def width(self) -> float:
        """Of one bin."""
        return 0.0 if self.exponent is None else float(np.ldexp(1.0, self.exponent)) / self.bins

    @property
    def total(self) -> int:
        return int(self.counts.sum())


def _folded(counts: Counts, times: int) -> Counts:
    found = counts
    for _ in range(min(times, len(counts).bit_length())):
        half = found[0::2] + found[1::2]
        found = np.concatenate([half, np.zeros(len(counts) - len(half), np.int64)])
    return found.copy() if found is counts else found
