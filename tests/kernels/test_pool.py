"""Pooling against onnxruntime and the standard's implementation, in both layouts."""

from __future__ import annotations

import itertools

import ml_dtypes
import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import call
from tests.kernels.convolutions import AUTO_PADS, channels_last, channels_last_strides, ort, reference

KINDS = {"MaxPool": 0, "AveragePool": 1, "LpPool": 2}
WINDOWS = [
    {"kernel_shape": [3], "strides": [2], "pads": [1, 1]},
    {"kernel_shape": [2, 2], "strides": [2, 2]},
    {"kernel_shape": [3, 3], "strides": [2, 2], "pads": [1, 1, 1, 1], "ceil_mode": 1},
    {"kernel_shape": [3, 2], "strides": [1, 3], "pads": [0, 1, 2, 0]},
    {"kernel_shape": [3, 3], "strides": [2, 3], "auto_pad": "SAME_UPPER"},
    {"kernel_shape": [2, 3], "strides": [2, 2], "auto_pad": "SAME_LOWER"},
    {"kernel_shape": [3, 3], "dilations": [2, 3], "pads": [1, 2, 2, 1]},
    {"kernel_shape": [2, 3, 2], "strides": [1, 2, 2], "pads": [1, 1, 0, 0, 1, 1]},
    {"kernel_shape": [2, 2], "strides": [3, 3], "ceil_mode": 1},
]


def ints_of(op: str, window: dict[str, object]) -> list[int]:
    rank = len(window["kernel_shape"])
    ones = [1] * rank
    return [
        KINDS[op],
        AUTO_PADS.index(window.get("auto_pad", "NOTSET")),
        window.get("ceil_mode", 0),
        window.get("count_include_pad", 0),
        window.get("storage_order", 0),
        window.get("p", 2),
        *window["kernel_shape"],
        *window.get("strides", ones),
        *window.get("dilations", ones),
        *window.get("pads", [0] * (2 * rank)),
    ]


def image(window: dict[str, object], channels: int = 5, dtype: np.dtype = np.float32) -> np.ndarray:
    dims = (2, channels, 9, 11, 7)[: 2 + len(window["kernel_shape"])]
    if np.dtype(dtype).kind in "iu":
        return np.random.default_rng(0).integers(0, 100, dims).astype(dtype)
    return np.random.default_rng(0).standard_normal(dims).astype(dtype)


@pytest.mark.parametrize("channels", [1, 5, 16, 83])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
@pytest.mark.parametrize("op", KINDS)
def test_windows_of_floats(op: str, window: dict[str, object], channels: int) -> None:
    x = image(window, channels)
    for options in (
        [{}]
        if op == "MaxPool"
        else [{"count_include_pad": 1}, {}]
        if op == "AveragePool"
        else [{"p": 1}, {"p": 2}, {"p": 3}]
    ):
        settings = window | options
        (expected,) = ort(op, [x], settings)
        for threads in (1, 2):
            (got, _) = call(
                "pool", [x], [(np.float32, None), (np.int64, None)], ints_of(op, settings), threads=threads
            )
            np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)
            asked = [(np.float32, expected.shape, channels_last_strides(expected.shape))]
            (got,) = call("pool", [channels_last(x)], asked, ints_of(op, settings), threads=threads)
            np.testing.assert_allclose(got, expected, rtol=2e-6, atol=1e-6)


@pytest.mark.parametrize("storage_order", [0, 1])
@pytest.mark.parametrize("window", [w for w in WINDOWS if "auto_pad" not in w], ids=str)
def test_where_maxima_are(window: dict[str, object], storage_order: int) -> None:
    settings = window | {"storage_order": storage_order}
    x = np.round(image(window) * 2)  # with ties
    if storage_order and x.ndim != 4:
        return
    expected = ort("MaxPool", [x], settings, outputs=2)
    got = call(
        "pool", [channels_last(x)], [(np.float32, None), (np.int64, None)], ints_of("MaxPool", settings)
    )
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.float16, np.float64, ml_dtypes.bfloat16])
@pytest.mark.parametrize("op", KINDS)
def test_element_types(op: str, dtype: np.dtype) -> None:
    window = WINDOWS[3]
    x = image(window, dtype=dtype)
    ints = ints_of(op, window)
    if np.dtype(dtype).kind in "iu" and op != "MaxPool":
        with pytest.raises(ExecutionError, match="does not take element type"):
            call("pool", [x], [(dtype, None), (np.int64, None)], ints)
        return
    (expected,) = ort(op, [x.astype(np.float32)], window)
    (got, _) = call("pool", [x], [(dtype, None), (np.int64, None)], ints)
    near = {2: 1e-3, 1: 0, 8: 1e-6}[np.dtype(dtype).itemsize] if dtype is not ml_dtypes.bfloat16 else 4e-3
    np.testing.assert_allclose(got.astype(np.float32), expected, rtol=near, atol=near)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("channels", [1, 5, 64, 130])
