"""Models for tests of sessions."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, parser

CHAIN = "g (float[N,4] x) => (float[N,4] y) { a = Exp(x)  b = Neg(a)  y = Abs(b) }"


def from_text(graph: str, opset: int = 17) -> onnx.ModelProto:
    """A model from ONNX text."""
    return parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {graph}')


def loop() -> onnx.ModelProto:
    """y = x + x*n by a Loop named `repeat`; its body holds `negative`, and `ys` stacks exp of that."""
    body = helper.make_graph(
        [
            helper.make_node("Add", ["carried", "x"], ["sum"]),
            helper.make_node("Neg", ["sum"], ["negative"]),
            helper.make_node("Exp", ["negative"], ["stacked"]),
            helper.make_node("Identity", ["going_on"], ["goes_on"]),
        ],
        "body",
        [
            helper.make_tensor_value_info("i", TensorProto.INT64, []),
            helper.make_tensor_value_info("going_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("carried", TensorProto.FLOAT, ["N"]),
        ],
        [
            helper.make_tensor_value_info("goes_on", TensorProto.BOOL, []),
            helper.make_tensor_value_info("sum", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("stacked", TensorProto.FLOAT, ["N"]),
        ],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y", "ys"], name="repeat", body=body)],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("n", TensorProto.INT64, []),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N"]),
            helper.make_tensor_value_info("ys", TensorProto.FLOAT, ["K", "N"]),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def perceptron(width: int = 64, seed: int = 0) -> onnx.ModelProto:
    """Two layers with weights, a text and a small constant besides."""
    rng = np.random.default_rng(seed)
    weights = {
        "w1": rng.standard_normal((width, 2 * width)).astype(np.float32),
        "b1": rng.standard_normal(2 * width).astype(np.float32),
        "w2": rng.standard_normal((2 * width, width)).astype(np.float32),
    }
    nodes = [
        helper.make_node("MatMul", ["x", "w1"], ["h"], name="first"),
        helper.make_node("Add", ["h", "b1"], ["hb"], name="bias"),
        helper.make_node("Relu", ["hb"], ["hr"], name="relu"),
        helper.make_node("MatMul", ["hr", "w2"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "perceptron",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
