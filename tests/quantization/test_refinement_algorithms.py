"""Algorithms that refine scales and codes, on cases worked by hand, and where leaving one out is worse."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.quantization.adaround import adaround, rectified_sigmoid, regularizer
from graphopt.quantization.admm import admm, alternate, away_from_zero
from graphopt.quantization.descent import descend
from graphopt.quantization.easyquant import by_turns, choose_input, choose_scales, nearness
from graphopt.quantization.errors import cosine, squared_error
from graphopt.quantization.gptq import factor, gptq
from graphopt.quantization.hqq import hqq, shrink

RNG = np.random.default_rng(0)

# Worked cases are given in six digits.
DIGITS = {"rtol": 1e-6, "atol": 1e-6}


def close(found: object, expected: object) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), **DIGITS)


def layer(depth: int = 48, outputs: int = 24, rows: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Weights, and X^T X of inputs that depend on each other, as those of real layers do."""
    mixing = RNG.standard_normal((depth, depth)) * (0.85 ** np.arange(depth))
    x = RNG.standard_normal((rows, depth)) @ mixing.T
    return RNG.standard_normal((depth, outputs)), x.T @ x / rows


def largest(weight: np.ndarray, most: int) -> np.ndarray:
    return np.abs(weight).max(0) / most


def nearest(weight: np.ndarray, scale: np.ndarray, most: int) -> np.ndarray:
    return np.clip(np.rint(weight / scale), -most, most).astype(np.int64)


def error(weight: np.ndarray, codes: np.ndarray, scale: np.ndarray, gram: np.ndarray) -> float:
    return float(squared_error(codes * scale - weight, gram).sum())


# ------------------------------------------------------------------ EasyQuant

X = np.array([[1, 0.2], [-0.5, 0.3], [0.1, -2]])
W = np.array([[0.9, -0.3], [0.2, 0.7]])
PAPER = np.linspace(0.5, 2, 16)


def symmetric(x: np.ndarray, scale: float | np.ndarray, most: int) -> np.ndarray:
    return np.clip(np.rint(x / scale), -most, most) * scale


def cosine_of(input_scale: float, weight_scale: np.ndarray) -> float:
    return 1 - nearness(X @ W, symmetric(X, input_scale, 3) @ symmetric(W, weight_scale, 3), "cosine")


def test_easyquant_worked() -> None:
    first, second = 2 / 3, np.array([0.3])
    close(cosine_of(first, second), 0.955523)
    found = by_turns(X, W, first, second, 3, factors=PAPER, rounds=1)
    close(found[0], 0.666667)
    close(found[1], [0.21])
    close(cosine_of(*found), 0.985747)
    again = by_turns(X, W, first, second, 3, factors=PAPER, rounds=2)
    assert again[0] == found[0]
    assert again[1] == found[1]


def test_products_from_the_gram_matrix() -> None:
    weight, gram = layer()
    x = np.linalg.cholesky(gram).T
    other = weight + 0.1 * RNG.standard_normal(weight.shape)
    close(squared_error(other - weight, gram), ((x @ (other - weight)) ** 2).sum(0))
    y, z = x @ weight, x @ other
    close(
        cosine(weight, other, gram, per_channel=True),
        (y * z).sum(0) / np.linalg.norm(y, axis=0) / np.linalg.norm(z, axis=0),
    )
    close(
        cosine(weight, other, gram, per_channel=False),
        [(y * z).sum() / np.linalg.norm(y) / np.linalg.norm(z)],
    )


@pytest.mark.parametrize("form", ["l2", "cosine"])
@pytest.mark.parametrize("per_channel", [True, False])
def test_scales_that_are_searched_are_better(form: str, per_channel: bool) -> None:
    weight, gram = layer()
    start = largest(weight, 7) if per_channel else np.array([np.abs(weight).max() / 7])
    found = choose_scales(weight, start, gram, (-7, 7), form=form)  # type: ignore[arg-type]
    assert found.shape == start.shape
    before, after = (symmetric(weight, s, 7) for s in (start, found))
    if form == "l2":
        assert squared_error(after - weight, gram).sum() < 0.95 * squared_error(before - weight, gram).sum()
    else:
        cosines = [cosine(weight, w, gram, per_channel=per_channel).mean() for w in (before, after)]
        assert 1 - cosines[1] < 0.97 * (1 - cosines[0])


