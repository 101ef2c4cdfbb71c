"""Names over all scopes."""

from __future__ import annotations

import onnx
import onnx_ir as ir

from graphopt.ir.scoped_names import name_nodes, scopes_by_graph, values_by_name

MODEL = """
<ir_version: 8, opset_import: ["": 17]>
g (float[2] x, bool c) => (float[2] y) {
    [%NAME%] y = If (c) <
        then_branch = t () => (float[2] a) { [n] a = Neg(x) },
        else_branch = e () => (float[2] b) { h = Abs(x)  b = Neg(h) }
    >
}
"""


def model(name: str) -> ir.Model:
    proto = onnx.parser.parse_model(MODEL.replace("%NAME%", "n"))
    proto.graph.node[0].name = name
    return ir.from_proto(proto)


def test_values_of_bodies() -> None:
    found = values_by_name(model("a/b:c%d"))
    scope = "a/b%3Ac%25d"
    assert set(found) == {
        "x",
        "c",
        "y",
        f"{scope}:then_branch/a",
        f"{scope}:else_branch/h",
        f"{scope}:else_branch/b",
    }


def test_nodes_get_names_that_nothing_else_has() -> None:
    nameless = model("")
    name_nodes(nameless)
    assert nameless.graph[0].name == "If"
    scopes = scopes_by_graph(nameless)
    assert list(scopes.values()) == ["", "If:then_branch/", "If:else_branch/"]
    names = [node.name for graph in scopes for node in graph]
    assert all(names) and len(set(names)) == len(names)
    before = list(names)
    name_nodes(nameless)
    assert [node.name for graph in scopes for node in graph] == before
