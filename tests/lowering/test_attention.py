"""Attention, caches and rotary embeddings through the engine."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.lowering.running import backend_cases, kernels_of, node_model, reference, run

# One rounding of a result, and of a product of 16-bit floats as the reference makes it.
TOLERANCE = {np.float32: 2e-6, np.float64: 1e-12, np.float16: 4e-3, ml_dtypes.bfloat16: 3e-2}


def assert_close(got: np.ndarray, want: np.ndarray, dtype: type | np.dtype) -> None:
    assert got.dtype == want.dtype
    assert got.shape == want.shape
    if got.dtype.kind in "biu":
        np.testing.assert_array_equal(got, want)
        return
    near = TOLERANCE[np.dtype(dtype).type]
    np.testing.assert_allclose(got.astype(np.float64), want.astype(np.float64), rtol=near, atol=near)


def attention_names() -> list[str]:
    return sorted(backend_cases("test_attention_"))


@pytest.mark.parametrize("name", attention_names())
def test_cases_of_the_standard(name: str) -> None:
    model, inputs, outputs = backend_cases("test_attention_")[name]
    kernels = kernels_of(model)
    assert "attention" in kernels
    assert "reference" not in kernels
    feeds = {i.name: a for i, a in zip(model.graph.input, inputs, strict=True)}
    for got, want in zip(run(model, feeds), outputs, strict=True):
        assert_close(got, want, inputs[0].dtype)


@pytest.mark.parametrize("name", sorted(backend_cases("test_rotary_embedding")))
def test_rotary_cases_of_the_standard(name: str) -> None:
    model, inputs, outputs = backend_cases("test_rotary_embedding")[name]
    assert kernels_of(model) == ["rotary_embedding"]
    feeds = {i.name: a for i, a in zip(model.graph.input, inputs, strict=True)}
    for got, want in zip(run(model, feeds), outputs, strict=True):
        assert_close(got, want, inputs[0].dtype)


def test_symbolic_lengths() -> None:
    """One program for every length of the queries and of the cache."""
    rng = np.random.default_rng(0)
    dims = {"q": ["b", "t", 12], "k": ["b", "t", 12], "v": ["b", "t", 24], "": None}
    dims |= {"pk": ["b", 3, "p", 4], "pv": ["b", 3, "p", 8]}

    def feeds(batch: int, new: int, past: int) -> dict[str, np.ndarray]:
        shapes = {
            "q": (batch, new, 12),
            "k": (batch, new, 12),
            "v": (batch, new, 24),
            "pk": (batch, 3, past, 4),
            "pv": (batch, 3, past, 8),
        }
        return {n: rng.standard_normal(s).astype(np.float32) for n, s in shapes.items()}

    first = feeds(2, 3, 5)
    model = node_model(
        "Attention",
        first,
        outputs=3,
        opset=24,
        inputs=["q", "k", "v", "", "pk", "pv"],
        dims=dims,
        q_num_heads=3,
        kv_num_heads=3,
        is_causal=1,
    )
    assert kernels_of(model) == ["concat", "concat", "attention"]
    for given in [first, feeds(1, 1, 40), feeds(1, 7, 0), feeds(3, 1, 1)]:
        for got, want in zip(run(model, given), reference(model, given), strict=True):
            assert_close(got, want, np.float32)


def test_multi_head_attention() -> None:
    """onnxruntime's own, with and without a cache."""
    import onnxruntime

    rng = np.random.default_rng(1)
    q, k, v = (rng.standard_normal((2, t, 24)).astype(np.float32) for t in (5, 7, 7))
    mask = rng.standard_normal((1, 3, 5, 7)).astype(np.float32)
    past = {n: rng.standard_normal((2, 3, 4, 8)).astype(np.float32) for n in ("pk", "pv")}
    for feeds, inputs, outputs, attributes in [
        ({"q": q, "k": k, "v": v}, ["q", "k", "v"], ["y"], {}),
        ({"q": q, "k": k, "v": v, "m": mask}, ["q", "k", "v", "", "", "m"], ["y"], {"scale": 0.5}),
        (
            {"q": q, "k": k[:, :5], "v": v[:, :5], **past},
            ["q", "k", "v", "", "", "", "pk", "pv"],
            ["y", "presentk", "presentv"],
            {"unidirectional": 1},
        ),
    ]:
        model = node_model(
            "MultiHeadAttention", feeds, outputs, 21, "com.microsoft", inputs, num_heads=3, **attributes
        )
        assert "reference" not in kernels_of(model)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        for got, want in zip(run(model, feeds), session.run(None, feeds), strict=True):
            assert_close(got, want, np.float32)


def test_rotary_of_symbolic_length() -> None:
    rng = np.random.default_rng(2)
    tables = {n: rng.standard_normal((50, 4)).astype(np.float32) for n in ("cos", "sin")}
    for length in [1, 6]:
        feeds = {
            "x": rng.standard_normal((2, length, 24)).astype(np.float32),
            **tables,
            "at": rng.integers(0, 50, (2, length)),
        }
        model = node_model(
            "RotaryEmbedding", feeds, dims={"x": ["b", "t", 24], "at": ["b", "t"]}, num_heads=3
        )
        assert kernels_of(model) == ["rotary_embedding"]
        assert_close(run(model, feeds)[0], reference(model, feeds)[0], np.float32)


def test_rotary_position_outside_the_tables() -> None:
    from graphopt.errors import ExecutionError

    feeds = {
        "x": np.zeros((1, 2, 1, 8), np.float32),
        "cos": np.zeros((5, 4), np.float32),
        "sin": np.zeros((5, 4), np.float32),
        "at": np.array([[5]]),
    }
    with pytest.raises(ExecutionError, match="position 5 in tables of 5"):
        run(node_model("RotaryEmbedding", feeds), feeds)
