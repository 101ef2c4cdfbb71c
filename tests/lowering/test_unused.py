"""What fusion leaves behind is dropped, and the rest still means the same."""

from __future__ import annotations

import numpy as np
import onnx
from onnx.reference import ReferenceEvaluator

from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.lowering.program import ABSENT, Module
from graphopt.runtime import InferenceSession

CHAIN = "a = Relu(x) b = Neg(a) c = Exp(b) d = Sigmoid(c) y = Add(d, w)"
# The body captures w and s of the graph around it.
LOOP = """
    s = Exp(w)
    y = Loop(steps, going, x) <body = body (int64 i, bool before, float[3] given) => (bool after, float[3] made) {
        after = Identity(before) t = Neg(given) u = Add(t, s) made = Mul(u, w)
    }>
"""


def model_of(body: str, inputs: str) -> onnx.ModelProto:
    text = f'<ir_version: 10, opset_import: ["": 20]> g({inputs}) => (float[3] y) {{ {body} }}'
    model = onnx.parser.parse_model(text)
    constants = {
        "w": np.array([0.5, -1, 2], np.float32),
        "going": np.array(True),
        "more": np.ones(3, np.float32),
    }
    names = ["w", "going"] if "Loop" in body else ["w", "more"]
    model.graph.initializer.extend(onnx.numpy_helper.from_array(constants[n], n) for n in names)
    return model


def used(module: Module) -> set[int]:
    found = {*module.inputs, *module.outputs, *(inside for _, inside in module.captures)}
    for instruction in module.instructions:
        found.update(instruction.inputs, instruction.outputs, instruction.captured)
    found.update(module.root(r) for r in list(found) if r != ABSENT)
    found.update(d.register for d in module.definitions)
    return found - {ABSENT}


def test_registers_of_merged_instructions_are_dropped() -> None:
    program = lower(from_proto(model_of(CHAIN, "float[3] x")))
    assert len(program.main.instructions) == 1
    assert used(program.main) == set(range(len(program.main.registers)))
    assert len(program.main.registers) == 3
    assert len(program.constants) == 1  # "more" has no reader


def test_bodies_read_the_same_as_before() -> None:
    model = model_of(LOOP, "float[3] x, int64 steps")
    program = lower(from_proto(model))
    (loop,) = [i for i in program.main.instructions if i.kernel == "loop"]
    for module in (program.main, *loop.bodies):
        assert used(module) == set(range(len(module.registers)))
    for steps in (0, 1, 5):
        feeds = {"x": np.array([1, 2, 3], np.float32), "steps": np.array(steps)}
        (wanted,) = ReferenceEvaluator(model).run(None, feeds)
        (got,) = InferenceSession(model, optimize=False).run(None, feeds)
        np.testing.assert_allclose(got, wanted, rtol=1e-6)
