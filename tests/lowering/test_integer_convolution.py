"""Convolutions of 8-bit integers through the whole engine."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.convolutions import Case, ort
from tests.lowering.running import backend_cases, kernels_of, node_model, run

CASES = [
    Case((2, 3, 9, 7), (5, 3, 3, 3), strides=(2, 1), pads=(1, 1, 1, 1)),
    Case((1, 6, 9, 7), (6, 1, 3, 3), groups=6, pads=(0, 1, 2, 1), dilations=(2, 1)),
    Case((1, 4, 8, 9), (7, 4, 1, 1)),
    Case((1, 4, 8, 9), (6, 2, 2, 3), groups=2, auto_pad="SAME_UPPER"),
    Case((2, 64, 5, 7), (37, 64, 1, 1), strides=(2, 1)),
    Case((2, 20, 6, 7), (33, 20, 3, 3), pads=(1, 1, 1, 1), dilations=(2, 1)),
    Case((1, 37, 13, 9), (37, 1, 5, 5), groups=37, strides=(2, 2), pads=(2, 2, 2, 2)),
    Case((2, 16, 9), (40, 16, 3), pads=(1, 1)),
]
STANDARD = backend_cases("test_convinteger") | backend_cases("test_qlinearconv")


def integers(rng: np.random.Generator, dims: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    of = np.iinfo(dtype)
    return rng.integers(of.min, of.max + 1, dims).astype(dtype)


@pytest.mark.parametrize(
    ("types", "zero", "kernel"),
    [
        ((np.uint8, np.int8), 0, "conv.bytes"),
        ((np.uint8, np.uint8), 128, "conv.bytes"),
        ((np.int8, np.int8), 0, "conv.bytes"),
        ((np.uint8, np.uint8), 0, "conv.integer"),  # needs 9 bits with a sign
    ],
)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_sums_are_exact(case: Case, types: tuple[np.dtype, np.dtype], zero: int, kernel: str) -> None:
    rng = np.random.default_rng(0)
    feeds = {"x": integers(rng, case.x, types[0]), "w": integers(rng, case.w, types[1])}
    feeds |= {"xz": np.array(3, types[0]), "wz": np.array(zero, types[1])}
    model = node_model("ConvInteger", feeds, constants=["w", "xz", "wz"], **case.attributes())
    assert any(found.startswith(kernel) for found in kernels_of(model))
    wide = [(feeds["x"].astype(np.float32) - 3), feeds["w"].astype(np.float32) - zero, None]
    (expected,) = ort("Conv", wide, case.attributes())
    for threads in (1, 2):
        np.testing.assert_array_equal(run(model, feeds, threads)[0], expected.astype(np.int32))


@pytest.mark.parametrize("types", [(np.uint8, np.int8), (np.uint8, np.uint8), (np.int8, np.int8)])
@pytest.mark.parametrize("per_filter", [True, False])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_requantized_sums_are_those_of_onnxruntime(case: Case, per_filter: bool, types: tuple) -> None:
    rng = np.random.default_rng(0)
    filters = case.w[0] if per_filter else 1
    scales = rng.uniform(0.001, 0.01, filters).astype(np.float32)
    feeds = {
        "x": integers(rng, case.x, types[0]),
        "xs": np.array(0.02, np.float32),
        "xz": np.array(7, types[0]),
        "w": integers(rng, case.w, types[1]),
        "ws": scales if per_filter else scales.reshape(()),
        "wz": np.full((filters,) if per_filter else (), 0 if types[1] == np.int8 else 128, types[1]),
        "ys": np.array(0.03, np.float32),
        "yz": np.array(5, types[0]),
        "b": rng.integers(-3000, 3000, case.w[0]).astype(np.int32),
    }
    model = node_model("QLinearConv", feeds, constants=[n for n in feeds if n != "x"], **case.attributes())
    assert any(kernel.startswith("conv.bytes") for kernel in kernels_of(model))
    (expected,) = ort("QLinearConv", list(feeds.values()), case.attributes())
    np.testing.assert_array_equal(run(model, feeds)[0], expected)


@pytest.mark.parametrize("name", STANDARD)
def test_standard_cases(name: str) -> None:
    model, inputs, outputs = STANDARD[name]
    got = run(model, {i.name: a for i, a in zip(model.graph.input, inputs, strict=True)})
    for a, b in zip(got, outputs, strict=True):
        np.testing.assert_array_equal(a, b)
