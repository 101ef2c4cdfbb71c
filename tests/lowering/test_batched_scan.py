"""Scan of opset 8 against onnxruntime: batches, lengths, directions."""

from __future__ import annotations

import numpy as np
import onnxruntime as ort
import pytest
from onnx import ModelProto, TensorProto, helper

from graphopt.runtime import InferenceSession


def model(has_lengths: bool, is_reversed: bool) -> ModelProto:
    def value(name: str, *dims: str | int, kind: int = TensorProto.FLOAT) -> object:
        return helper.make_tensor_value_info(name, kind, dims)

    body = helper.make_graph(
        [helper.make_node("Add", ["s", "p"], ["t"]), helper.make_node("Mul", ["t", "p"], ["q"])],
        "body",
        [value("s", 2), value("p", 2)],
        [value("t", 2), value("q", 2)],
    )
    lengths = [value("lengths", "B", kind=TensorProto.INT64)] if has_lengths else []
    node = helper.make_node(
        "Scan",
        ["lengths" if has_lengths else "", "state", "x"],
        ["last", "all"],
        num_scan_inputs=1,
        directions=[int(is_reversed)],
        body=body,
    )
    graph = helper.make_graph(
        [node],
        "g",
        [*lengths, value("state", "B", 2), value("x", "B", "T", 2)],
        [value("last", "B", 2), value("all", "B", "T", 2)],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 8)], ir_version=4)


@pytest.mark.parametrize("lengths", [None, (5, 5, 5), (3, 5, 1), (4, 5, 2)])
@pytest.mark.parametrize("is_reversed", [False, True])
def test_agrees_with_onnxruntime(lengths: tuple[int, ...] | None, is_reversed: bool) -> None:
    rng = np.random.default_rng(1)
    feeds: dict[str, object] = {
        "state": rng.standard_normal((3, 2), np.float32),
        "x": rng.standard_normal((3, 5, 2), np.float32),
    }
    if lengths is not None:
        feeds["lengths"] = np.array(lengths, np.int64)
    made = model(lengths is not None, is_reversed)
    session = InferenceSession(made, optimize=False)
    assert not session.fallbacks
    wanted = ort.InferenceSession(made.SerializeToString(), providers=["CPUExecutionProvider"]).run(
        None, feeds
    )
    for a, b in zip(wanted, session.run(None, feeds), strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-6)
