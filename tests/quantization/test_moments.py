"""Mean and deviation of each output's weights come back after rounding."""

from __future__ import annotations

import numpy as np

from graphopt.quantization.moments import as_scale_and_shift, moments, restored

W = np.array([[0.9, 0.5, 0.1, -0.2], [-0.3, 0.2, 0.8, 0.6]])
NEAR = np.array([[0.9, 0.9, 0, 0], [0, 0, 0.8, 0.8]])


def test_worked_case() -> None:
    means, ratio = moments(W, NEAR)
    np.testing.assert_allclose(means, [-0.125, -0.075], rtol=1e-6)
    np.testing.assert_allclose(ratio, [0.921285, 1.051413], rtol=1e-6)
    found = restored(W, NEAR)
    expected = [[0.739578, 0.739578, -0.089578, -0.089578], [-0.095565, -0.095565, 0.745565, 0.745565]]
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(found.mean(1), W.mean(1))
    np.testing.assert_allclose(((NEAR - W) ** 2).mean(), 0.0475, rtol=1e-6)
    np.testing.assert_allclose(((found - W) ** 2).mean(), 0.035571, rtol=1e-4)


def test_scale_and_shift_give_the_same_mean_output() -> None:
    inputs = np.full(4, 0.7)
    ratio, shift = as_scale_and_shift(W, NEAR, inputs)
    np.testing.assert_allclose((ratio[:, None] * NEAR) @ inputs + shift, restored(W, NEAR) @ inputs)


def test_flat_rows_keep_their_size() -> None:
    _, ratio = moments(np.ones((1, 3)), np.ones((1, 3)))
    np.testing.assert_array_equal(ratio, [1])