@pytest.mark.parametrize("dtype", [np.int8, np.uint8])
@pytest.mark.parametrize("window", WINDOWS, ids=str)
def test_maxima_of_bytes(window: dict[str, object], dtype: type, channels: int, threads: int) -> None:
    rank = len(window["kernel_shape"])
    dims = (2, channels, 9, 11, 7)[: 2 + rank]
    info = np.iinfo(dtype)
    x = np.random.default_rng(0).integers(info.min, info.max + 1, dims).astype(dtype)
    (expected,) = ort("MaxPool", [x.astype(np.float32)], window)
    asked = [(dtype, expected.shape, channels_last_strides(expected.shape))]
    (got,) = call("pool", [channels_last(x)], asked, ints_of("MaxPool", window), threads=threads)
    # A window on nothing but padding has the least number of the type.
    np.testing.assert_array_equal(got, np.maximum(expected, info.min))


@pytest.mark.parametrize(("op", "last"), list(itertools.product(KINDS, [False, True])))
def test_the_whole_image(op: str, last: bool) -> None:
    x = np.random.default_rng(0).standard_normal((3, 37, 7, 5)).astype(np.float32)
    (expected,) = ort("Global" + op, [x], {})
    ints = [KINDS[op], 0, 0, 0, 0, 2, *(0, 0), *(1,) * 4, *(0,) * 4]
    asked = [(np.float32, expected.shape, channels_last_strides(expected.shape))]
    (got,) = call("pool", [channels_last(x) if last else x], asked, ints, threads=2)
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_nan_is_the_maximum() -> None:
    x = np.array([[[1, np.nan, 2, 3, -np.inf, -np.inf]]], np.float32)
    for layout in (x, channels_last(np.repeat(x, 2, 1))):
        asked = [(np.float32, (*layout.shape[:2], 3), channels_last_strides((*layout.shape[:2], 3)))]
        (got,) = call("pool", [layout], asked, ints_of("MaxPool", {"kernel_shape": [2], "strides": [2]}))
        np.testing.assert_array_equal(got[0, 0], [np.nan, 3, -np.inf])


@pytest.mark.parametrize("dims", [(0, 3, 4, 4), (2, 0, 4, 4), (1, 3, 1, 4)])
def test_no_elements(dims: tuple[int, ...]) -> None:
    x = np.zeros(dims, np.float32)
    (got, _) = call(
        "pool", [x], [(np.float32, None), (np.int64, None)], ints_of("MaxPool", {"kernel_shape": [2, 2]})
    )
    assert got.shape == (*dims[:2], dims[2] - 1, 3)


@pytest.mark.parametrize("output", [None, (2, 3, 10, 9)])
def test_unpool(output: tuple[int, ...] | None) -> None:
    x = np.random.default_rng(0).standard_normal((2, 3, 8, 8)).astype(np.float32)
    y, indices = ort("MaxPool", [x], {"kernel_shape": [2, 2], "strides": [2, 2]}, outputs=2)
    asked = None if output is None else np.array(output, np.int64)
    ints = [2, 2, 2, 2, 1, 1, 0, 0, 0, 0]
    (got,) = call("max.unpool", [y, indices, asked], [(np.float32, None)], ints, threads=2)
    (plain,) = reference("MaxUnpool", [y, indices], {"kernel_shape": [2, 2], "strides": [2, 2]})
    expected = np.zeros(output or plain.shape, np.float32)
    expected[:, :, :8, :8] = plain
    np.testing.assert_array_equal(got, expected)
    indices[1, 2, 3, 3] = 9999
    with pytest.raises(ExecutionError, match="index 9999 of plane 5"):
        call("max.unpool", [y, indices, asked], [(np.float32, None)], ints)
