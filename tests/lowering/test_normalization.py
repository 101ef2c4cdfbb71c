"""Normalizations, reductions and selections through the engine: the standard's cases, old opsets, symbolic dims."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.lowering.running import backend_cases, kernels_of, node_model, reference, run

TOLERANCE = {np.float32: 2e-6, np.float64: 1e-12, np.float16: 2e-3, ml_dtypes.bfloat16: 2e-2}
# Prefixes of the standard's cases, the kernel that each runs, and what stays with the reference.
FAMILIES = {
    "test_layer_normalization": ("layer_norm", ()),
    "test_rms_normalization": ("rms_norm", ()),
    "test_softmax": ("softmax", ()),
    "test_logsoftmax": ("log_softmax", ()),
    "test_hardmax": ("hardmax", ()),
    "test_instancenorm": ("group_norm", ()),
    "test_group_normalization": ("group_norm", ()),
    "test_batchnorm": ("batch_norm", ("training",)),
    "test_lrn": ("lrn", ()),
    "test_l1normalization": ("lp_normalize", ()),
    "test_l2normalization": ("lp_normalize", ()),
    "test_lpnormalization": ("lp_normalize", ()),
    "test_reduce_": ("reduce", ()),
    "test_argmax": ("arg_max", ()),
    "test_argmin": ("arg_min", ()),
    "test_top_k": ("topk", ()),
    "test_cumsum": ("cumsum", ()),
    "test_cumprod": ("cumprod", ()),
    "test_nonmaxsuppression": ("nms", ()),
}
CASES = [
    (prefix, name)
    for prefix in FAMILIES
    for name in sorted(backend_cases(*FAMILIES))
    if name.startswith(prefix) and not any(part in name for part in FAMILIES[prefix][1])
]


def assert_close(got: np.ndarray, want: np.ndarray) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
    else:
        near = TOLERANCE[got.dtype.type]
        np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=near, atol=near)


@pytest.mark.parametrize(("prefix", "name"), CASES, ids=[name for _, name in CASES])
def test_cases_of_the_standard(prefix: str, name: str) -> None:
    model, inputs, outputs = backend_cases(*FAMILIES)[name]
    feeds = {i.name: a for i, a in zip(model.graph.input, inputs, strict=True)}
    # Axes that are inputs of the case become constants.
    model, constants = with_constants(model, feeds)
    assert FAMILIES[prefix][0] in kernels_of(model)
    assert "reference" not in kernels_of(model)
    given = {n: a for n, a in feeds.items() if n not in constants}
    for got, want in zip(run(model, given), outputs, strict=True):
        assert_close(got, want)


def with_constants(model: object, feeds: dict[str, np.ndarray]) -> tuple[object, set[str]]:
    """The model with its inputs named axis, axes as initializers."""
    import onnx

    assert isinstance(model, onnx.ModelProto)
    made = onnx.ModelProto.FromString(model.SerializeToString())
    constants = {n for n in feeds if n in ("axis", "axes")}
    kept = [i for i in made.graph.input if i.name not in constants]
    del made.graph.input[:]
    made.graph.input.extend(kept)
    made.graph.initializer.extend(onnx.numpy_helper.from_array(feeds[n], n) for n in sorted(constants))
    return made, constants


@pytest.mark.parametrize("op_type", ["Softmax", "LogSoftmax", "Hardmax"])
def test_softmax_of_old_opsets(op_type: str) -> None:
    """All dims from the axis on are one row."""
    feeds = {"x": np.random.default_rng(1).standard_normal((2, 3, 4, 5)).astype(np.float32)}
    for axis in range(4):
        model = node_model(op_type, feeds, opset=11, axis=axis)
        flat = {"x": feeds["x"].reshape(int(np.prod(feeds["x"].shape[:axis])), -1)}
        [want] = reference(node_model(op_type, flat, opset=13, axis=1), flat)
        assert_close(run(model, feeds)[0], want.reshape(feeds["x"].shape))


def test_normalization_of_symbolic_dims() -> None:
    rng = np.random.default_rng(2)
    feeds = {
        "x": rng.standard_normal((2, 5, 24)).astype(np.float32),
        "s": rng.standard_normal(24).astype(np.float32),
        "b": rng.standard_normal(24).astype(np.float32),
    }
    for dims in [["b", "t", 24], [None, None, None], None]:
        model = node_model("LayerNormalization", feeds, dims={"x": dims}, constants=["s", "b"])
        for length in [1, 5, 9]:
            given = {**feeds, "x": rng.standard_normal((2, length, 24)).astype(np.float32)}
            assert_close(run(model, given)[0], reference(model, given)[0])
        assert kernels_of(model) == ["layer_norm"]


@pytest.mark.parametrize(("dtype", "outputs", "expanded"), [(np.float32, 1, False), (np.float64, 3, True)])
def test_layer_normalization_before_it_was_in_the_standard(
    dtype: type[np.generic], outputs: int, expanded: bool
) -> None:
    """onnxruntime's optimizer writes it into models of any opset; float32 statistics of float64 are expanded."""
    rng = np.random.default_rng(6)
    feeds = {
        name: rng.standard_normal(dims).astype(dtype) for name, dims in [("x", (2, 5, 24)), ("s", (24,))]
    }
    old, new = (node_model("LayerNormalization", feeds, outputs, opset=opset) for opset in (11, 17))
    assert kernels_of(old) == kernels_of(new)
    assert ("layer_norm" not in kernels_of(old)) == expanded
    for got, wanted in zip(run(old, feeds), run(new, feeds), strict=True):
        np.testing.assert_array_equal(got, wanted)
    np.testing.assert_allclose(run(old, feeds)[0], reference(new, feeds)[0], rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("dims", [["b", "t", 7], None])
def test_reduction_of_symbolic_dims(dims: list[str | int] | None) -> None:
    rng = np.random.default_rng(3)
    for keepdims in [0, 1]:
        for axes in [[1], [-1, 0], []]:
            feeds = {"x": rng.standard_normal((2, 3, 7)).astype(np.float32), "axes": np.array(axes, np.int64)}
            model = node_model("ReduceMean", feeds, dims={"x": dims}, constants=["axes"], keepdims=keepdims)
            assert kernels_of(model) == ["reduce"]
            assert_close(run(model, feeds)[0], reference(model, feeds)[0])


def test_reduction_over_no_axes() -> None:
    feeds = {"x": np.array([[1, 2], [3, 4]], np.float32)}
    for op_type in ["ReduceSum", "ReduceSumSquare", "ReduceLogSum", "ReduceL2"]:
        model = node_model(op_type, feeds, noop_with_empty_axes=1)
        assert_close(run(model, feeds)[0], reference(model, feeds)[0])


def test_reduction_with_axes_as_attribute() -> None:
    feeds = {"x": np.random.default_rng(4).standard_normal((2, 3, 4)).astype(np.float32)}
    for op_type in ["ReduceSum", "ReduceMax", "ReduceLogSumExp"]:
        model = node_model(op_type, feeds, opset=11, axes=[0, 2], keepdims=0)
        assert kernels_of(model) == ["reduce"]
        assert_close(run(model, feeds)[0], reference(model, feeds)[0])


def test_topk_of_a_number_that_is_data() -> None:
    feeds = {"x": np.random.default_rng(5).standard_normal((2, 30)).astype(np.float32), "k": np.array([4])}
    model = node_model("TopK", feeds, outputs=2, axis=1)
    assert kernels_of(model) == ["topk"]
    for k in [0, 4, 30]:
        given = {**feeds, "k": np.array([k])}
        for got, want in zip(run(model, given), reference(model, given), strict=True):
            assert_close(got, want)


def test_topk_of_one_output() -> None:
    feeds = {"x": np.random.default_rng(6).standard_normal((2, 30)).astype(np.float32), "k": np.array([4])}
    for outputs in [["v", ""], ["", "i"]]:
        model = node_model("TopK", feeds, outputs=outputs, constants=["k"])
        full = reference(node_model("TopK", feeds, outputs=2, constants=["k"]), feeds)
        assert_close(run(model, feeds)[0], full[0 if outputs[0] else 1])
