"""Through graphsurgeon and back: nothing is lost, edits arrive, weights stay where they are."""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import onnx
import onnx_graphsurgeon as gs
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import ModelError
from graphopt.ir.graphsurgeon import edited, from_graphsurgeon, to_graphsurgeon
from graphopt.ir.load import from_proto, load
from graphopt.ir.storage import StoredTensor
from graphopt.ir.verifier import verify

TEXT = """<ir_version: 10, opset_import: ["": 18, "acme": 3, "local": 1], producer_name: "maker",
    producer_version: "1.2", domain: "org.acme", model_version: 7, doc_string: "about it",
    metadata_props: ["author": "someone"]>
g (float[batch, 2] x, bool c, seq(float[3]) s, optional(float[3]) o, float[2] w)
    => (float[batch, 2] y, seq(float[3]) t, optional(float[3]) u)
    <float[batch, 2] h, float[2] w = {1, 2}, float[2] k = {3, 4}, float[1] unused = {5}> {
    [first] h = local.Double <factor = 2.0> (x)
    [second] y = If(c) <then_branch = a () => (float[batch, 2] p) { [third] p = Add(h, k) },
        else_branch = b () => (float[batch, 2] q)
        { z = acme.Spin <axes = [0, 1], how = "fast"> (h, , k) [sixth] q = Mul(z, w) }>
    [fourth] t = Identity(s)
    [fifth] u = Identity(o)
}
<domain: "local", opset_import: ["": 18], doc_string: "doubles">
Double <factor> (v) => (r) { f = Constant <value_float: float = @factor> () r = Mul(v, f) }"""


def rich() -> ir.Model:
    proto = onnx.parser.parse_model(TEXT)
    graph = proto.graph
    graph.doc_string = "a graph"
    graph.metadata_props.add(key="k", value="v")
    graph.node[0].doc_string = "first"
    graph.node[0].metadata_props.add(key="source", value="line 3")
    graph.node[1].attribute[1].g.node[1].doc_string = "inside"
    graph.input[0].doc_string = "the input"
    graph.input[0].metadata_props.add(key="unit", value="m")
    empty = graph.node[2].attribute.add(name="nothing", type=onnx.AttributeProto.INTS)
    assert not empty.ints
    graph.node[2].attribute.append(
        helper.make_attribute("kind", helper.make_tensor_type_proto(TensorProto.FLOAT, [2]))
    )
    return from_proto(proto)


def text(model: ir.Model) -> str:
    """A printout in which the order of initializers, value infos and attributes does not count."""
    proto = ir.to_proto(model)
    order_graph(proto.graph)
    for function in proto.functions:
        order_nodes(function.node)
    return str(proto)


def order_graph(graph: onnx.GraphProto) -> None:
    order_nodes(graph.node)
    for entries in (graph.initializer, graph.value_info):
        entries.sort(key=lambda entry: entry.name)


def order_nodes(nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                order_graph(attribute.g)
            if attribute.HasField("t") and not attribute.t.name:
                attribute.t.ClearField("name")
        node.attribute.sort(key=lambda attribute: attribute.name)


def test_nothing_is_lost() -> None:
    model = rich()
    before = text(model)
    again = from_graphsurgeon(to_graphsurgeon(model), like=model)
    assert text(again) == before == text(model)
    assert [value.name for value in again.graph.inputs if value.is_initializer()] == ["w"]


DTYPES = [
    *(TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.DOUBLE, TensorProto.BFLOAT16, TensorProto.INT8),
    *(TensorProto.UINT8, TensorProto.INT16, TensorProto.INT32, TensorProto.INT64, TensorProto.BOOL),
    *(TensorProto.FLOAT8E4M3FN, TensorProto.FLOAT8E5M2, TensorProto.INT4, TensorProto.UINT4),
    TensorProto.STRING,
]


@pytest.mark.parametrize("count", [3, 5000])
@pytest.mark.parametrize("dtype", DTYPES, ids=TensorProto.DataType.Name)
def test_every_element_type(dtype: int, count: int) -> None:
    values = [b"one"] * count if dtype == TensorProto.STRING else [1] * count
    tensor = helper.make_tensor("w", dtype, [count], values)
    info = helper.make_tensor_value_info("y", dtype, [count])
    graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"], "n")], "g", [], [info], [tensor])
    model = from_proto(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))
    again = from_graphsurgeon(to_graphsurgeon(model), like=model)
    found = again.graph.initializers["w"].const_value
    assert found.dtype == dtype and found.shape == [count]
    np.testing.assert_array_equal(found.numpy(), model.graph.initializers["w"].const_value.numpy())


