"""Resizing through the whole engine."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.kernels.convolutions import ort, reference
from tests.lowering.running import backend_cases, kernels_of, node_model, run

CASES = backend_cases("test_resize") | backend_cases("test_upsample")
COORDINATES = ("half_pixel", "pytorch_half_pixel", "align_corners", "asymmetric", "half_pixel_symmetric")
IMAGE = np.random.default_rng(0).standard_normal((2, 3, 9, 7)).astype(np.float32)


def scaled(scales: list[float], opset: int = 19, x: np.ndarray = IMAGE, **attributes: object) -> tuple:
    feeds = {"x": x, "roi": np.zeros(0, np.float32), "scales": np.array(scales, np.float32)}
    model = node_model("Resize", feeds, constants=["roi", "scales"], opset=opset, **attributes)
    return model, feeds


@pytest.mark.parametrize("name", CASES)
def test_standard_cases(name: str) -> None:
    model, inputs, outputs = CASES[name]
    names = [i.name for i in model.graph.input]
    got = run(model, dict(zip(names, inputs, strict=True)))
    for a, b in zip(got, outputs, strict=True):
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-5)


@pytest.mark.parametrize("rounding", ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"])
@pytest.mark.parametrize(
    ("mode", "coordinates"), list(itertools.product(["nearest", "linear", "cubic"], COORDINATES))
)
def test_scales(mode: str, coordinates: str, rounding: str) -> None:
    if mode != "nearest" and rounding != "floor":
        return
    for scales in ([1, 1, 2, 3], [1, 1, 0.5, 1.4], [1, 1, 1, 0.3]):
        attributes = {"mode": mode, "coordinate_transformation_mode": coordinates, "nearest_mode": rounding}
        model, feeds = scaled(scales, **attributes)
        assert "resize" in kernels_of(model)
        # onnxruntime rounds the length before it aligns corners; the standard does not.
        judge = reference if coordinates == "align_corners" else ort
        (expected,) = judge("Resize", list(feeds.values()), attributes)
        for threads in (1, 2):
            np.testing.assert_allclose(run(model, feeds, threads)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("exclude", [0, 1])
def test_antialias(mode: str, exclude: int) -> None:
    attributes = {"mode": mode, "antialias": 1, "exclude_outside": exclude}
    model, feeds = scaled([1, 1, 0.4, 0.7], **attributes)
    (expected,) = reference("Resize", list(feeds.values()), attributes)
    np.testing.assert_allclose(run(model, feeds)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int8, np.int32, np.float64, np.float16])
@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_element_types(mode: str, dtype: np.dtype) -> None:
    x = (IMAGE * 40).astype(np.float32).clip(0, 120).astype(dtype)
    model, feeds = scaled([1, 1, 2, 3], x=x, mode=mode, coordinate_transformation_mode="asymmetric")
    attributes = {"mode": mode, "coordinate_transformation_mode": "asymmetric"}
    wide = [x.astype(np.float32), *list(feeds.values())[1:]]
    expected = ort("Resize", wide, attributes)[0].astype(dtype)
    np.testing.assert_allclose(
        run(model, feeds)[0], expected, rtol=2e-3, atol=1 if x.dtype.kind in "iu" else 2e-3
    )


@pytest.mark.parametrize("known", [True, False])
def test_sizes_of_the_run(known: bool) -> None:
    feeds = {"x": IMAGE, "sizes": np.array([2, 3, 5, 20])}
    names, dims = ["x", "", "", "sizes"], {"x": ["N", 3, "H", "W"]}
    model = node_model("Resize", feeds, inputs=names, constants=["sizes"] * known, dims=dims, mode="linear")
    (expected,) = ort("Resize", [IMAGE, None, None, feeds["sizes"]], {"mode": "linear"})
    np.testing.assert_allclose(run(model, feeds)[0], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("height", [1, 9, 0])
def test_one_program_for_all_sizes(height: int) -> None:
    feeds = {
        "x": IMAGE[:, :, :height],
        "roi": np.zeros(0, np.float32),
        "scales": np.array([1, 1, 2, 2], np.float32),
    }
    dims = {"x": ["N", 3, "H", "W"]}
    model = node_model("Resize", feeds, constants=["roi", "scales"], dims=dims, mode="linear")
    (got,) = run(model, feeds)
    assert got.shape == (2, 3, 2 * height, 14)
    if height:
        np.testing.assert_allclose(
            got, ort("Resize", list(feeds.values()), {"mode": "linear"})[0], rtol=1e-4, atol=1e-5
        )


@pytest.mark.parametrize("mode", ["nearest", "linear"])
def test_upsample(mode: str) -> None:
    feeds = {"x": IMAGE, "scales": np.array([1, 1, 2, 2], np.float32)}
    model = node_model("Upsample", feeds, constants=["scales"], opset=9, mode=mode)
    (expected,) = ort("Upsample", list(feeds.values()), {"mode": mode}, opset=9)
    np.testing.assert_allclose(run(model, feeds)[0], expected, rtol=1e-4, atol=1e-5)
    for x in (IMAGE,):
        old = node_model("Upsample", {"x": x}, opset=7, mode=mode, scales=[1.0, 1.0, 2.0, 2.0])
        np.testing.assert_allclose(run(old, {"x": x})[0], expected, rtol=1e-4, atol=1e-5)
