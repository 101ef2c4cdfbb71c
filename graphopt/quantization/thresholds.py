"""Where to cut a histogram: percentile, KL divergence, squared error.

A threshold is given in bins; what lies above saturates at the last code.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["divergences", "kl", "percentile", "squared_errors"]

Counts = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# Numbers of one array while divergences are computed.
_TOGETHER = 1 << 15


def percentile(counts: Counts, share: float) -> float:
    """How many bins, the last one in part, hold this share of all."""
    cumulated = np.cumsum(counts) / counts.sum()
    bin_ = int(np.argmax(cumulated >= share))
    below = cumulated[bin_ - 1] if bin_ else 0.0
    return bin_ + float((share - below) / (cumulated[bin_] - below))


def kl(counts: Counts, levels: int, step: int = 1) -> int:
    """How many bins to keep so that `levels` codes tell most of the distribution; the first of equals."""
    candidates = np.arange(levels, len(counts) + 1, step)
    if candidates[-1] != len(counts):
        candidates = np.append(candidates, len(counts))
    return int(candidates[np.argmin(divergences(counts, levels, candidates))])


def divergences(counts: Counts, levels: int, candidates: npt.NDArray[np.int64]) -> Floats:
    """KL divergence of a histogram from its quantized self, if cut after each number of bins.

    P is the bins kept, with everything beyond added to the last one. Q is these bins without it, summed into
    `levels` groups, each spread evenly over its bins that are not empty in P. Group j of i bins begins at
    floor(j * i / levels). All candidates come from prefix sums.
    """
    h = counts.astype(np.float64)
    sums = _Sums(
        h,
        np.concatenate([[0.0], np.cumsum(h)]),
        np.concatenate([[0.0], np.cumsum(_xlogx(h))]),
        np.concatenate([[0], np.cumsum(counts > 0)]),
    )
    # A few candidates at a time: what they need stays in a near cache.
    few = max(_TOGETHER // levels, 1)
    parts = [candidates[first : first + few] for first in range(0, len(candidates), few)]
    return np.concatenate([_divergences(sums, levels, part) for part in parts])


@dataclass(frozen=True)
class _Sums:
    """A histogram, and sums over its first bins: counts, count times logarithm, bins that are not empty."""

    counts: Floats
    cumulated: Floats
    entropy: Floats
    filled: Counts


def _divergences(sums: _Sums, levels: int, candidates: npt.NDArray[np.int64]) -> Floats:
    total = sums.cumulated[-1]
    edges = np.arange(levels + 1)[None, :] * candidates[:, None] // levels
    groups = np.diff(sums.cumulated[edges], axis=1)
    bins = np.diff(sums.filled[edges], axis=1).astype(np.float64)
    kept, last = sums.cumulated[candidates], sums.counts[candidates - 1]
    tail = total - kept
    bins[:, -1] += (last == 0) & (tail > 0)
    # Empty groups add nothing, but for the last one, if it has the tail: then nothing says it.
    lost = (groups[:, -1] == 0) & (tail > 0)
    shares = np.where(groups > 0, groups, 1.0) / np.where(groups > 0, bins * kept[:, None], 1.0)
    logs = np.log(shares)
    sum_of_logs = np.einsum("ij,ij->i", groups, logs) + tail * logs[:, -1]
    found = sums.entropy[candidates] - _xlogx(last) + _xlogx(last + tail) - sum_of_logs
    divergence: Floats = found / total - np.log(total)
    divergence[lost | (kept == 0)] = np.inf
    return divergence


def squared_errors(sizes: Floats, counts: Counts, limits: Floats, scales: Floats) -> Floats:
    """Sum of squared errors of sizes, for each pair of a limit and the step between two codes."""
    scale = scales[:, None]
    codes = np.minimum(np.rint(sizes[None, :] / scale), np.rint(limits / scales)[:, None])
    found: Floats = ((sizes[None, :] - codes * scale) ** 2) @ counts.astype(np.float64)
    return found


def _xlogx(x: Floats) -> Floats:
    found: Floats = x * np.log(np.where(x > 0, x, 1.0))
    return found
