"""AdaRound: up or down for each weight, by gradient descent on the layer's output (arXiv 2004.10568).

    W' = s * clip(floor(W / s) + h(V), low, high)
    h(V) = clip(1.2 sigmoid(V) - 0.1, 0, 1)
    loss = tr((W' - W)^T H (W' - W)) / size + strength * sum(1 - |2 h - 1|^beta)

V begins where h is the fraction of W / s. beta falls from 20 to 2 after a warm start, which drives h to 0 and
1. The gradient is closed: dh/dV = 1.2 sigmoid (1 - sigmoid) where h is between; the optimizer is Adam.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["adaround", "rectified_sigmoid", "regularizer"]

Wide = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

STEPS, RATE, STRENGTH, WARM = 300, 0.05, 1.0, 0.2
_ZETA, _GAMMA = 1.1, -0.1
_BETAS = (20.0, 2.0)
_FIRST, _SECOND, _TINY = 0.9, 0.999, 1e-8


def rectified_sigmoid(v: Wide) -> Wide:
    """h: from 0 to 1, which it reaches."""
    found: Wide = np.clip((_ZETA - _GAMMA) / (1 + np.exp(-v)) + _GAMMA, 0.0, 1.0)
    return found


def regularizer(h: Wide, beta: float) -> Wide:
    """1 - |2 h - 1|^beta: zero at 0 and 1."""
    found: Wide = 1 - np.abs(2 * h - 1) ** beta
    return found


def adaround(
    weight: Wide,
    scale: Wide,
    gram: Wide,
    limits: tuple[int, int],
    *,
    zero: Wide | float = 0.0,
    steps: int = STEPS,
    rate: float = RATE,
    strength: float = STRENGTH,
) -> Integers:
    """Codes of a weight; arguments as `gptq`.

    Args:
        weight: [K, N].
        scale: Broadcastable with it.
        gram: X^T X: [K, K].
        limits: Lowest and highest code.
        zero: Zero points.
        steps: Of Adam.
        rate: Of Adam.
        strength: Of what drives h to 0 and 1, against an error that begins at 1 for each weight.
    """
    scales, zeros = np.broadcast_to(scale, weight.shape), np.broadcast_to(zero, weight.shape)
    floors = np.floor(weight / scales)
    fraction = np.clip(weight / scales - floors, 1e-4, 1 - 1e-4)
    v = -np.log((_ZETA - _GAMMA) / (fraction - _GAMMA) - 1)
    nearest = np.clip(np.rint(weight / scales) + zeros, *limits) - zeros
    size = max(_loss(nearest * scales - weight, gram), np.finfo(np.float64).tiny) / weight.size
    first, second = np.zeros_like(v), np.zeros_like(v)
    for step in range(1, steps + 1):
        sigmoid = 1 / (1 + np.exp(-v))
        h = np.clip((_ZETA - _GAMMA) * sigmoid + _GAMMA, 0.0, 1.0)
        soft = floors + h + zeros
        difference = (np.clip(soft, *limits) - zeros) * scales - weight
        gradient = 2 * (gram @ difference) * scales * ((soft >= limits[0]) & (soft <= limits[1])) / size
        done = step / steps
        if done > WARM:
            beta = _BETAS[0] + (_BETAS[1] - _BETAS[0]) * (done - WARM) / (1 - WARM)
            wide = 2 * h - 1
            gradient -= strength * 2 * beta * np.sign(wide) * np.abs(wide) ** (beta - 1)
        gradient *= (_ZETA - _GAMMA) * sigmoid * (1 - sigmoid) * ((h > 0) & (h < 1))
        first = _FIRST * first + (1 - _FIRST) * gradient
        second = _SECOND * second + (1 - _SECOND) * gradient * gradient
        v -= rate * (first / (1 - _FIRST**step)) / (np.sqrt(second / (1 - _SECOND**step)) + _TINY)
    found: Integers = np.clip(floors + (rectified_sigmoid(v) >= 0.5) + zeros, *limits).astype(np.int64)
    return found


def _loss(difference: Wide, gram: Wide) -> float:
    return float((difference * (gram @ difference)).sum())
