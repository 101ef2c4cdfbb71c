"""Scales and codes of weights by ADMM, and the plain alternation that it becomes without H.

ADMM (after arXiv 1707.09870): W is pulled to the grid alpha * {-m..m} by a dual variable U, while the error
of the output, f(V) = tr((V - W)^T H (V - W)) / 2, decides which way:

    V <- (H + rho 1)^-1 (H W + rho (G - U))
    G <- the grid's point nearest to V + U, scale and codes by turns
    U <- U + V - G                          the best G by f is kept

Without the dual variable the grid never learns what it did wrong: that is the alternation below.

Alternation (all that MNN does): q = clip(round(w / alpha)), alpha = <q, w> / <q, q>, until nothing moves.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from graphopt.quantization.errors import squared_error

__all__ = ["admm", "alternate", "away_from_zero"]

Wide = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]
Rounding = Callable[[Wide], Wide]

ROUNDS = 30
_ALTERNATIONS = 3


def away_from_zero(numbers: Wide) -> Wide:
    """Round to the nearest integer, halves away from zero."""
    found: Wide = np.sign(numbers) * np.floor(np.abs(numbers) + 0.5)
    return found


def alternate(
    weight: Wide, alpha: Wide, most: int, rounds: int, rounding: Rounding = np.rint
) -> tuple[Wide, Integers]:
    """Scale and codes of columns by turns.

    Args:
        weight: [K, N].
        alpha: Scale of each column to begin with: [N].
        most: Largest code.
        rounds: How many turns; fewer where nothing moves.
        rounding: To integers.

    Returns:
        Scales, and the codes that they were fitted to.
    """
    scale = np.array(alpha, np.float64)
    codes = np.zeros(weight.shape)
    for _ in range(rounds):
        before = codes
        codes = np.clip(rounding(weight / scale), -most, most)
        size = (codes * codes).sum(0)
        fitted = (codes * weight).sum(0)
        # Where all codes are zero, or the fit turns the sign, the scale stays.
        scale = np.where((size > 0) & (fitted > 0), fitted / np.where(size > 0, size, 1.0), scale)
        if np.array_equal(before, codes):
            break
    return scale, codes.astype(np.int64)


def admm(
    weight: Wide,
    alpha: Wide,
    gram: Wide,
    most: int,
    *,
    rho: float | None = None,
    rounds: int = ROUNDS,
    seen: Callable[[Wide, Wide, Wide, Wide], None] | None = None,
) -> tuple[Wide, Integers]:
    """Scale of each column and codes.

    Args:
        weight: [K, N].
        alpha: Scale of each column to begin with: [N].
        gram: X^T X: [K, K].
        most: Largest code.
        rho: How hard W is pulled to the grid; None: mean of the diagonal of `gram`.
        rounds: How many.
        seen: Called after each with V, U, alpha and f(G) of each column, f without the half.
    """
    pull = float(np.diagonal(gram).mean()) if rho is None else rho
    if pull <= 0:
        return alternate(weight, alpha, most, rounds)
    scale = np.array(alpha, np.float64)
    codes = np.clip(np.rint(weight / scale), -most, most).astype(np.int64)
    grid = codes * scale
    dual = np.zeros_like(weight)
    best_scale, best_codes = scale.copy(), codes.copy()
    least = squared_error(grid - weight, gram)
    inverse = np.linalg.inv(gram + pull * np.eye(len(gram)))
    target = gram @ weight
    for _ in range(rounds):
        free = inverse @ (target + pull * (grid - dual))
        scale, codes = alternate(free + dual, scale, most, _ALTERNATIONS)
        grid = codes * scale
        dual = dual + free - grid
        error = squared_error(grid - weight, gram)
        better = error < least
        least = np.where(better, error, least)
        best_scale = np.where(better, scale, best_scale)
        best_codes = np.where(better, codes, best_codes)
        if seen is not None:
            seen(free, dual, scale, error)
    return best_scale, best_codes
