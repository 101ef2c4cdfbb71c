"""Strings and labels through the engine."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.lowering.running import kernels_of, node_model, run

WORDS = np.array([["a", ""], ["long enough to lie elsewhere", "ß"]], dtype=object)


def test_strings_are_joined() -> None:
    feeds = {"a": WORDS, "b": np.array(["x", " and another long one"], dtype=object)}
    model = node_model("StringConcat", {k: v.astype(str) for k, v in feeds.items()}, opset=20)
    (found,) = run(model, feeds)
    assert kernels_of(model) == ["string_concat"]
    assert found.astype(object).tolist() == (WORDS + feeds["b"]).tolist()


def test_empty_strings_are_joined() -> None:
    feeds = {"a": np.zeros((0, 2), object), "b": np.array("x", dtype=object)}
    model = node_model("StringConcat", {k: v.astype(str) for k, v in feeds.items()}, opset=20)
    assert run(model, feeds)[0].shape == (0, 2)


def encoder(feeds: dict[str, np.ndarray], **attributes: object) -> np.ndarray:
    typed = {k: v.astype(str) if v.dtype == object else v for k, v in feeds.items()}
    model = node_model("LabelEncoder", typed, domain="ai.onnx.ml", **attributes)
    next(i for i in model.opset_import if i.domain == "ai.onnx.ml").version = 4
    assert kernels_of(model) == ["label_encoder"]
    return run(model, feeds)[0]


def test_labels() -> None:
    keys = ["ß", "a", "long enough to lie elsewhere"]
    found = encoder({"x": WORDS}, keys_strings=keys, values_int64s=[5, 6, 7], default_int64=-9)
    assert found.tolist() == [[6, -9], [7, 5]]
    back = encoder({"x": found}, keys_int64s=[7, 5, 6], values_strings=["l", "s", "a"])
    assert back.astype(object).tolist() == [["a", "_Unused"], ["l", "s"]]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_not_a_number_is_a_label(dtype: type) -> None:
    tensors = {
        "keys_tensor": onnx.numpy_helper.from_array(np.array([3, np.nan, -1], dtype)),
        "values_tensor": onnx.numpy_helper.from_array(np.array([1, 2, 3], np.int16)),
        "default_tensor": onnx.numpy_helper.from_array(np.array([0], np.int16)),
    }
    found = encoder({"x": np.array([np.nan, -1, 2, np.inf, 3], dtype)}, **tensors)
    assert found.tolist() == [2, 3, 0, 0, 1] and found.dtype == np.int16
