"""Indices through the engine: looks where they are constant and in range, kernels that check them elsewhere."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from graphopt.errors import ExecutionError
from tests.lowering.running import kernels_of, reference, run

X = np.arange(2 * 6 * 8, dtype=np.float32).reshape(2, 6, 8)


def checked(text: str, feeds: dict[str, np.ndarray], opset: int = 21) -> list[str]:
    """The kernels of a model whose results are those of the reference."""
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> {text}')
    for found, wanted in zip(run(model, feeds, threads=2), reference(model, feeds), strict=True):
        assert found.shape == wanted.shape and found.dtype == wanted.dtype
        assert np.array_equal(found, wanted)
    return kernels_of(model)


def gathered(indices: str, dims: str = "b, 6, 8") -> str:
    return f"g (float[{dims}] x) => (float y) {{ i = Constant<{indices}>() y = Gather<axis = 1>(x, i) }}"


def test_even_steps_are_looks() -> None:
    for indices in ("value_int=-1", "value_ints=[1, 3, 5]", "value_ints=[5, 4, 3, 2]", "value_ints=[2]"):
        assert checked(gathered(indices), {"x": X}) == ["copy"], indices
    for indices in ("value_ints=[1, 2, 5]", "value_ints=[0, -1]"):
        expected = ["copy"] if indices.endswith("[0, -1]") else ["gather"]
        assert checked(gathered(indices), {"x": X}) == expected, indices


def test_what_may_be_out_of_range_is_checked() -> None:
    assert checked(gathered("value_int=3", "b, t, 8"), {"x": X}) == ["gather"]
    model = onnx.parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> {gathered("value_int=3", "b, t, 8")}'
    )
    with pytest.raises(ExecutionError, match="index 3 is out of range for axis 1 of 2 elements"):
        run(model, {"x": X[:, :2]})


def test_results_whose_sizes_are_data() -> None:
    mask = X % 5 == 0
    text = "g (bool[b, t, 8] m, float[b, t, 8] x) => (int64 n, float y) { n = NonZero(m) t = Transpose(n) y = GatherND(x, t) }"
    checked(text, {"m": mask, "x": X})
    text = "g (float[b, t, 8] x, bool[k] c) => (float y) { z = Compress<axis=1>(x, c) y = Transpose(z) }"
    checked(text, {"x": X, "c": np.array([True, False, True])})
    text = "g (int64[n] x) => (int64 v, int64 i, int64 o) { v, _, i, c = Unique(x) s = Shape(v) o = Concat<axis=0>(s, c) }"
    checked(text, {"x": np.array([3, 1, 3, 2])})


@pytest.mark.parametrize("reduction", ["none", "add", "mul", "max", "min"])
def test_scatters(reduction: str) -> None:
    indices = np.array([[0, 1], [1, -1]])
    updates = np.full((2, 8), 40, np.float32)
    text = f"""g (float[b, t, 8] x, int64[n, 2] i, float[n, 8] u) => (float y, float z) {{
        y = ScatterND<reduction = "{reduction}">(x, i, u) z = Identity(x) }}"""
    checked(text, {"x": X, "i": indices, "u": updates})
    text = f"""g (float[b, t, 8] x, int64[b, t, k] i, float[b, t, k] u) => (float y) {{
        y = ScatterElements<axis = 2, reduction = "{reduction}">(x, i, u) }}"""
    places = np.arange(2 * 6 * 3).reshape(2, 6, 3) % 8
    checked(text, {"x": X, "i": places, "u": np.full((2, 6, 3), 40, np.float32)})


def test_made_from_numbers() -> None:
    text = """g (int64 n, float[b, t] x) => (int64 r, float f, float e, float l) {
        zero = Constant<value_int=0>() one = Constant<value_int=1>() r = Range(zero, n, one)
        s = Shape(x) f = ConstantOfShape(s) e = EyeLike<k = 1>(x) l = Trilu<upper = 0>(x) }"""
    checked(text, {"n": np.array(5), "x": X[0]})
    text = """g (int64[b, t] i) => (float y) {
        d = Constant<value_int=4>() v = Constant<value_floats=[0.5, 2.0]>() y = OneHot<axis = 1>(i, d, v) }"""
    checked(text, {"i": np.array([[0, 3, -1], [2, 2, 1]])})
    text = "g (float[b, t, 8] x, int64[b] n) => (float y) { y = ReverseSequence<batch_axis=0, time_axis=1>(x, n) }"
    checked(text, {"x": X, "n": np.array([6, 2])})
