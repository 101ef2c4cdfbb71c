"""EasyQuant: scales of weights and input by turns, so that the layer's output is nearest (arXiv 2006.16669).

    maximise cos(X W, Q(X; s_x) Q(W; s_w)) over s_w = k * s0_w, then over s_x = k * s0_x, until none moves

A candidate for the weights costs no product with X: <Y, Y'> = tr(W^T X^T X W'). Of several scales (one a
column) each is chosen on its own. The cosine does not see a gain that is wrong; where an Add follows, it
matters: then the squared error is minimised instead.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import numpy as np
import numpy.typing as npt

__all__ = ["FACTORS", "Form", "by_turns", "choose_input", "choose_scales", "nearness"]

Wide = npt.NDArray[np.float64]
Form = Literal["cosine", "l2"]

# The paper looks from 0.5 to 2; beyond the largest weight nothing is gained at 8 bits.
FACTORS: tuple[float, ...] = tuple(float(f) for f in np.linspace(0.5, 1.25, 76))
_ROUNDS = 3


def choose_scales(
    weight: Wide,
    start: Wide,
    gram: Wide,
    limits: tuple[int, int],
    *,
    inner: Wide | None = None,
    form: Form = "l2",
    factors: Sequence[float] = FACTORS,
) -> Wide:
    """The scale that makes the output nearest; that of the first of equals.

    Args:
        weight: [K, N].
        start: Scales that factors are of: [1] for one scale, or [N] for one a column.
        gram: X'^T X' of the input as it will be: [K, K].
        limits: Lowest and highest code.
        inner: X'^T X: between the input as it will be and as it is; None: they are the same.
        form: What is compared.
        factors: To try.
    """
    per_channel = start.size == weight.shape[1] and start.size > 1
    # X'^T X W is the target of X' W': with it, X'^T X' tells all that depends on W'.
    target = gram @ weight if inner is None else inner @ weight
    best = np.full(start.shape, np.inf)
    found = np.array(start, np.float64)
    for factor in factors:
        scale = start * factor
        other = np.clip(np.rint(weight / scale), *limits) * scale
        image = gram @ other
        products = (target * other).sum(0), (image * other).sum(0)
        if not per_channel:
            products = products[0].sum(keepdims=True), products[1].sum(keepdims=True)
        if form == "l2":
            loss = products[1] - 2 * products[0]
        else:
            loss = -products[0] / np.sqrt(np.maximum(products[1], np.finfo(np.float64).tiny))
        # Differences in the last digits are none: the first of equals stays.
        better = loss < best - 1e-12 * np.abs(best) if np.isfinite(best).all() else loss < best
        best, found = np.where(better, loss, best), np.where(better, scale, found)
    return found


def choose_input(
    rows: Wide,
    candidates: Sequence[Callable[[Wide], Wide]],
    consumers: Sequence[tuple[Wide, Wide]],
    form: Form = "l2",
) -> list[float]:
    """How far the output is, for each way to quantize the input; the least is the best.

    Args:
        rows: X: [rows, K].
        candidates: Each makes X' of X.
        consumers: Weights [K, N] as they are and as they will be, of all that take the input.
        form: What is compared. Squared errors are shares of the outputs' squares, summed over consumers.
    """
    found: list[float] = []
    outputs = [rows @ weight for weight, _ in consumers]
    for candidate in candidates:
        quantized = candidate(rows)
        pairs = zip(outputs, consumers, strict=True)
        found.append(sum(nearness(y, quantized @ other, form) for y, (_, other) in pairs))
    return found


def nearness(output: Wide, other: Wide, form: Form) -> float:
    """Squared error as a share of the squares, or one less the cosine: zero for the same."""
    size = float((output * output).sum())
    if form == "l2":
        return float(((other - output) ** 2).sum()) / max(size, np.finfo(np.float64).tiny)
    both = np.sqrt(size * float((other * other).sum()))
    return 1.0 - float((output * other).sum()) / both if both > 0 else float(size > 0)


def by_turns(
    rows: Wide,
    weight: Wide,
    input_scale: float,
    weight_scale: Wide,
    most: int,
    *,
    form: Form = "cosine",
    factors: Sequence[float] = FACTORS,
    rounds: int = _ROUNDS,
) -> tuple[float, Wide]:
    """Scales of the input and of the weight, both symmetric with codes up to `most`, by turns.

    Args:
        rows: X: [rows, K].
        weight: [K, N].
        input_scale: To begin with.
        weight_scale: To begin with: [1] or [N].
        most: Largest code of both; 63 for 7 bits, 127 for 8.
        form: What is compared.
        factors: Of the scales to begin with.
        rounds: At most.
    """

    def quantized(numbers: Wide, scale: Wide | float) -> Wide:
        found: Wide = np.clip(np.rint(numbers / scale), -most, most) * scale
        return found

    first, second = input_scale, weight_scale
    for _ in range(rounds):
        there = quantized(rows, first)
        chosen = choose_scales(
            weight,
            weight_scale,
            there.T @ there,
            (-most, most),
            inner=there.T @ rows,
            form=form,
            factors=factors,
        )
        other = quantized(weight, chosen)
        scales = [input_scale * factor for factor in factors]
        ways = [partial(quantized, scale=scale) for scale in scales]
        losses = choose_input(rows, ways, [(weight, other)], form)
        moved = scales[int(np.argmin(losses))]
        if first in scales and min(losses) > losses[scales.index(first)] - 1e-12:
            moved = first
        is_same = moved == first and np.array_equal(chosen, second)
        first, second = moved, chosen
        if is_same:
            break
    return first, second
