"""Mean and variance of weights after rounding, restored for each output (Banner et al., 2018).

    W'' = xi (W' - mean W') + mean W,    xi = |W - mean W| / |W' - mean W'|

The factor goes into the scale of an output, which costs nothing. What is added to all its weights can't stay
in codes: it shifts the output by itself times the sum of the inputs, whose mean goes into the bias.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["as_scale_and_shift", "moments", "restored"]

Wide = npt.NDArray[np.float64]


def moments(weight: Wide, near: Wide) -> tuple[Wide, Wide]:
    """For each row the difference of the means, and the ratio of the deviations; 1 for flat rows."""
    means = weight.mean(1) - near.mean(1)
    sizes = [np.linalg.norm(a - a.mean(1, keepdims=True), axis=1) for a in (weight, near)]
    ratio: Wide = np.divide(sizes[0], sizes[1], out=np.ones_like(sizes[0]), where=sizes[1] > 0)
    return means, ratio


def restored(weight: Wide, near: Wide) -> Wide:
    """Rounded weights with the means and deviations of the float ones: [outputs, K]."""
    _, ratio = moments(weight, near)
    found: Wide = ratio[:, None] * (near - near.mean(1, keepdims=True)) + weight.mean(1, keepdims=True)
    return found


def as_scale_and_shift(weight: Wide, near: Wide, inputs: Wide) -> tuple[Wide, Wide]:
    """The same as a factor of each output's scale and a shift of the output, for inputs with these means."""
    _, ratio = moments(weight, near)
    shift: Wide = (weight.mean(1) - ratio * near.mean(1)) * inputs.sum()
    return ratio, shift