def weighted(tmp_path: Path) -> ir.Model:
    source = (
        '<ir_version: 10, opset_import: ["": 18]>\ng (float[5000] x) => (float[5000] y) { [n] y = Add(x, w) }'
    )
    proto = onnx.parser.parse_model(source)
    proto.graph.initializer.append(numpy_helper.from_array(np.arange(5000, dtype=np.float32), "w"))
    onnx.save(proto, tmp_path / "m.onnx")
    return load(tmp_path / "m.onnx")


def test_weights_are_not_read_until_asked_for(tmp_path: Path) -> None:
    model = weighted(tmp_path)
    graph = to_graphsurgeon(model)
    again = from_graphsurgeon(graph, like=model)
    tensor = again.graph.initializers["w"].const_value
    assert isinstance(tensor, StoredTensor) and tensor is model.graph.initializers["w"].const_value
    constant = graph.nodes[0].inputs[1]
    np.testing.assert_array_equal(constant.values, np.arange(5000))


def test_edits_arrive(tmp_path: Path) -> None:
    model = weighted(tmp_path)
    graph = to_graphsurgeon(model)
    node = graph.nodes[0]
    node.inputs[1].values = node.inputs[1].values * 2
    middle = gs.Variable("middle", np.float32, [5000])
    output = node.outputs[0]
    node.outputs = [middle]
    graph.nodes.append(gs.Node("Relu", "after", inputs=[middle], outputs=[output]))
    again = from_graphsurgeon(graph, like=model)
    verify(again)
    assert [n.op_type for n in again.graph] == ["Add", "Relu"]
    assert again.graph.initializers["w"].const_value.numpy()[3] == 6
    assert model.graph.initializers["w"].const_value.numpy()[3] == 3


def test_an_edit_inside_a_body_arrives() -> None:
    model = rich()
    graph = to_graphsurgeon(model)
    body = graph.nodes[1].attrs["then_branch"]
    body.nodes[0].op = "Sub"
    again = from_graphsurgeon(graph, like=model)
    assert again.graph[1].attributes["then_branch"].as_graph()[0].op_type == "Sub"
    assert list(again.graph.initializers) and "k" in again.graph.initializers


def test_a_deleted_attribute_stays_deleted() -> None:
    model = rich()
    graph = to_graphsurgeon(model)
    del graph.nodes[1].attrs["else_branch"].nodes[0].attrs["how"]
    again = from_graphsurgeon(graph, like=model)
    assert set(again.graph[1].attributes["else_branch"].as_graph()[0].attributes) == {"axes"}


def test_a_graph_that_can_not_be_exported_is_refused() -> None:
    model = rich()
    graph = to_graphsurgeon(model)
    graph.nodes[0].attrs["bad"] = object()
    with pytest.raises(ModelError, match="graphsurgeon's graph can't be taken back"):
        from_graphsurgeon(graph, like=model)


def test_an_edit_of_nothing_is_none(tmp_path: Path) -> None:
    assert edited(rich(), lambda graph: None) is None
    assert edited(weighted(tmp_path), lambda graph: graph) is None

    def read(graph: gs.Graph) -> None:
        assert graph.nodes[0].inputs[1].values.sum() > 0

    def write(graph: gs.Graph) -> None:
        graph.nodes[0].inputs[1].values[3] = 7

    assert edited(weighted(tmp_path), read) is None
    model = edited(weighted(tmp_path), write)
    assert model is not None and model.graph.initializers["w"].const_value.numpy()[3] == 7


@pytest.mark.parametrize(
    "name", ["router_if_ts17", "kv_loop_ts13", "scan_filter_18", "functions_script18", "bert_dyn18_raw"]
)
def test_real_models_come_back_as_they_were(zoo: Path, name: str) -> None:
    model = load(zoo / f"{name}.onnx")
    assert text(from_graphsurgeon(to_graphsurgeon(model), like=model)) == text(model)
