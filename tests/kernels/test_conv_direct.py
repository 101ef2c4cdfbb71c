"""Dense float32 convolution with packed weights against the standard's implementation in float64."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.kernels import _engine
from tests.kernels.calling import call
from tests.kernels.convolutions import Case, channels_last, channels_last_strides, exact

CASES = [
    Case((1, 3, 17, 19), (32, 3, 3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
    Case((2, 16, 9, 13), (24, 16, 3, 3), pads=(1, 1, 1, 1)),
    Case((1, 33, 7, 7), (50, 33, 3, 3), pads=(1, 1, 1, 1), bias=False),
    Case((1, 20, 14, 15), (33, 20, 1, 1)),
    Case((3, 20, 5, 4), (70, 20, 1, 1)),
    Case((1, 8, 12, 4), (8, 8, 3, 3), pads=(1, 1, 1, 1)),  # tiles of two chains, first or not
    Case((2, 20, 14, 15), (16, 20, 1, 1), strides=(2, 3)),
    Case((1, 8, 12, 11), (17, 8, 5, 5), pads=(2, 2, 2, 2)),
    Case((1, 8, 12, 11), (5, 8, 3, 2), dilations=(2, 3), pads=(3, 0, 2, 4), strides=(1, 2)),
    Case((1, 24, 9, 8), (36, 8, 3, 3), groups=3, pads=(1, 1, 1, 1)),
    Case((1, 24, 9, 8), (36, 8, 1, 1), groups=3),
    Case((1, 6, 9, 8), (6, 1, 3, 3), groups=6, pads=(0, 1, 2, 1)),
    Case((1, 80, 301), (64, 80, 3), pads=(1, 1)),
    Case((1, 1, 5000), (40, 1, 10), strides=(5,)),
    Case((2, 7, 301), (64, 7, 3), pads=(1, 1), strides=(2,), dilations=(3,)),
    Case((1, 9, 4, 5, 6), (33, 9, 3, 2, 3), pads=(1, 1, 1, 0, 1, 1)),
    Case((1, 9, 4, 5, 6), (33, 9, 1, 3, 3), pads=(1, 1, 1, 1, 1, 1), strides=(2, 1, 2)),
    Case((1, 9, 4, 5, 6), (33, 9, 2, 2, 2)),
    Case((1, 4, 3, 3), (8, 4, 3, 3), pads=(3, 3, 3, 3)),
    Case((1, 4, 2, 2), (8, 4, 5, 5), pads=(4, 4, 4, 4), dilations=(2, 2)),
    Case((1, 64, 64, 150), (32, 64, 3, 3), pads=(1, 1, 1, 1)),  # several strips of rows
    Case((1, 700, 3, 150), (16, 700, 3, 3), pads=(1, 1, 1, 1)),  # and of columns
    Case((1, 128, 5, 5), (300, 128, 3, 3), pads=(1, 1, 1, 1)),  # more weights than image
    Case((3, 20, 77, 1), (33, 20, 5, 1)),  # images of one column
    Case((2, 6, 40, 1), (18, 3, 3, 1), groups=2, pads=(2, 0, 1, 0), strides=(2, 3), dilations=(3, 2)),
    Case((1, 5, 4, 30, 1), (9, 5, 2, 3, 1), pads=(1, 1, 0, 0, 1, 0)),
    Case((1, 5, 30, 1), (9, 5, 3, 3), pads=(1, 1, 1, 1)),
]


def direct(
    case: Case, arrays: list[np.ndarray | None], *, planar: bool = False, threads: int = 1
) -> np.ndarray:
    x, w, b = arrays
    packed = _engine.pack("conv.direct", [(w, 1)], [case.groups])
    if planar:
        return call("conv.direct", [x, packed, b, None], [(np.float32, None)], case.ints(), threads=threads)[
            0
        ]
    dims = call("conv", [x, w, b, None], [(np.float32, None)], case.ints())[0].shape
    asked = [(np.float32, dims, channels_last_strides(dims))]
    return call("conv.direct", [channels_last(x), packed, b, None], asked, case.ints(), threads=threads)[0]


def assert_rounded(case: Case, arrays: list[np.ndarray | None], got: np.ndarray) -> None:
    sums, sizes = exact("Conv", case, arrays)
    terms = int(np.prod(case.w[1:])) + 2
    assert got.shape == sums.shape
    assert (np.abs(got - sums) <= 2.0**-24 * (terms + 1) * sizes).all()


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_exact_but_for_rounding(case: Case, planar: bool) -> None:
    arrays = case.arrays()
    got = direct(case, arrays, planar=planar)
    assert_rounded(case, arrays, got)
    np.testing.assert_array_equal(direct(case, arrays, planar=planar, threads=2), got)


@given(
    groups=st.integers(1, 3),
    channels=st.integers(1, 9),
    filters=st.integers(1, 20),
    image=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    kernel=st.tuples(st.integers(1, 4), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 3), st.integers(1, 3)),
    dilations=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
)
@settings(max_examples=60, deadline=None)
def test_any_window(groups, channels, filters, image, kernel, strides, dilations, pads) -> None:
    for axis in range(2):
        if image[axis] + pads[axis] + pads[axis + 2] < (kernel[axis] - 1) * dilations[axis] + 1:
            return
    case = Case(
        (2, channels * groups, *image),
        (filters * groups, channels, *kernel),
        strides,
        dilations,
        pads,
        groups,
    )
    arrays = case.arrays()
    assert_rounded(case, arrays, direct(case, arrays))
    assert_rounded(case, arrays, direct(case, arrays, planar=True))


@pytest.mark.parametrize("filters", [16, 24, 33])
@pytest.mark.parametrize(
    ("kind", "floats"), [(1, ()), (2, (-0.5, 0.75)), (3, (0.1,)), (4, ()), (8, (1.0,)), (10, ())]
)
@pytest.mark.parametrize("last", [0, 1])
def test_residual_and_activation(kind: int, floats: tuple[float, ...], filters: int, last: int) -> None:
    case = Case((2, 3, 6, 7), (filters, 3, 3, 3), pads=(1, 1, 1, 1))
    x, w, b = case.arrays()
    added = np.random.default_rng(1).standard_normal((2, filters, 6, 7)).astype(np.float32)
    ints = [*case.ints(), kind, last]
    (expected,) = call("conv", [x, w, b, added], [(np.float32, None)], ints, floats)
    packed = _engine.pack("conv.direct", [(w, 1)], [1])
    asked = [(np.float32, expected.shape, channels_last_strides(expected.shape))]
    for residual in (None, channels_last(added)):
        if residual is None:
            (expected,) = call("conv", [x, w, b, None], [(np.float32, None)], ints, floats)
        else:
            (expected,) = call("conv", [x, w, b, added], [(np.float32, None)], ints, floats)
        (got,) = call("conv.direct", [x, packed, b, residual], asked, ints, floats)
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)
        planar = None if residual is None else added
        (got,) = call("conv.direct", [x, packed, b, planar], [(np.float32, None)], ints, floats)
        np.testing.assert_allclose(got, expected, rtol=2e-5, atol=2e-5)


def test_columns_beyond_the_last_filter_are_not_written() -> None:
    """The output may be a part of a wider image: a concatenation that is written in place."""
    case = Case((1, 5, 4, 4), (7, 5, 3, 3), pads=(1, 1, 1, 1))
    x, w, b = case.arrays()
    packed = _engine.pack("conv.direct", [(w, 1)], [1])
    wide = [16 * 9, 1, 4 * 9, 9]
    for kind in (0, 4):
        (got,) = call(
            "conv.direct", [x, packed, b, None], [(np.float32, (1, 7, 4, 4), wide)], [*case.ints(), kind]
        )
        memory = np.lib.stride_tricks.as_strided(got, (1, 9, 4, 4), got.strides)
        assert (memory[:, 7:, :3] == 0).all()
        (expected,) = call("conv", [x, w, b, None], [(np.float32, None)], [*case.ints(), kind])
        np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("x", [(0, 3, 5, 5), (1, 3, 2, 5), (0, 3, 0, 0)])
def test_no_elements(x: tuple[int, ...]) -> None:
    case = Case(x, (2, 3, 3, 3))
    _, w, b = case.arrays()
    packed = _engine.pack("conv.direct", [(w, 1)], [1])
    (got,) = call(
        "conv.direct", [np.zeros(x, np.float32), packed, b, None], [(np.float32, None)], case.ints()
    )
    assert got.shape == (x[0], 2, max(x[2] - 2, 0), max(x[3] - 2, 0))


def test_an_empty_image_with_a_border() -> None:
    case = Case((1, 3, 0, 2), (2, 3, 3, 3), pads=(2, 2, 2, 2))
    x, w, b = case.arrays()
    got = direct(case, [x, w, b])
    np.testing.assert_array_equal(got, np.broadcast_to(b.reshape(1, 2, 1, 1), (1, 2, 2, 4)))
