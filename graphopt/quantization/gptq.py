"""GPTQ: each weight is rounded so that the weights after it can make up for the error (arXiv 2210.17323).

    H = X^T X + damping * mean(diag H) * 1,  H^-1 = U^T U with U upper triangular
    for k = 1..K:  q_k = round(w_k / s_k),  e = (w_k - q_k s_k) / U_kk,  w_j -= e U_kj for all j > k

Rows of W (inputs) are visited from the largest diagonal element of H to the smallest: what matters most is
rounded while most can still make up for it. All columns (outputs) are independent and go in step.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["DAMPING", "factor", "gptq"]

Wide = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

DAMPING = 0.01
# Rows between two matrix products that carry errors further on.
_TOGETHER = 128


def factor(gram: Wide, damping: float) -> Wide:
    """U, upper triangular, with U^T U the inverse of a Gram matrix that is made regular.

    Args:
        gram: X^T X: [K, K]; inputs that are always zero get a one on the diagonal.
        damping: What is added to the diagonal, in means of it.
    """
    regular = np.array(gram, np.float64)
    diagonal = np.diagonal(regular)
    added = damping * float(diagonal.mean()) + np.where(diagonal > 0, 0.0, 1.0)
    regular[np.diag_indices_from(regular)] += added
    found: Wide = np.linalg.cholesky(np.linalg.inv(regular)).T
    return found


def gptq(
    weight: Wide,
    scale: Wide,
    gram: Wide,
    limits: tuple[int, int],
    *,
    zero: Wide | float = 0.0,
    damping: float = DAMPING,
) -> Integers:
    """Codes of a weight.

    Args:
        weight: [K, N].
        scale: Broadcastable with it; positive.
        gram: X^T X: [K, K].
        limits: Lowest and highest code.
        zero: Zero points, broadcastable with it.
        damping: Of `gram`.
    """
    depth = len(weight)
    order = np.argsort(-np.diagonal(gram), kind="stable")
    upper = factor(gram[np.ix_(order, order)], damping)
    scales = np.broadcast_to(scale, weight.shape)[order]
    zeros = np.broadcast_to(zero, weight.shape)[order]
    left = np.array(weight, np.float64)[order]
    codes = np.empty(left.shape, np.int64)
    for first in range(0, depth, _TOGETHER):
        last = min(first + _TOGETHER, depth)
        errors = np.empty((last - first, weight.shape[1]))
        for k in range(first, last):
            row = np.clip(np.rint(left[k] / scales[k]) + zeros[k], *limits)
            codes[k] = row
            errors[k - first] = (left[k] - (row - zeros[k]) * scales[k]) / upper[k, k]
            left[k + 1 : last] -= np.outer(upper[k, k + 1 : last], errors[k - first])
        left[last:] -= upper[first:last, last:].T @ errors
    found = np.empty_like(codes)
    found[order] = codes
    return found
