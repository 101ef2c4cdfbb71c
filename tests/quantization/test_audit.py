from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import ModelError
from graphopt.ir.save import save
from graphopt.quantization.audit import already_quantized, audit, audit_file, quantized_operators
from graphopt.quantization.finishing import finished
from graphopt.testing import model_from_text

PAIR = "{q} = QuantizeLinear ({x}, s, z)  {d} = DequantizeLinear ({q}, s, z)  "
# A product of codes; a sum that gives codes; a difference, which runtimes compute in floats; a weight alone.
LARGE = ", ".join(str(i % 100 - 50) for i in range(128))
TEXT = f"""g (float[B,4] x, float[B,32] t) => (float[B,4] y, float[B,4] u) <float s = {{0.02}}, uint8 z = {{120}},
    int8[4,4] wq = {{1, -2, 3, 40, -50, 60, 7, 8, -9, 100, 110, -120, 1, 2, 3, 4}}, float[4] sw = {{1, 2, 3, 4}},
    int8[32,4] vq = {{{LARGE}}}, float[4] sv = {{5, 6, 7, 8}}> {{
    {PAIR.format(q="q", x="x", d="d")}  w = DequantizeLinear <axis = 1> (wq, sw)
    [product] m = MatMul (d, w)  {PAIR.format(q="mq", x="m", d="md")}
    [sum] a = Add (md, d)  {PAIR.format(q="aq", x="a", d="ad")}
    [difference] e = Sub (ad, d)  {PAIR.format(q="eq", x="e", d="y")}
    v = DequantizeLinear <axis = 1> (vq, sv)  [stored] u = MatMul (t, v) }}"""


def model():
    return model_from_text(TEXT, opset=21, domains={"com.microsoft": 1})


def feeds():
    rng = np.random.default_rng(0)
    return {name: rng.standard_normal((3, n)).astype(np.float32) for name, n in (("x", 4), ("t", 32))}


def verdicts(found):
    return {o.name: o.verdict for o in found.operators}


def test_what_is_quantized():
    assert [name for name, _ in quantized_operators(model())] == ["product", "sum", "difference", "stored"]


def test_onnxruntime_is_asked_which_kernels_ran():
    found = audit(model(), "onnx", feeds())
    assert verdicts(found) == {
        "product": "integer",
        "sum": "integer",
        "difference": "float",
        "stored": "stored",
    }
    kernels = {o.name: o.kernel for o in found.operators}
    assert kernels["product"] == "QLinearMatMul" and kernels["stored"] == "MatMulNBits"
    # Around the difference, at the input and at the output.
    assert (found.conversions.quantize, found.conversions.dequantize) == (2, 3)
    assert 0 < found.conversions.share < 1
    assert found.milliseconds > 0


def test_the_engine_is_asked_which_instructions_it_has():
    found = audit(model(), "graphopt", feeds())
    by_operator = {o.operator: (o.kernel, o.verdict) for o in found.operators}
    assert by_operator["QLinearMatMul"] == ("gemm.u8s8", "integer")
    assert by_operator["ai.graphopt::CompressedMatMul"] == ("gemm.s8", "stored")
    assert by_operator["Sub"] == ("elementwise", "float")
    assert "graphopt" in found.runtime


def test_operators_of_a_target_are_quantized_ones():
    found = audit(finished(model(), "onnxruntime"), "onnxruntime", feeds())
    assert sum(o.verdict == "integer" for o in found.operators) == 2


def test_operators_of_bodies_have_scoped_names():
    loop = model_from_text(
        """g (float[2,4] x, int64 n, bool go) => (float[2,4] y) <float s = {0.02}, uint8 z = {120},
        int8[4,4] wq = {1, -2, 3, 40, -50, 60, 7, 8, -9, 100, 110, -120, 1, 2, 3, 4}, float sw = {0.1}> {
        [loop] y = Loop (n, go, x) <body = inner (int64 i, bool c, float[2,4] v) => (bool e, float[2,4] t) {
            e = Identity (c)  q = QuantizeLinear (v, s, z)  d = DequantizeLinear (q, s, z)
            w = DequantizeLinear (wq, sw)  [product] t = MatMul (d, w) }> }""",
        opset=21,
    )
    given = {"x": np.ones((2, 4), np.float32), "n": np.asarray(2), "go": np.asarray(True)}
    assert set(verdicts(audit(loop, "onnx", given))) == {"loop:body/product"}


def test_a_branch_that_is_not_taken_did_not_run():
    branch = model_from_text(
        """g (float[2,4] x, bool go) => (float[2,4] y) <float s = {0.02}, uint8 z = {120}> {
        y = If (go) <then_branch = a () => (float[2,4] t) {
            q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)  [root] t = Sqrt (d) },
          else_branch = b () => (float[2,4] u) { u = Neg (x) }> }""",
        opset=21,
    )
    given = {"x": np.ones((2, 4), np.float32), "go": np.asarray(False)}
    [found] = audit(branch, "onnx", given).operators
    assert (found.verdict, found.kernel, found.share) == ("not run", "", 0.0)


def test_lines_and_json_say_the_same():
    found = audit(model(), "onnx", feeds())
    text = "\n".join(found.lines())
    assert "2 integer" in text and "1 float" in text and "Sub difference" in text
    assert found.to_dict()["verdicts"]["integer"]["operators"] == 2


def test_a_file_is_audited_on_inputs_that_are_made_up(tmp_path):
    save(model(), tmp_path / "m.onnx")
    assert verdicts(audit_file(tmp_path / "m.onnx", "onnx"))["product"] == "integer"
    save(model_from_text("g (float[2] x) => (float[2] y) { y = Neg (x) }"), tmp_path / "f.onnx")
    with pytest.raises(ModelError, match="nothing in it is quantized"):
        audit_file(tmp_path / "f.onnx", "onnx")


def test_a_model_that_is_quantized_already_is_named_as_such():
    [line] = already_quantized(model())
    assert line.startswith("4 operators are quantized already (2 MatMul, 1 Add, 1 Sub): they keep")
    assert already_quantized(model_from_text("g (float[2] x) => (float[2] y) { y = Neg (x) }")) == []
