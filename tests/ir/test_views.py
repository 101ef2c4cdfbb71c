"""The picture that networkx gets."""

import networkx as nx
import onnx
import onnx_ir as ir

from graphopt.ir.views import to_networkx

TEXT = """<ir_version: 10, opset_import: ["": 18]>
g (bool c, float[2] x) => (float[2] y) <float[2] w = {1, 2}> {
    [a] h = Add(x, x)
    [b] y = If(c) <then_branch = t () => (float[2] p) { [d] p = Add(h, w) },
                   else_branch = e () => (float[2] q) { [f] s = Neg(x) [g] q = Relu(s) }> }"""


def graph() -> ir.Graph:
    return ir.from_proto(onnx.parser.parse_model(TEXT)).graph


def named(picture: nx.MultiDiGraph) -> dict[str, object]:
    return {data["name"]: vertex for vertex, data in picture.nodes(data=True)}


def test_nodes_and_values_with_their_attributes() -> None:
    found = graph()
    picture = to_networkx(found)
    vertices = named(picture)
    assert set(vertices) == {"c", "x", "w", "a", "h", "b", "y"}
    assert vertices["a"] is found[0] and vertices["h"] is found[0].outputs[0]
    kinds = {name: picture.nodes[vertex]["kind"] for name, vertex in vertices.items()}
    assert (kinds["x"], kinds["w"], kinds["h"], kinds["a"]) == ("input", "initializer", "value", "node")
    assert picture.nodes[vertices["b"]]["op_type"] == "If"
    assert sorted(d["index"] for d in picture.get_edge_data(vertices["x"], vertices["a"]).values()) == [0, 1]
    captured = {u.name for u, _, d in picture.in_edges(vertices["b"], data=True) if d["kind"] == "captured"}
    assert captured == {"h", "w", "x"}


def test_bodies_in_detail() -> None:
    picture = to_networkx(graph(), subgraphs=True)
    vertices = named(picture)
    assert set(vertices) == {*"cxwahby", *"dpfsgq"}
    assert picture.nodes[vertices["g"]]["owner"] is vertices["b"]
    assert "owner" not in picture.nodes[vertices["h"]]
    assert nx.is_directed_acyclic_graph(picture)
    assert nx.has_path(picture, vertices["h"], vertices["y"])
    assert nx.has_path(picture, vertices["f"], vertices["b"])
    assert {d["kind"] for d in picture.get_edge_data(vertices["p"], vertices["b"]).values()} == {"body"}


def test_the_picture_of_a_body_alone_has_what_it_captures() -> None:
    body = graph()[1].attributes["then_branch"].as_graph()
    assert set(named(to_networkx(body))) == {"d", "p", "h", "w"}
