"""Places of grids and regions of images, through the engine and through onnxruntime or the reference."""

from __future__ import annotations

import itertools

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from graphopt.errors import ExecutionError
from graphopt.ir.evaluate.plain import plain_session
from graphopt.runtime import InferenceSession
from tests.lowering.comparing import parsed
from tests.lowering.running import kernels_of, node_model

MODES = ("nearest", "linear", "cubic")
PADDINGS = ("zeros", "border", "reflection")


def floats(*dims: int, seed: int = 0, dtype: type = np.float32) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dims).astype(dtype)


def grid(*dims: int, seed: int = 1, dtype: type = np.float32) -> np.ndarray:
    """Places in and around an image, corners and edges among them."""
    rng = np.random.default_rng(seed)
    places = rng.uniform(-1.6, 1.6, dims)
    on_edge = rng.random(dims) < 0.2
    return np.where(on_edge, rng.choice([-1.0, 0.0, 1.0], dims), places).astype(dtype)


def assert_native(
    model: onnx.ModelProto, feeds: dict[str, np.ndarray], tolerance: float = 2e-6, threads: int = 1
) -> None:
    """One kernel of ours gives what onnxruntime does."""
    assert "reference" not in kernels_of(model)
    (wanted,) = plain_session(model).run(None, feeds)
    (got,) = InferenceSession(model, optimize=False, threads=threads).run(None, feeds)
    assert isinstance(got, np.ndarray)
    assert (got.shape, got.dtype) == (wanted.shape, wanted.dtype)
    np.testing.assert_allclose(got, wanted, rtol=tolerance, atol=tolerance * 4)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("aligns", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES)
def test_grid_over_images(mode: str, padding: str, aligns: int, threads: int) -> None:
    feeds = {"x": floats(2, 5, 6, 9), "grid": grid(2, 7, 11, 2)}
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": aligns}
    # A cubic's weights are sums that cancel.
    assert_native(node_model("GridSample", feeds, opset=20, **attributes), feeds, 1e-5, threads)


@pytest.mark.parametrize(
    ("mode", "renamed"), [("bilinear", "linear"), ("bicubic", "cubic"), ("nearest", "nearest")]
)
def test_names_of_modes_before_opset_20(mode: str, renamed: str) -> None:
    feeds = {"x": floats(1, 2, 5, 4), "grid": grid(1, 3, 3, 2)}
    old = node_model("GridSample", feeds, opset=16, mode=mode)
    new = node_model("GridSample", feeds, opset=20, mode=renamed)
    assert kernels_of(old) == ["grid_sample"]
    (a,), (b,) = (InferenceSession(m, optimize=False).run(None, feeds) for m in (old, new))
    np.testing.assert_array_equal(a, b)
    assert_native(old, feeds, 1e-5)


