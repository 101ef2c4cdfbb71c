"""Winograd's convolution of 3 x 3 against the standard's implementation in float64: within the bound of its own sums."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from graphopt.kernels import _engine
from tests.kernels.calling import call
from tests.kernels.convolutions import Case, channels_last, channels_last_strides, exact

CASES = [
    Case((1, 16, 8, 8), (32, 16, 3, 3), pads=(1, 1, 1, 1)),
    Case((2, 33, 9, 13), (50, 33, 3, 3), pads=(1, 1, 1, 1), bias=False),
    Case((3, 5, 7, 6), (7, 5, 3, 3)),
    Case((1, 64, 30, 31), (24, 64, 3, 3), pads=(0, 1, 2, 3)),  # several blocks of tiles
    Case((1, 200, 3, 5), (130, 200, 3, 3), pads=(1, 1, 1, 1)),  # weights from beyond L2
    Case((1, 4, 3, 3), (8, 4, 3, 3)),  # one result
    Case((1, 4, 1, 1), (8, 4, 3, 3), pads=(3, 3, 3, 3)),
    Case((1, 1, 6, 9), (1, 1, 3, 3), auto_pad="SAME_UPPER"),
    Case((0, 4, 5, 5), (8, 4, 3, 3)),
]

G = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])
B = np.array([[1, 0, -1, 0], [0, 1, 1, 0], [0, -1, 1, 0], [0, 1, 0, -1]])
A = np.array([[1, 1, 1, 0], [0, 1, -1, -1]])

Array = npt.NDArray[np.float32]


def winograd(
    case: Case, arrays: list[np.ndarray | None], *, planar: bool = False, threads: int = 1
) -> np.ndarray:
    x, w, b = arrays
    packed = _engine.pack("conv.winograd", [(w, 1)], [])
    given = [x if planar else channels_last(x), packed, b, None]
    if planar:
        return call("conv.winograd", given, [(np.float32, None)], case.ints(), threads=threads)[0]
    dims = call("conv", [x, w, b, None], [(np.float32, None)], case.ints())[0].shape
    asked = [(np.float32, dims, channels_last_strides(dims))]
    return call("conv.winograd", given, asked, case.ints(), threads=threads)[0]


def rounding(case: Case, arrays: list[np.ndarray | None], dims: tuple[int, ...]) -> np.ndarray:
    """The sums of magnitudes that the transforms make: A' (|G| |w| |G'| . |B'| |x| |B|) A, and the bias."""
    x, w, b = (None if a is None else np.abs(a.astype(np.float64)) for a in arrays)
    assert x is not None and w is not None
    up, left = (1, 1) if case.auto_pad != "NOTSET" else case.pads[:2] or (0, 0)
    n, f, height, width = dims
    rows, columns = -(-height // 2), -(-width // 2)
    room = [(0, 0), (0, 0), (up, 2 * rows + 2), (left, 2 * columns + 2)]
    filters = np.abs(G) @ w @ np.abs(G).T
    image = np.pad(x, room)
    sizes = np.zeros((n, f, 2 * rows, 2 * columns))
    for i in range(rows):
        for j in range(columns):
            tile = np.abs(B) @ image[:, :, 2 * i : 2 * i + 4, 2 * j : 2 * j + 4] @ np.abs(B).T
            sums = np.einsum("fcij,ncij->nfij", filters, tile)
            sizes[:, :, 2 * i : 2 * i + 2, 2 * j : 2 * j + 2] = np.abs(A) @ sums @ np.abs(A).T
    return sizes[:, :, :height, :width] + (0 if b is None else b[:, None, None])


def assert_rounded(case: Case, arrays: list[np.ndarray | None], got: np.ndarray) -> None:
    if got.size == 0:
        return
    sums, _ = exact("Conv", case, arrays)
    assert got.shape == sums.shape
    # A sum over channels, and two additions an axis in each of three transforms.
    assert (np.abs(got - sums) <= 2.0**-24 * (case.w[1] + 14) * rounding(case, arrays, got.shape)).all()


@pytest.mark.parametrize("planar", [False, True])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_exact_but_for_rounding(case: Case, planar: bool) -> None:
    arrays = case.arrays()
    got = winograd(case, arrays, planar=planar)
    assert_rounded(case, arrays, got)
    np.testing.assert_array_equal(winograd(case, arrays, planar=planar, threads=2), got)


@given(
    channels=st.integers(1, 40),
    filters=st.integers(1, 40),
    image=st.tuples(st.integers(1, 14), st.integers(1, 14)),
    pads=st.tuples(*[st.integers(0, 3)] * 4),
)
@settings(max_examples=40, deadline=None)
def test_any_size(channels: int, filters: int, image: tuple[int, int], pads: tuple[int, ...]) -> None:
    if any(image[axis] + pads[axis] + pads[axis + 2] < 3 for axis in range(2)):
        return
    case = Case((2, channels, *image), (filters, channels, 3, 3), pads=pads)
    arrays = case.arrays()
    got = winograd(case, arrays)
    assert_rounded(case, arrays, got)
    np.testing.assert_array_equal(winograd(case, arrays, planar=True), got)


@pytest.mark.parametrize("channels", [32, 128, 256])
def test_errors_are_of_the_size_of_the_definition(channels: int) -> None:
    """Root mean squares: at most three times those of the sums in float32 as the definition has them."""
    case = Case((1, channels, 12, 12), (64, channels, 3, 3), pads=(1, 1, 1, 1))
    x, w, b = arrays = case.arrays()
    sums, _ = exact("Conv", case, arrays)
    asked = [(np.float32, sums.shape, channels_last_strides(sums.shape))]
    packed = _engine.pack("conv.direct", [(w, 1)], [1])
    (direct,) = call("conv.direct", [channels_last(x), packed, b, None], asked, case.ints())
    errors = [float(np.sqrt(np.mean((got - sums) ** 2))) for got in (winograd(case, arrays), direct)]
    assert errors[0] <= 3 * errors[1]
    assert errors[0] <= 1e-6 * float(np.abs(sums).max())


@pytest.mark.parametrize("filters", [16, 24, 33])
@pytest.mark.parametrize(
    ("kind", "floats"), [(1, ()), (2, (-0.5, 0.75)), (3, (0.1,)), (4, ()), (8, (1.0,)), (10, ())]
)
@pytest.mark.parametrize("last", [0, 1])
def test_residual_and_activation(kind: int, floats: tuple[float, ...], filters: int, last: int) -> None:
    case = Case((2, 20, 7, 5), (filters, 20, 3, 3), pads=(1, 1, 1, 1))
    x, w, b = case.arrays()
    added = np.random.default_rng(1).standard_normal((2, filters, 7, 5)).astype(np.float32)
    ints = [*case.ints(), kind, last]
    packed = _engine.pack("conv.winograd", [(w, 1)], [])
    for residual in (None, added):
        (expected,) = call("conv", [x, w, b, residual], [(np.float32, None)], ints, floats)
        asked = [(np.float32, expected.shape, channels_last_strides(expected.shape))]
        turned = None if residual is None else channels_last(residual)
        (got,) = call("conv.winograd", [channels_last(x), packed, b, turned], asked, ints, floats)
        np.testing.assert_allclose(got, expected, rtol=5e-5, atol=5e-5)
        (got,) = call("conv.winograd", [x, packed, b, residual], [(np.float32, None)], ints, floats)
        np.testing.assert_allclose(got, expected, rtol=5e-5, atol=5e-5)


def test_an_infinity_reaches_the_tiles_that_read_it_and_no_others() -> None:
    case = Case((1, 16, 8, 8), (16, 16, 3, 3), pads=(1, 1, 1, 1))
    x, w, b = case.arrays()
    assert x is not None
    x[0, 3, 3, 3] = np.inf  # rows 2 to 4 read it, the tiles of rows 2 to 5 do
    got = winograd(case, [x, w, b])
    touched = ~np.isfinite(got).all(axis=(0, 1))
    assert touched[2:5, 2:5].all()
    touched[2:6, 2:6] = False
    assert not touched.any()


def test_refuses_other_windows() -> None:
    case = Case((1, 16, 8, 8), (16, 16, 3, 3), strides=(2, 2))
    x, w, b = case.arrays()
    packed = _engine.pack("conv.winograd", [(w, 1)], [])
    with pytest.raises(ExecutionError, match="windows of 3 x 3 and stride 1"):
        call("conv.winograd", [x, packed, b, None], [(np.float32, None)], case.ints())
    with pytest.raises(ExecutionError, match="takes filters of 3 x 3"):
        _engine.pack("conv.winograd", [(np.zeros((4, 4, 5, 5), np.float32), 1)], [])
    with pytest.raises(ExecutionError, match="bytes of weights where 16 channels need"):
        call(
            "conv.winograd",
            [x, packed[64:], b, None],
            [(np.float32, None)],
            [16, 1, 0, 3, 3, *[1] * 4, *[0] * 4],
        )
