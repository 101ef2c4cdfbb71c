from __future__ import annotations

import json

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.reporting import console
from graphopt.reporting.diff import diff
from graphopt.reporting.inspect import inspect
from graphopt.testing import model_from_text

TEXT = """g (float[N,3] x, bool c) => (float[N,3] y) {
    a = Relu (x)
    y = If (c) <then_branch = t () => (float[N,3] p) { p = Neg (a) },
                else_branch = e () => (float[N,3] q) {
                    q = If (c) <then_branch = u () => (float[N,3] r) { r = Abs (a) },
                                else_branch = v () => (float[N,3] s) { s = Exp (a) }> }>
}"""


def model(text: str = TEXT, weight: float = 1.0) -> ir.Model:
    found = model_from_text(text)
    for name, size in (("small", 2), ("big", 2000)):
        tensor = ir.tensor(np.full(size, weight, np.float32), name=name)
        found.graph.initializers[name] = ir.Value(name=name, const_value=tensor)
    return found


def test_a_summary():
    given = model()
    given.producer_name, given.metadata_props["author"] = "test", "me"
    given.graph.inputs[0].shape = ir.Shape([None, 3])
    found = inspect(given)
    assert found.producer == "test"
    assert found.opsets == {"ai.onnx": 18}
    assert found.dynamic == ("x[0]",)
    assert found.operators.types == {"If": 2, "Abs": 1, "Exp": 1, "Neg": 1, "Relu": 1}
    assert found.bytes.weights == {"float32": 8008}
    assert [(t.name, t.bytes) for t in found.biggest] == [("big", 8000), ("small", 8)]
    outer = found.control_flow[0]
    assert [(name, count) for name, count, _ in outer.bodies] == [("then_branch", 1), ("else_branch", 3)]
    assert outer.bodies[1][2][0].type == "If"
    assert found.metadata == {"author": "me"}
    assert json.loads(json.dumps(found.to_dict()))["control_flow"][0]["bodies"][1]["operators"] == 3


def test_a_summary_on_the_console(capsys):
    console.print_inspection(inspect(model()))
    out = capsys.readouterr().out
    assert "input x: float32[N, 3]" in out
    assert "dynamic dims: N" in out
    assert "6 operators" in out
    assert "else_branch 3 operators" in out
    assert "8.0 kB  big float32[2000]" in out


def test_metadata_take_a_line_each(capsys):
    given = model()
    given.metadata_props["names"] = "\n".join(f"name {i}" for i in range(1000))
    console.print_inspection(inspect(given))
    (line,) = [line for line in capsys.readouterr().out.splitlines() if "metadata names" in line]
    assert "name 0 name 1 name 2" in line and line.endswith(" ...") and len(line) < 130


def test_equal_models_do_not_differ_whatever_their_inner_names(capsys):
    found = diff(model(), model(TEXT.replace("a =", "b =").replace("(a)", "(b)")))
    assert found.is_empty
    assert found.to_dict()["same"] is True
    console.print_diff(found)
    assert capsys.readouterr().out == "the models are the same\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (TEXT.replace("Exp (a)", "Exp (x)"), "connections differ"),
        (TEXT.replace("Exp (a)", "Log (a)"), "Exp"),
        (TEXT.replace("Relu (x)", "LeakyRelu <alpha = 0.5> (x)"), "LeakyRelu"),
        (TEXT.replace("float[N,3] x", "float[2,3] x"), "input 'x': float32[N, 3] became float32[2, 3]"),
        (TEXT.replace("bool c)", "bool c, float z)"), "input 'z' is new"),
        (TEXT.replace("float[N,3] x, bool c", "bool c, float[N,3] x"), "inputs changed order: c, x"),
    ],
)
def test_differences_are_found_and_said(text, said, capsys):
    found = diff(model(), model(text))
    assert not found.is_empty
    console.print_diff(found)
    assert said in capsys.readouterr().out


def test_attributes_are_compared():
    texts = [f"g (float[N] x) => (float[N] y) {{ y = LeakyRelu <alpha = {a}> (x) }}" for a in (0.5, 0.25)]
    assert diff(model(texts[0]), model(texts[1])).is_rewired


def test_weights_are_compared_by_contents():
    found = diff(model(), model(weight=2.0))
    assert found.weights == ("small", "big")
    assert not found.is_rewired
    assert not found.is_empty


def test_opsets_metadata_and_functions_are_compared(capsys):
    before, after = model(), model()
    after.opset_imports[""] = 20
    after.opset_imports["far"] = 1
    after.metadata_props["author"] = "me"
    function = model_from_text(
        """<ir_version: 8, opset_import: ["" : 18, "far" : 1]>
        g (float[N] x) => (float[N] y) { y = far.f (x) }
        <domain: "far", opset_import: ["" : 18]> f (i) => (o) { o = Abs (i) }"""
    ).functions
    after.functions.update(function)
    found = diff(before, after)
    assert found.opsets == {"ai.onnx": ("18", "20"), "far": (None, "1")}
    assert found.metadata == {"author": (None, "me")}
    assert found.functions == {"far::f": (None, "1 nodes")}
    console.print_diff(found)
    assert "opset ai.onnx: 18 -> 20" in capsys.readouterr().out
