"""SmoothQuant: difficulty moves from values to weights (Xiao et al., 2022).

s = max|X|^a / max|W|^(1-a) for each channel of a product's input X; X is divided by it, the rows of W are
multiplied. With a = 1 all channels of X get one range, with a = 0 all rows of W.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["ALPHAS", "smoothing"]

Floats = npt.NDArray[np.float64]

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
# A channel with next to nothing in it is not blown up farther than this.
LEAST = 1e-5


def smoothing(inputs: Floats, weights: Floats, alpha: float) -> Floats:
    """What channels with these ranges of values and of weights are divided by; 1 for dead ones."""
    alive = (inputs > 0) & (weights > 0)
    x, w = np.where(alive, inputs, 1.0), np.where(alive, weights, 1.0)
    found: Floats = np.where(alive, np.maximum(x**alpha / w ** (1 - alpha), LEAST), 1.0)
    return found
