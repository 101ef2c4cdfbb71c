"""Coordinate descent over codes: each in turn takes its best value while all others stay (arXiv 2309.01885).

    D = G - W,  code_k <- round((g_k - (H D)_k / H_kk) / s_k)

The error tr(D^T H D) never grows. It starts from what GPTQ has found, which never looks back.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["descend"]

Wide = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_TOGETHER = 128


def descend(
    weight: Wide,
    codes: Integers,
    scale: Wide,
    gram: Wide,
    limits: tuple[int, int],
    *,
    zero: Wide | float = 0.0,
    rounds: int = 2,
) -> Integers:
    """Codes with no larger error than those given; arguments as `gptq`."""
    scales = np.broadcast_to(scale, weight.shape)
    zeros = np.broadcast_to(zero, weight.shape)
    numbers = (codes - zeros) * scales
    diagonal = np.diagonal(gram)
    found = np.array(codes, np.int64)
    for _ in range(rounds):
        gradient = gram @ (numbers - weight)
        changed = False
        for first in range(0, len(weight), _TOGETHER):
            last = min(first + _TOGETHER, len(weight))
            near = gradient[first:last].copy()
            moved = np.zeros_like(near)
            for k in range(first, last):
                if diagonal[k] <= 0:
                    continue
                best = numbers[k] - near[k - first] / diagonal[k]
                row = np.clip(np.rint(best / scales[k]) + zeros[k], *limits)
                step = (row - zeros[k]) * scales[k] - numbers[k]
                if not step.any():
                    continue
                changed = True
                found[k] = row
                numbers[k] += step
                moved[k - first] = step
                near += np.outer(gram[first:last, k], step)
            gradient += gram[:, first:last] @ moved
        if not changed:
            break
    return found
