"""Convolution in its plain form against the standard's implementation in float64."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import call
from tests.kernels.convolutions import Case, channels_last, channels_last_strides, exact

CASES = [
    Case((2, 3, 11), (5, 3, 3)),
    Case((1, 4, 13), (6, 2, 5), strides=(2,), dilations=(2,), pads=(3, 1), groups=2),
    Case((1, 3, 7, 9), (4, 3, 3, 3), pads=(1, 1, 1, 1)),
    Case((2, 6, 8, 5), (6, 1, 3, 3), strides=(2, 1), pads=(1, 0, 2, 1), groups=6, bias=False),
    Case((1, 4, 10, 11), (8, 4, 5, 2), strides=(3, 2), dilations=(2, 3), pads=(4, 0, 0, 2)),
    Case((1, 4, 9, 10), (3, 4, 3, 4), strides=(2, 2), auto_pad="SAME_UPPER"),
    Case((1, 4, 9, 10), (3, 4, 3, 4), strides=(2, 3), auto_pad="SAME_LOWER"),
    Case((1, 2, 5, 6), (3, 2, 2, 3), auto_pad="VALID"),
    Case((1, 2, 4, 5, 6), (3, 2, 2, 3, 3), strides=(1, 2, 1), pads=(1, 1, 0, 0, 1, 2)),
    Case((1, 1, 1, 1), (1, 1, 1, 1)),
    Case((1, 2, 3, 3), (2, 2, 1, 1), pads=(2, 2, 2, 2)),
]
# Unit roundoff of what the sums are made in, and of what they are stored in.
ROUNDOFF = {
    np.dtype(np.float64): (2.0**-53, 2.0**-53),
    np.dtype(np.float32): (2.0**-24, 2.0**-24),
    np.dtype(np.float16): (2.0**-24, 2.0**-11),
    np.dtype(ml_dtypes.bfloat16): (2.0**-24, 2.0**-8),
}


@pytest.mark.parametrize("dtype", ROUNDOFF, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_exact_but_for_rounding(case: Case, dtype: np.dtype) -> None:
    arrays = case.arrays(dtype)
    sums, sizes = exact("Conv", case, arrays)
    (got,) = call("conv", [*arrays, None], [(dtype, sums.shape)], case.ints(), threads=2)
    within, stored = ROUNDOFF[dtype]
    terms = int(np.prod(case.w[1:])) + 2
    assert (np.abs(got.astype(np.float64) - sums) <= within * terms * sizes + stored * np.abs(sums)).all()


@pytest.mark.parametrize("case", CASES, ids=str)
def test_layouts_do_not_matter(case: Case) -> None:
    x, w, b = case.arrays()
    (dense,) = call("conv", [x, w, b, None], [(np.float32, None)], case.ints())
    asked = [(np.float32, dense.shape, channels_last_strides(dense.shape))]
    (other,) = call("conv", [channels_last(x), channels_last(w), b, None], asked, case.ints(), threads=2)
    np.testing.assert_array_equal(other, dense)


@pytest.mark.parametrize(
    ("x", "w"),
    [
        ((0, 3, 5, 5), (2, 3, 3, 3)),
        ((1, 0, 5, 5), (2, 0, 3, 3)),
        ((1, 3, 5, 5), (0, 3, 3, 3)),
        ((1, 3, 2, 5), (2, 3, 3, 3)),
    ],
)
def test_no_elements(x: tuple[int, ...], w: tuple[int, ...]) -> None:
    case = Case(x, w)
    arrays = case.arrays()
    (got,) = call("conv", [*arrays, None], [(np.float32, None)], case.ints())
    assert got.shape == (x[0], w[0], x[2] - 2 if x[2] > 2 else 0, 3)
    np.testing.assert_array_equal(got, np.broadcast_to(arrays[2].reshape(1, -1, 1, 1), got.shape))


@pytest.mark.parametrize(
    ("kind", "floats", "function"),
    [
        (0, (), lambda v: v),
        (1, (), lambda v: np.maximum(v, 0)),
        (2, (-0.5, 0.75), lambda v: np.clip(v, -0.5, 0.75)),
        (3, (0.1,), lambda v: np.where(v < 0, 0.1 * v, v)),
        (4, (), lambda v: 1 / (1 + np.exp(-v))),
        (5, (), np.tanh),
        (6, (), lambda v: v / 2 * (1 + np.vectorize(math.erf)(v / math.sqrt(2)))),
        (7, (), lambda v: v / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (v + 0.044715 * v**3)))),
        (8, (1.5,), lambda v: v / (1 + np.exp(-1.5 * v))),
        (9, (0.3, 0.4), lambda v: np.clip(0.3 * v + 0.4, 0, 1)),
        (10, (), lambda v: v * np.clip(v / 6 + 0.5, 0, 1)),
        (11, (0.7,), lambda v: np.where(v < 0, 0.7 * np.expm1(v), v)),
        (12, (), lambda v: np.logaddexp(v, 0)),
        (13, (), lambda v: v * np.tanh(np.logaddexp(v, 0))),
    ],
)
@pytest.mark.parametrize("axes", [1, 2, 3])
def test_residual_and_activation(kind: int, floats: tuple[float, ...], function, axes: int) -> None:
    case = Case((2, 3, *range(4, 4 + axes)), (5, 3, *(3,) * axes), pads=(1,) * (2 * axes))
    x, w, b = case.arrays(np.float64)
    (plain,) = call("conv", [x, w, b, None], [(np.float64, None)], case.ints())
    added = np.random.default_rng(1).standard_normal(plain.shape)
    outputs = [(np.float64, None)]
    (got,) = call("conv", [x, w, b, channels_last(added)], outputs, [*case.ints(), kind], floats)
    np.testing.assert_allclose(got, function(plain + added), rtol=1e-12, atol=1e-13)
    (got,) = call("conv", [x, w, b, added], outputs, [*case.ints(), kind, 1], floats)
    np.testing.assert_allclose(got, function(plain) + added, rtol=1e-12, atol=1e-13)


def test_nan_stays() -> None:
    case = Case((1, 1, 1, 2), (1, 1, 1, 1), bias=False)
    x = np.array([[[[np.nan, -1.0]]]], np.float32)
    w = np.ones((1, 1, 1, 1), np.float32)
    (got,) = call("conv", [x, w, None, None], [(np.float32, None)], [*case.ints(), 1])
    np.testing.assert_array_equal(got, [[[[np.nan, 0.0]]]])


def test_what_does_not_fit_is_named() -> None:
    case = Case((1, 3, 5, 5), (2, 4, 3, 3))
    with pytest.raises(ExecutionError, match="3 channels in 1 groups does not fit weights of 2 filters of 4"):
        call("conv", [*case.arrays(), None], [(np.float32, (1, 2, 3, 3))], case.ints())
