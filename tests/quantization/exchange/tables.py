"""A model and its table, for every tool: convolutions, a product in the main graph, one in a body."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir

from graphopt import targets
from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization import planning
from graphopt.quantization.calibration import calibrate
from graphopt.rewriting import Driver, Editor, registry
from graphopt.rewriting.pipeline import Group, Pipeline

RNG = np.random.default_rng(0)
TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,4,9,9] x, int64 n) => (float[N,32] y) {
    [one] h = Conv <pads = [1,1,1,1]> (x, w1, b1)
    [act] r = Relu(h)
    [two] c = Conv <strides = [2,2]> (r, w2, b2)
    f = Flatten(c)
    [dense] d = Gemm <transB = 1> (f, w3, b3)
    [last] m = MatMul(d, w4)
    t = Constant <value = bool {1}> ()
    [repeat] y = Loop (n, t, m) <body = b (int64 i, bool go, float[N,32] a) => (bool went, float[N,32] e) {
        went = Identity(go)  [inner] p = MatMul(a, w5)  e = Tanh(p)
    }>
}"""
WEIGHTS = {
    "w1": (RNG.standard_normal((16, 4, 5, 5)) / 5).astype(np.float32),
    "b1": RNG.standard_normal(16).astype(np.float32),
    "w2": (RNG.standard_normal((16, 16, 3, 3)) / 10).astype(np.float32),
    "b2": RNG.standard_normal(16).astype(np.float32),
    "w3": (RNG.standard_normal((64, 144)) / 10).astype(np.float32),
    "b3": RNG.standard_normal(64).astype(np.float32),
    "w4": (RNG.standard_normal((64, 32)) / 8).astype(np.float32),
    "w5": (RNG.standard_normal((32, 32)) / 5).astype(np.float32),
}


def sample() -> dict[str, np.ndarray]:
    return {"x": RNG.standard_normal((2, 4, 9, 9)).astype(np.float32), "n": np.array(2)}


def model() -> ir.Model:
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in WEIGHTS.items())
    found = ir.from_proto(proto)
    name_nodes(found)
    return found


def table(source: ir.Model) -> QuantTable:
    found = planning.candidates(source)
    others = planning.between(source, found)
    seen = calibrate(source, planning.values_to_observe(found, others), [sample() for _ in range(4)])
    tensors, operators = planning.plan(found, seen, "minmax", others)
    return QuantTable(ModelIdentity("0" * 64, 21), tensors, operators)


def applied(source: ir.Model, given: QuantTable) -> ir.Model:
    editor = Editor(source.clone(), target=targets.find("onnx"))
    made = registry.find("insert-qdq")(table=given)  # type: ignore[call-arg]
    Driver(editor, strict=True).run(Pipeline((Group((made,)),)))
    return editor.model
