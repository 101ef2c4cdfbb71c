"""Fresh names do not meet any other, and are the same each time."""

import onnx

from graphopt.ir.load import from_proto
from graphopt.ir.names import Names, joined

TEXT = """<ir_version: 10, opset_import: ["": 18, "local": 1]>
g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
    [first] y = If(c) <then_branch = t () => (float[2] p) { [inner] p = Add(x, w) },
                       else_branch = e () => (float[2] q) { q = local.F(x) }> }
<domain: "local", opset_import: ["": 18]> F (v) => (r) { [deep] r = Relu(v) }"""


def names() -> Names:
    return Names(from_proto(onnx.parser.parse_model(TEXT)))


def test_all_scopes_count() -> None:
    found = names()
    for name in ("c", "x", "y", "w", "p", "q", "v", "r", "first", "inner", "deep"):
        assert name in found
    assert "free" not in found


def test_unique() -> None:
    found = names()
    assert [found.unique("free") for _ in range(3)] == ["free", "free_1", "free_2"]
    assert [found.unique("p") for _ in range(2)] == ["p_1", "p_2"]
    found.add("p_3")
    assert found.unique("p") == "p_4"
    assert found.unique("") == "value"
    assert found.unique("p_1") == "p_1_1"


def test_deterministic() -> None:
    asked = ["a", "p", "p", "a", "w_1", "w", "w"]
    assert [names().unique(hint) for hint in asked] == [names().unique(hint) for hint in asked]
    one, other = names(), names()
    assert [one.unique(hint) for hint in asked] == [other.unique(hint) for hint in asked]


def test_many_of_one_hint_cost_little() -> None:
    found = names()
    assert [found.unique("p") for _ in range(20_000)][-1] == "p_20000"


def test_an_operator_is_said_once_in_the_name_of_what_replaces_it():
    assert joined("a/Div", "LayerNormalization") == "a/Div/LayerNormalization"
    assert joined("a/Div/LayerNormalization", "LayerNormalization") == "a/Div/LayerNormalization"
    assert joined("a/Div/LayerNormalization_2", "LayerNormalization") == "a/Div/LayerNormalization"
