"""How far a layer's output is from the float one, from X^T X alone.

|X D|^2 = tr(D^T H D)        <X W, X W'> = tr(W^T H W')        with H = X^T X
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["cosine", "squared_error"]

Wide = npt.NDArray[np.float64]


def squared_error(difference: Wide, gram: Wide) -> Wide:
    """|X D|^2 of each column of D: [N]."""
    found: Wide = np.einsum("kn,kn->n", difference, gram @ difference)
    return found


def cosine(weight: Wide, other: Wide, gram: Wide, *, per_channel: bool) -> Wide:
    """Cosine between X W and X W': of each column, or one over all of them; 1 where both are zero."""
    image = gram @ other
    products = np.stack([(weight * image).sum(0), (weight * (gram @ weight)).sum(0), (other * image).sum(0)])
    if not per_channel:
        products = products.sum(1, keepdims=True)
    inner, first, second = products
    sizes = np.sqrt(np.maximum(first, 0.0) * np.maximum(second, 0.0))
    found: Wide = np.where(
        sizes > 0, inner / np.where(sizes > 0, sizes, 1.0), np.where(first + second > 0, 0.0, 1.0)
    )
    return found
