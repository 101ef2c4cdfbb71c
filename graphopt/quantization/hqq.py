"""Half-quadratic quantization: zero points of blocks without any data (HQQ, Badri and Shaji 2023).

Some weights of a block are outliers; the zero point should serve the others. With the scale fixed:

    E <- shrink(W - W'),  shrink(x) = sign(x) max(|x| - |x|^(p - 1) / beta, 0)
    z <- mean(code - (W - E) / s),  beta <- 1.01 beta         the best z by squared error is kept

That zero point is a real number. ONNX has integers: `rounded` gives the nearest.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["hqq", "shrink"]

Wide = npt.NDArray[np.float64]

POWER, BETA, GROWTH, ROUNDS = 0.7, 10.0, 1.01, 20


def shrink(numbers: Wide, beta: float = BETA, power: float = POWER) -> Wide:
    """Numbers pulled to zero, small ones all the way."""
    size = np.abs(numbers)
    with np.errstate(divide="ignore"):
        less = np.where(size > 0, size, 1.0) ** (power - 1) / beta
    found: Wide = np.sign(numbers) * np.maximum(size - less, 0.0)
    return found


def hqq(weight: Wide, scale: Wide, zero: Wide, limits: tuple[int, int], rounds: int = ROUNDS) -> Wide:
    """Zero points of blocks, real numbers.

    Args:
        weight: [blocks, numbers of a block].
        scale: [blocks].
        zero: To begin with: [blocks].
        limits: Lowest and highest code.
        rounds: At most.
    """
    found = np.array(zero, np.float64)
    step = scale[:, None]
    beta, least = BETA, np.full(len(weight), np.inf)
    best = found.copy()
    for _ in range(rounds + 1):
        codes = np.clip(np.rint(weight / step + found[:, None]), *limits)
        numbers = (codes - found[:, None]) * step
        error = ((weight - numbers) ** 2).mean(1)
        better = error < least
        best, least = np.where(better, found, best), np.where(better, error, least)
        if not better.any():
            break
        found = np.where(better, (codes - (weight - shrink(weight - numbers, beta)) / step).mean(1), found)
        beta *= GROWTH
    return best