@pytest.mark.parametrize("aligns", [0, 1])
@pytest.mark.parametrize("padding", PADDINGS)
@pytest.mark.parametrize("mode", MODES[:2])
def test_grid_over_volumes(mode: str, padding: str, aligns: int) -> None:
    feeds = {"x": floats(2, 3, 4, 5, 6), "grid": grid(2, 3, 2, 5, 3)}
    attributes = {"mode": mode, "padding_mode": padding, "align_corners": aligns}
    assert_native(node_model("GridSample", feeds, opset=20, **attributes), feeds)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "dims", [((2, 3, 7), (2, 5, 1)), ((1, 2, 4, 5), (1, 3, 2, 2)), ((1, 1, 3, 4, 2), (1, 2, 2, 2, 3))]
)
def test_grid_of_other_types_and_ranks(
    dims: tuple[tuple[int, ...], tuple[int, ...]], mode: str, dtype: type
) -> None:
    feeds = {"x": floats(*dims[0], dtype=dtype), "grid": grid(*dims[1], dtype=dtype)}
    model = node_model("GridSample", feeds, opset=22, mode=mode)
    assert kernels_of(model) == ["grid_sample"]
    (got,) = InferenceSession(model, optimize=False).run(None, feeds)
    wide = {name: array.astype(np.float64) for name, array in feeds.items()}
    (wanted,) = ReferenceEvaluator(node_model("GridSample", wide, opset=22, mode=mode)).run(None, wide)
    assert isinstance(got, np.ndarray) and got.dtype == dtype
    # The reference keeps places as float32.
    tolerance = 1e-4 if dtype is np.float64 else 2e-3
    np.testing.assert_allclose(got.astype(np.float64), wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("mode", MODES)
def test_grid_of_doubles(mode: str) -> None:
    feeds = {"x": floats(2, 3, 4, 5, dtype=np.float64), "grid": grid(2, 3, 4, 2, dtype=np.float64)}
    assert_native(node_model("GridSample", feeds, opset=20, mode=mode), feeds, 1e-12)


@pytest.mark.parametrize(
    "dims", [((0, 3, 4, 5), (0, 2, 2, 2)), ((2, 0, 4, 5), (2, 2, 2, 2)), ((2, 3, 4, 5), (2, 0, 3, 2))]
)
def test_grid_without_elements(dims: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    feeds = {"x": floats(*dims[0]), "grid": grid(*dims[1])}
    (got,) = InferenceSession(node_model("GridSample", feeds, opset=20), optimize=False).run(None, feeds)
    assert isinstance(got, np.ndarray) and got.shape == (*dims[0][:2], *dims[1][1:-1])


def test_nothing_to_sample_is_zero() -> None:
    feeds = {"x": floats(1, 2, 0, 3), "grid": grid(1, 2, 2, 2)}
    (got,) = InferenceSession(node_model("GridSample", feeds, opset=20), optimize=False).run(None, feeds)
    np.testing.assert_array_equal(got, np.zeros((1, 2, 2, 2), np.float32))


@pytest.mark.parametrize(("mode", "padding"), list(itertools.product(MODES, PADDINGS)))
def test_places_that_are_no_numbers_read_no_memory_of_others(mode: str, padding: str) -> None:
    places = np.array([np.nan, np.inf, -np.inf, 1e30, -1e30, 3e9], np.float32)
    feeds = {"x": floats(1, 1, 3, 4), "grid": np.stack([places, places[::-1]], -1)[None, None]}
    model = node_model("GridSample", feeds, opset=20, mode=mode, padding_mode=padding)
    (got,) = InferenceSession(model, optimize=False).run(None, feeds)
    assert isinstance(got, np.ndarray) and np.isfinite(got).all()
    if padding == "zeros":
        np.testing.assert_array_equal(got, np.zeros_like(got))


def test_what_lies_outside_does_not_meet_the_first_element() -> None:
    x = np.ones((1, 1, 2, 2), np.float32)
    x[0, 0, 0, 0] = np.inf
    feeds = {"x": x, "grid": np.full((1, 1, 1, 2), 5.0, np.float32)}
    (got,) = InferenceSession(node_model("GridSample", feeds, opset=20), optimize=False).run(None, feeds)
    np.testing.assert_array_equal(got, np.zeros((1, 1, 1, 1), np.float32))


def test_grid_over_a_view() -> None:
    graph = """g (float[N,H,W,C] x, float[N,P,Q,2] grid) => (float[N,C,P,Q] y) {
        t = Transpose <perm = [0, 3, 1, 2]> (x)
        y = GridSample (t, grid)
    }"""
    assert_native(parsed(graph, opset=20), {"x": floats(2, 4, 5, 3), "grid": grid(2, 3, 4, 2)})


@pytest.mark.parametrize("shape", [(3, 2, 2, 2), (2, 2, 2, 3)])
def test_grid_of_another_shape(shape: tuple[int, ...]) -> None:
    feeds = {"x": floats(2, 1, 4, 4), "grid": grid(*shape)}
    model = node_model("GridSample", feeds, opset=20, dims={"grid": ["a", "b", "c", "d"]})
    with pytest.raises(ExecutionError, match="sampled at a grid of shape"):
        InferenceSession(model, optimize=False).run(None, feeds)


def regions(count: int, seed: int = 2) -> np.ndarray:
    """Corners in and around an image of 12 x 16 pixels; some empty, some turned."""
    rng = np.random.default_rng(seed)
    corner = rng.uniform(-3, 14, (count, 2))
    size = rng.uniform(-1, 9, (count, 2))
    return np.concatenate([corner, corner + size], 1).astype(np.float32)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("samples", [0, 2])
@pytest.mark.parametrize("mode", ["avg", "max"])
@pytest.mark.parametrize("coordinates", ["half_pixel", "output_half_pixel"])
def test_regions(mode: str, samples: int, coordinates: str, threads: int) -> None:
    feeds = {"x": floats(2, 19, 12, 16), "regions": regions(6), "images": np.array([0, 1, 1, 0, 1, 0])}
    model = node_model(
        "RoiAlign",
        feeds,
        opset=16,
        mode=mode,
        sampling_ratio=samples,
        coordinate_transformation_mode=coordinates,
        output_height=3,
        output_width=2,
        spatial_scale=0.75,
    )
    assert kernels_of(model) == ["roi_align"]
    assert_native(model, feeds, 1e-5, threads)


def test_regions_before_opset_16_and_with_one_bin() -> None:
    feeds = {"x": floats(1, 3, 12, 16), "regions": regions(4), "images": np.zeros(4, np.int64)}
    assert_native(node_model("RoiAlign", feeds, opset=10), feeds, 1e-5)


def test_a_region_with_more_samples_than_are_kept() -> None:
    feeds = {"x": floats(1, 2, 12, 16), "regions": np.array([[0, 0, 3000, 5000]], np.float32)}
    feeds["images"] = np.zeros(1, np.int64)
    model = node_model("RoiAlign", feeds, opset=16, output_height=2, output_width=2)
    assert_native(model, feeds, 1e-4)


@pytest.mark.parametrize(("dims", "count"), [((1, 3, 4, 4), 0), ((1, 0, 4, 4), 2), ((1, 2, 0, 4), 2)])
def test_regions_without_elements(dims: tuple[int, ...], count: int) -> None:
    feeds = {"x": floats(*dims), "regions": regions(count), "images": np.zeros(count, np.int64)}
    model = node_model("RoiAlign", feeds, opset=16, output_height=2, output_width=3)
    (got,) = InferenceSession(model, optimize=False).run(None, feeds)
    np.testing.assert_array_equal(got, np.zeros((count, dims[1], 2, 3), np.float32))


@pytest.mark.parametrize(
    ("corners", "image", "message"),
    [
        ([0, 0, 2, 2], 3, "region 0 is of image 3, of 2 images"),
        ([0, 0, 2, 2], -1, "region 0 is of image -1, of 2 images"),
        ([0, 0, np.inf, 2], 0, "a region from 0 to inf"),
        ([0, np.nan, 2, 2], 0, "a region from nan to 2"),
        ([0, 0, 1e30, 2], 0, "a region from 0 to 1e\\+30"),
    ],
)
def test_regions_that_are_none(corners: list[float], image: int, message: str) -> None:
    feeds = {"x": floats(2, 1, 4, 4), "regions": np.array([corners], np.float32)}
    feeds["images"] = np.array([image])
    with pytest.raises(ExecutionError, match=message):
        InferenceSession(node_model("RoiAlign", feeds, opset=16), optimize=False).run(None, feeds)
