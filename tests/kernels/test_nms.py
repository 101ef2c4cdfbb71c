"""NonMaxSuppression against the standard's implementation."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx.reference import ReferenceEvaluator

from graphopt.errors import ExecutionError
from tests.kernels.calling import call


@pytest.mark.parametrize("centred", [0, 1])
@pytest.mark.parametrize("most", [0, 1, 3, 100])
@pytest.mark.parametrize("limits", [(0.5, None), (0.0, 0.3), (0.3, -1.0), (1.0, 2.0)])
def test_random_boxes(centred: int, most: int, limits: tuple[float, float | None]) -> None:
    rng = np.random.default_rng(5)
    overlap, score = limits
    for batch, classes, count in [(1, 1, 1), (2, 3, 40), (1, 2, 0)]:
        boxes = rng.random((batch, count, 4), dtype=np.float32)
        scores = (rng.integers(0, 20, (batch, classes, count)) / 20).astype(np.float32)
        inputs = [boxes, scores, np.array([most]), np.array([overlap], np.float32)]
        if score is not None:
            inputs.append(np.array([score], np.float32))
        names = ["b", "s", "m", "o", "t"][: len(inputs)]
        node = onnx.helper.make_node("NonMaxSuppression", names, ["y"], center_point_box=centred)
        graph = onnx.helper.make_graph(
            [node], "g", [onnx.ValueInfoProto(name=n) for n in names], [onnx.ValueInfoProto(name="y")]
        )
        model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 11)], ir_version=8)
        [want] = ReferenceEvaluator(model).run(None, dict(zip(names, inputs, strict=True)))
        [got] = call("nms", inputs, [(np.int64, None)], [centred])
        np.testing.assert_array_equal(got, want)


def test_wrong_operands() -> None:
    boxes, scores = np.zeros((1, 3, 4), np.float32), np.zeros((1, 2, 4), np.float32)
    with pytest.raises(ExecutionError, match="boxes of rank 3"):
        call("nms", [boxes, scores], [(np.int64, None)], [0])
