"""Depthwise float32 convolution against the standard's implementation in float64."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.kernels import _engine
from tests.kernels.calling import call
from tests.kernels.convolutions import Case, channels_last, channels_last_strides, exact


def case_of(channels: int, image: tuple[int, ...], kernel: tuple[int, ...], **options: object) -> Case:
    return Case((2, channels, *image), (channels, 1, *kernel), groups=channels, **options)


CASES = [
    *[
        case_of(c, (9, w), (k, k), strides=(s, s), pads=(k // 2,) * 4)
        for c in (1, 16, 37)
        for k in (1, 3, 5, 7)
        for s in (1, 2)
        for w in (4, 23)
    ],
    case_of(20, (9, 23), (3, 3), strides=(1, 3), pads=(0, 1, 2, 0)),
    case_of(20, (9, 23), (3, 4), dilations=(2, 3), pads=(3, 2, 1, 7)),
    case_of(20, (9, 23), (3, 3), auto_pad="SAME_UPPER", strides=(2, 2)),
    case_of(20, (2, 2), (5, 5), pads=(5, 5, 5, 5)),
    case_of(20, (31,), (31,), pads=(15, 15)),
    case_of(20, (4, 5, 6), (3, 2, 3), pads=(1, 1, 1, 1, 0, 1)),
    case_of(3, (80, 9), (70, 3), pads=(1, 1, 1, 1)),
    case_of(20, (9, 23), (3, 3), bias=False),
]


def depthwise(case: Case, arrays, dims, planar: bool = False, threads: int = 1) -> np.ndarray:
    x, w, b = arrays
    packed = _engine.pack("conv.depthwise", [(w, 1)], [])
    if planar:
        return call(
            "conv.depthwise", [x, packed, b, None], [(np.float32, None)], case.ints(), threads=threads
        )[0]
    asked = [(np.float32, dims, channels_last_strides(dims))]
    return call("conv.depthwise", [channels_last(x), packed, b, None], asked, case.ints(), threads=threads)[0]


@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_exact_but_for_rounding(case: Case) -> None:
    arrays = case.arrays()
    sums, sizes = exact("Conv", case, arrays)
    bound = 2.0**-24 * (int(np.prod(case.w[1:])) + 3) * sizes
    for planar in (False, True):
        for threads in (1, 2):
            assert (np.abs(depthwise(case, arrays, sums.shape, planar, threads) - sums) <= bound).all()


@pytest.mark.parametrize("channels", [16, 21])
@pytest.mark.parametrize(("kind", "floats"), [(1, ()), (2, (-0.5, 0.75)), (8, (1.0,)), (10, ())])
@pytest.mark.parametrize("last", [0, 1])
def test_residual_and_activation(kind: int, floats: tuple[float, ...], channels: int, last: int) -> None:
    case = case_of(channels, (6, 17), (3, 3), pads=(1, 1, 1, 1))
    x, w, b = case.arrays()
    added = np.random.default_rng(1).standard_normal(case.x).astype(np.float32)
    ints = [*case.ints(), kind, last]
    packed = _engine.pack("conv.depthwise", [(w, 1)], [])
    asked = [(np.float32, case.x, channels_last_strides(case.x))]
    for residual in (None, added):
        (expected,) = call("conv", [x, w, b, residual], [(np.float32, None)], ints, floats)
        other = None if residual is None else channels_last(residual)
        (got,) = call("conv.depthwise", [channels_last(x), packed, b, other], asked, ints, floats)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)
        (got,) = call("conv.depthwise", [x, packed, b, residual], [(np.float32, None)], ints, floats)
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("x", [(0, 3, 5, 5), (1, 3, 2, 5), (0, 0, 5, 5)])
def test_no_elements(x: tuple[int, ...]) -> None:
    case = Case(x, (x[1], 1, 3, 3), groups=x[1])
    _, w, b = case.arrays()
    packed = _engine.pack("conv.depthwise", [(w, 1)], [])
    (got,) = call(
        "conv.depthwise", [np.zeros(x, np.float32), packed, b, None], [(np.float32, None)], case.ints()
    )
    assert got.shape == (x[0], x[1], x[2] - 2, 3)