def test_the_cosine_does_not_see_a_gain() -> None:
    y = RNG.standard_normal((8, 3))
    assert nearness(y, 1.5 * y, "cosine") < 1e-12
    assert nearness(y, 1.5 * y, "l2") == pytest.approx(0.25)


def test_input_is_chosen_by_the_output() -> None:
    # A column that no output depends on has the outliers: cutting them costs nothing.
    rows = RNG.standard_normal((100, 6)) * np.array([1, 1, 1, 1, 1, 30])
    weight = RNG.standard_normal((6, 4))
    weight[5] = 0
    scales = [np.abs(rows).max() / 7, np.abs(rows[:, :5]).max() / 7]
    ways = [lambda x, s=s: symmetric(x, s, 7) for s in scales]
    losses = choose_input(rows, ways, [(weight, weight)])
    assert losses[1] < 0.05 * losses[0]


def test_seven_bits_leave_room_for_eight_products() -> None:
    weight, gram = layer()
    scale = choose_scales(weight, largest(weight, 63), gram, (-63, 63))
    codes = nearest(weight, scale, 63)
    assert np.abs(codes).max() == 63
    assert 8 * int(np.abs(codes).max()) * 63 <= 32767


# ------------------------------------------------------------------ ADMM

SMALL = np.array([[0.9], [-0.45], [0.3], [0.05]])
H = np.array([[4, 1, 0, 0], [1, 2, 0, 0], [0, 0, 1, 0.5], [0, 0, 0.5, 1.0]])


def test_alternation_worked() -> None:
    alpha = np.array([0.9 / 7.5])
    for rounds, scale, codes, distance in (
        (1, 0.211364, [3, -3, 2, 0], 0.122159),
        (2, 0.278571, [3, -2, 1, 0], 0.018571),
    ):
        found = alternate(SMALL, alpha, 3, rounds, away_from_zero)
        close(found[0], [scale])
        assert found[1][:, 0].tolist() == codes
        close(((found[1] * found[0] - SMALL) ** 2).sum(), distance)
    assert alternate(SMALL, alpha, 3, 300, away_from_zero)[0] == found[0]


def test_alternation_of_zeros_keeps_its_scale() -> None:
    found = alternate(np.zeros((3, 1)), np.array([0.5]), 3, 5)
    assert found[0] == 0.5
    assert not found[1].any()


def test_admm_worked() -> None:
    seen: list[tuple[np.ndarray, ...]] = []
    start = np.clip(np.rint(SMALL / 0.3), -3, 3) * 0.3
    close(start[:, 0], [0.9, -0.6, 0.3, 0])
    close(squared_error(start - SMALL, H), [0.0475])
    found = admm(SMALL, np.array([0.3]), H, 3, rho=2, rounds=5, seen=lambda *state: seen.append(state))
    v, u, alpha, f = seen[0]
    close(v[:, 0], [0.913043, -0.528261, 0.305714, 0.015714])
    close(alpha, [0.292955])
    close(u[:, 0], [0.034179, 0.057649, 0.012760, 0.015714])
    close(f, [0.047377])
    _, u, alpha, f = seen[4]
    close(alpha, [0.293954])
    close(u[:, 0], [0.087358, 0.138358, 0.014641, 0.026549])
    close(f, [0.047195])
    close(squared_error(found[1] * found[0] - SMALL, H), [0.047195])


def test_admm_beats_the_alternation() -> None:
    weight, gram = layer()
    start = largest(weight, 7)
    plain = alternate(weight, start, 7, 300)
    found = admm(weight, start, gram, 7)
    assert error(weight, found[1], found[0], gram) < 0.9 * error(weight, plain[1], plain[0], gram)


# ------------------------------------------------------------------ GPTQ and descent

TINY = np.array([[0.4], [1.4], [0.7]])
TINY_GRAM = np.array([[1, 0.9, 0.5], [0.9, 1, 0.3], [0.5, 0.3, 1]])


def test_gptq_worked() -> None:
    close(
        factor(TINY_GRAM, 0.0),
        [[2.753785, -2.269603, -0.696012], [0, 1.048285, -0.314485], [0, 0, 1]],
    )
    one = np.ones((1, 1))
    codes = gptq(TINY, one, TINY_GRAM, (-8, 7), damping=0.0)
    assert codes[:, 0].tolist() == [0, 2, 1]
    close(error(TINY, codes, one, TINY_GRAM), 0.166)
    close(error(TINY, nearest(TINY, one, 7), one, TINY_GRAM), 0.506)


