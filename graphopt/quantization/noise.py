"""How far two models are apart on the same path, as sums that shards of the data add up to."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Literal

import numpy as np
import numpy.typing as npt

from graphopt.quantization.replay import Probe, Run

__all__ = ["Metric", "Noise", "noise_between", "total"]

Array = npt.NDArray[np.generic]
Wide = npt.NDArray[np.float64]

# kl: mean divergence of distributions, where scores are compared; sqnr: noise to signal power.
Metric = Literal["kl", "sqnr"]
_LEAST = 1e-30


@dataclass(frozen=True, slots=True)
class Noise:
    """Sums over the compared numbers of some samples.

    Attributes:
        steps: Distributions compared.
        divergence: KL(softmax(y) || softmax(y')) over them.
        flips: How often the largest number is another one.
        numbers: Numbers compared.
        signal: Squares of the float model's.
        noise: Squares of differences.
        distance: Sizes of differences.
        lost: Arrays that had no counterpart of their shape.
    """

    steps: int = 0
    divergence: float = 0.0
    flips: int = 0
    numbers: int = 0
    signal: float = 0.0
    noise: float = 0.0
    distance: float = 0.0
    lost: int = 0

    @property
    def kl(self) -> float | None:
        """Mean divergence of a step; None: nothing is a distribution."""
        return self.divergence / self.steps if self.steps else None

    @property
    def ratio(self) -> float:
        """Noise power to signal power."""
        return self.noise / self.signal if self.signal > 0 else 0.0

    @property
    def sqnr(self) -> float | None:
        """Signal to noise in decibels; infinite without any noise; None: nothing to compare."""
        if self.signal <= 0 or not math.isfinite(self.signal):
            return None
        return math.inf if self.ratio == 0 else -10 * math.log10(self.ratio)

    @property
    def mean_distance(self) -> float | None:
        """Mean difference of a number."""
        return self.distance / self.numbers if self.numbers else None

    def loss(self, metric: Metric) -> float:
        """What is to be small, and adds up over groups while it is."""
        found = (self.kl or 0.0) if metric == "kl" else self.ratio
        return math.inf if self.lost or not math.isfinite(found) else found


def total(parts: Mapping[int, Noise] | Sequence[Noise]) -> Noise:
    """The sum, whatever the order that shards came in: their numbers say which place each has."""
    ordered = [parts[i] for i in sorted(parts)] if isinstance(parts, Mapping) else list(parts)
    sums = {f.name: math.fsum(getattr(part, f.name) for part in ordered) for f in fields(Noise)}
    return Noise(
        int(sums["steps"]),
        sums["divergence"],
        int(sums["flips"]),
        int(sums["numbers"]),
        sums["signal"],
        sums["noise"],
        sums["distance"],
        int(sums["lost"]),
    )


def noise_between(probes: Iterable[Probe], reference: Run, other: Run) -> Noise:
    """Compare what two models made of one sample."""
    parts = []
    for probe in probes:
        first, second = reference.probes.get(probe.name, []), other.probes.get(probe.name, [])
        pairs = [(a, b) for a, b in zip(first, second, strict=False) if a.shape == b.shape]
        lost = max(len(first), len(second)) - len(pairs)
        if lost:
            parts.append(Noise(lost=lost))
        by_shape: dict[tuple[int, ...], list[tuple[Array, Array]]] = {}
        for a, b in pairs:
            by_shape.setdefault(a.shape, []).append((a, b))
        parts += [_compared(probe, found) for found in by_shape.values() if found[0][0].size]
    return total(parts)


def _compared(probe: Probe, pairs: Sequence[tuple[Array, Array]]) -> Noise:
    a, b = (np.stack([pair[i] for pair in pairs]).astype(np.float64) for i in (0, 1))
    difference = a - b
    steps, divergence, flips = 0, 0.0, 0
    if probe.is_distribution and pairs[0][0].ndim:
        axis = probe.axis % pairs[0][0].ndim + 1
        p, q = _log(a, axis, probe), _log(b, axis, probe)
        kl = (np.exp(p) * (p - q)).sum(axis)
        steps, divergence = kl.size, float(np.maximum(kl, 0.0).sum())
        flips = int((a.argmax(axis) != b.argmax(axis)).sum())
    return Noise(
        steps,
        divergence,
        flips,
        a.size,
        float((a * a).sum()),
        float((difference * difference).sum()),
        float(np.abs(difference).sum()),
    )


def _log(scores: Wide, axis: int, probe: Probe) -> Wide:
    """Logarithms of probabilities."""
    if probe.is_normal:
        found: Wide = np.log(np.maximum(scores, _LEAST))
        return found
    shifted = scores - scores.max(axis, keepdims=True)
    logarithms: Wide = shifted - np.log(np.exp(shifted).sum(axis, keepdims=True))
    return logarithms
