from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt import targets
from graphopt.reporting.costs import bytes_of, costs_of
from graphopt.testing import model_from_text


def test_bytes_are_those_of_the_file(tmp_path):
    model = model_from_text("g (float[N,300] x) => (float[N,300] y) { y = Mul (x, w) }".replace("w)", "x)"))
    model.graph.initializers["w"] = ir.Value(
        name="w", const_value=ir.tensor(np.ones((300, 300), np.float32), name="w")
    )
    model.graph.initializers["h"] = ir.Value(
        name="h", const_value=ir.tensor(np.ones(5, np.float16), name="h")
    )
    path = tmp_path / "m.onnx"
    ir.save(model, path)
    found = bytes_of(model)
    assert found.weights == {"float32": 360_000, "float16": 10}
    assert found.total == pytest.approx(path.stat().st_size, rel=0.01)


def test_constants_and_bodies_count_as_weights():
    model = model_from_text(
        """g (bool c) => (float[3] y) {
            y = If (c) <then_branch = t () => (float[3] p) { p = Constant <value = float[3] {1, 2, 3}> () },
                        else_branch = e () => (float[3] q) { q = Constant <value = float[3] {1, 2, 4}> () }>
        }"""
    )
    assert bytes_of(model).weights == {"float32": 24}


def test_flops_and_memory_at_a_size():
    model = model_from_text(
        "g (float[N,8] x, float[8,4] w) => (float[N,4] y) { a = MatMul (x, w)  b = Relu (a)  y = Neg (b) }"
    )
    small, large = (costs_of(model, {"N": n}) for n in (1, 10))
    assert small.unknown == large.unknown == {}
    assert large.flops == 10 * small.flops >= 10 * 2 * 8 * 4
    # The inputs live throughout; beside them two values of [N, 4] at a time.
    assert large.peak_bytes == 4 * (10 * 8 + 8 * 4 + 2 * 10 * 4)


def test_a_value_that_lives_long_counts_as_long():
    model = model_from_text(
        "g (float[N] x) => (float[N] y) { a = Neg (x)  b = Neg (a)  c = Neg (b)  y = Add (a, c) }"
    )
    # x, a, b, c
    assert costs_of(model, {"N": 100}).peak_bytes == 4 * 400


def test_what_a_body_captures_lives_until_its_node():
    model = model_from_text(
        """g (float[N] x, bool k) => (float[N] y) {
            a = Neg (x)  b = Neg (x)  c = Neg (b)
            y = If (k) <then_branch = t () => (float[N] p) { q = Add (a, c)  p = Neg (q) },
                        else_branch = e () => (float[N] r) { r = Neg (c) }>
        }"""
    )
    # x, k, a, c, y and inside q and p
    assert costs_of(model, {"N": 100}).peak_bytes == 4 * 600 + 1


def test_a_loop_of_known_length_counts_its_body_each_time():
    text = """g (float[N] x) => (float[N] y) {{
        m = Constant <value_int = {0}> ()  t = Constant <value = bool {{1}}> ()
        y = Loop (m, t, x) <body = b (int64 i, bool c, float[N] s) => (bool d, float[N] r) {{
            d = Identity (c)  r = Neg (s) }}>
    }}"""
    once, five = (costs_of(model_from_text(text.format(n)), {"N": 7}) for n in (1, 5))
    assert (once.flops, five.flops) == (7, 35)
    assert costs_of(model_from_text(text.format(2**63 - 1)), {"N": 7}).flops == 7


def test_functions_count_as_called():
    text = """<ir_version: 8, opset_import: ["" : 18, "far" : 1]>
    g (float[N] x) => (float[N] y) { a = far.f (x)  y = far.f (a) }
    <domain: "far", opset_import: ["" : 18]> f (i) => (o) { m = Neg (i)  o = Abs (m) }"""
    model = model_from_text(text)
    assert costs_of(model, {"N": 3}).flops == 12
    assert len(model.functions) == 1


def test_what_is_not_known_is_said():
    model = model_from_text(
        "g (float[N] x) => (float[N] z) { y = far.away (x)  z = Neg (y) }", domains={"far": 1}
    )
    found = costs_of(model, {"N": 3})
    assert found.unknown == {"away": 1, "Neg": 1}
    assert found.unsized == 2
    found = costs_of(model_from_text("g (float[N] x) => (float[N] y) { y = Neg (x) }"), {})
    assert found.unknown == {"Neg": 1}
    assert found.flops == 0


def test_dims_without_names():
    model = model_from_text("g (float[N,2] x) => (float[N,2] y) { y = Neg (x) }")
    model.graph.inputs[0].shape = ir.Shape([None, 2])
    assert costs_of(model, {"x[0]": 5}).flops == 10


def test_time_is_what_the_target_predicts():
    text = "g (float[N,64] x) => (float[N,64] y) { y = Softplus(x) }"
    model = model_from_text(text)
    small, large = (costs_of(model, {"N": n}, "onnxruntime") for n in (1, 100))
    row = targets.find("onnxruntime").row("", "Softplus").cost
    assert small.nanoseconds == pytest.approx(row.ns(64, 2 * 64 * 4), abs=1)
    assert large.nanoseconds == pytest.approx(row.ns(6400, 2 * 6400 * 4), abs=1)
    assert costs_of(model, {}).nanoseconds == costs_of(model, {"N": 64}).nanoseconds
    assert costs_of(model, {"N": 1}, "graphopt").nanoseconds < small.nanoseconds