@pytest.mark.parametrize("most", [7, 127])
def test_gptq_beats_the_nearest_codes(most: int) -> None:
    weight, gram = layer(300)
    scale = largest(weight, most)
    before = error(weight, nearest(weight, scale, most), scale, gram)
    codes = gptq(weight, scale, gram, (-most, most))
    assert np.abs(codes).max() <= most
    assert error(weight, codes, scale, gram) < 0.5 * before


def test_gptq_of_blocks_and_zero_points() -> None:
    weight, gram = layer(64)
    blocks = weight.reshape(2, 32, -1)
    low, high = blocks.min(1), blocks.max(1)
    scale = np.repeat((high - low) / 15, 32, 0)
    zero = np.repeat(np.rint(-low / ((high - low) / 15)), 32, 0)
    codes = gptq(weight, scale, gram, (0, 15), zero=zero)
    plain = np.clip(np.rint(weight / scale) + zero, 0, 15)
    assert codes.min() >= 0
    assert codes.max() <= 15
    assert error(weight, codes - zero, scale, gram) < 0.7 * error(weight, plain - zero, scale, gram)


def test_gptq_with_inputs_that_are_always_zero() -> None:
    weight, gram = layer(20)
    gram[3] = gram[:, 3] = 0
    scale = largest(weight, 7)
    codes = gptq(weight, scale, gram, (-7, 7))
    np.testing.assert_array_equal(codes[3], nearest(weight, scale, 7)[3])


def test_descent_never_loses_and_finds_the_best_of_three() -> None:
    one = np.ones((1, 1))
    found = descend(TINY, nearest(TINY, one, 7), one, TINY_GRAM, (-8, 7), rounds=5)
    assert error(TINY, found, one, TINY_GRAM) <= 0.506
    weight, gram = layer(300)
    scale = largest(weight, 7)
    codes = gptq(weight, scale, gram, (-7, 7))
    better = descend(weight, codes, scale, gram, (-7, 7))
    assert error(weight, better, scale, gram) < 0.98 * error(weight, codes, scale, gram)


# ------------------------------------------------------------------ AdaRound


def test_rectified_sigmoid_worked() -> None:
    close(rectified_sigmoid(np.array([0, 1, 2.397896, -2.4])), [0.5, 0.777270, 1, 0])
    close(regularizer(np.array(0.9), 20), 0.988471)
    close(regularizer(np.array(0.9), 2), 0.36)


def test_adaround_finds_the_best_of_three() -> None:
    codes = adaround(TINY, np.ones((1, 1)), TINY_GRAM, (-8, 7))
    assert codes[:, 0].tolist() == [0, 2, 1]


def test_adaround_beats_the_nearest_codes_and_goes_up_or_down() -> None:
    weight, gram = layer()
    scale = largest(weight, 7)
    codes = adaround(weight, scale, gram, (-7, 7))
    assert np.abs(codes - weight / scale).max() <= 1 + 1e-9
    before = error(weight, nearest(weight, scale, 7), scale, gram)
    assert error(weight, codes, scale, gram) < 0.6 * before


# ------------------------------------------------------------------ HQQ


def test_hqq_worked() -> None:
    close(shrink(np.array([0.5, -0.2, 0.05])), [0.376886, -0.037934, 0])
    w = np.array([[-1, -0.37, 0.13, 0.41, 0.93, 1.7]])
    scale = (w.max(1) - w.min(1)) / 7
    zero = -w.min(1) / scale
    close(scale, [0.385714])
    close(zero, [2.592593])

    def mse(z: np.ndarray) -> float:
        codes = np.clip(np.rint(w / scale + z), 0, 7)
        return float((((codes - z) * scale - w) ** 2).mean())

    close(mse(zero), 0.006399)
    found = hqq(w, scale, zero, (0, 7), rounds=1)
    close(found, [2.722222])
    close(mse(found), 0.003899)
    close(hqq(w, scale, zero, (0, 7)), [2.722222])


def test_hqq_serves_the_others_where_there_are_outliers() -> None:
    w = RNG.standard_t(2, (200, 32))
    scale = (w.max(1) - w.min(1)) / 15
    zero = np.rint(-w.min(1) / scale)

    def mean(z: np.ndarray) -> float:
        codes = np.clip(np.rint(w / scale[:, None] + z[:, None]), 0, 15)
        return float((((codes - z[:, None]) * scale[:, None] - w) ** 2).mean())

    assert mean(hqq(w, scale, zero, (0, 15))) < 0.97 * mean(zero)
