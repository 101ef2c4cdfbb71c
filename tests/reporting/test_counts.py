from __future__ import annotations

from graphopt.reporting import count_operators
from graphopt.testing import model_from_text

NESTED = """g (bool c, float[N] x) => (float[N] y) {
    k = Constant <value_float = 1.0> ()
    y = If (c) <then_branch = t () => (float[N] p) {
                    h = Constant <value_float = 2.0> ()
                    p = If (c) <then_branch = u () => (float[N] q) { q = Mul (x, h) },
                                else_branch = v () => (float[N] r) { r = Add (x, k) }> },
                else_branch = e () => (float[N] s) { s = Neg (x) }>
}"""

CALLS = """<ir_version: 8, opset_import: ["" : 18, "far" : 1, "ai.graphopt" : 1]>
g (float[N] x) => (float[N] y) {
    a = far.twice (x)  b = far.twice (a)  c = ai.graphopt.FullyConnected (b)  y = com.Custom (c)
}
<domain: "far", opset_import: ["" : 18]> once (i) => (o) { o = Relu (i) }
<domain: "far", opset_import: ["" : 18, "far" : 1]> twice (i) => (o) { m = far.once (i)  o = far.once (m) }
<domain: "ai.graphopt", opset_import: ["" : 18]> FullyConnected (i) => (o) { m = Neg (i)  o = Abs (m) }"""


def calls():
    # The text parser has no dots in domains: the names of the test's nodes stand for those of the engine.
    model = model_from_text(CALLS.replace("ai.graphopt", "engine").replace("com.Custom", "Custom"))
    for node in model.graph:
        if node.domain == "engine":
            node.domain = "ai.graphopt"
    (function,) = [f for f in model.functions.values() if f.domain == "engine"]
    del model.functions[function.identifier()]
    function.domain = "ai.graphopt"
    model.functions[function.identifier()] = function
    return model


def test_bodies_count_and_constants_do_not():
    found = count_operators(model_from_text(NESTED))
    assert found.types == {"If": 2, "Add": 1, "Mul": 1, "Neg": 1}
    assert found.total == 5
    assert found.constants == 2


def test_a_function_counts_as_often_as_it_is_called():
    found = count_operators(calls())
    assert found.types == {"Relu": 4, "Abs": 1, "Custom": 1, "Neg": 1}


def test_an_operator_of_the_engine_is_one_there():
    found = count_operators(calls(), target="graphopt")
    assert found.types == {"Relu": 4, "Custom": 1, "ai.graphopt::FullyConnected": 1}


def test_other_domains_are_named():
    model = model_from_text("g (float[N] x) => (float[N] y) { y = com.Gelu (x) }", domains={"com": 1})
    assert count_operators(model).types == {"com::Gelu": 1}


def test_a_function_that_calls_itself_does_not_hang():
    text = """<ir_version: 8, opset_import: ["" : 18, "far" : 1]>
    g (float[N] x) => (float[N] y) { y = far.again (x) }
    <domain: "far", opset_import: ["" : 18, "far" : 1]>
    again (i) => (o) { m = Relu (i)  o = far.again (m) }"""
    assert count_operators(model_from_text(text)).types == {"Relu": 1}
