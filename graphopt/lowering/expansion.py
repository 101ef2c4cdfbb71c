"""A node as the nodes of its function: the model's own, the standard's, or an operator's of onnxruntime."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Protocol, cast

import onnx
import onnx_ir as ir

from graphopt.ir.calls import body_of_call
from graphopt.ir.fact import Fact, OptionalFact, SequenceFact, TensorFact
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import Facts
from graphopt.ir.names import Names
from graphopt.ir.schemas import definition
from graphopt.ir.scopes import captured
from graphopt.lowering.contributed import CONTRIBUTED, contributed_function

__all__ = ["expand"]


def expand(model: ir.Model, node: ir.Node, opset: int, facts: Facts, names: Names) -> list[ir.Node] | None:
    """Put the body of the node's function in its place; the new nodes, or None where it has no body.

    Args:
        model: The model; its graph is changed.
        node: A node of the model or of a body in it.
        opset: The version of the node's domain.
        facts: What the types of the node's inputs are asked of.
        names: Where new names come from.
    """
    # Bodies of the node that end up in the function go on using what lies outside.
    outside = {value.name or "": value for body in bodies(node) for value in captured(body)}
    function, used = model.functions.get(node.op_identifier()), list[ir.Value]()
    if function is None:
        function, used = _standard_body(node, opset, facts, outside)
    graph = node.graph
    if function is None or not isinstance(graph, ir.Graph):
        return None
    defaults = _defaults(node, opset)
    nodes, outputs = body_of_call(function, node, names, defaults=defaults, captured=used)
    for copied in nodes:
        _set_versions(copied, function.opset_imports)
        copied.metadata_props["of"] = node.name or node.op_type
    graph.insert_before(node, nodes)
    for old, new in zip(node.outputs, outputs, strict=False):
        if old.is_graph_output() or new.producer() not in nodes:
            identity = ir.Node(
                "", "Identity", [new], num_outputs=1, version=13, name=names.unique("handed_on")
            )
            graph.insert_before(node, identity)
            nodes.append(identity)
            new = identity.outputs[0]
        name = old.name
        old.replace_all_uses_with(new, replace_graph_outputs=True)
        old.name, new.name = None, name
    graph.remove(node, safe=True)
    return nodes


def _set_versions(node: ir.Node, imports: dict[str, int]) -> None:
    """Nodes of a function keep the versions that it imports."""
    if node.version is None:
        node.version = imports.get(node.domain)
    for body in bodies(node):
        for inner in body:
            _set_versions(inner, imports)


def _defaults(node: ir.Node, opset: int) -> dict[str, ir.Attr]:
    """The values that the standard gives to attributes which are left out."""
    schema = definition(node.domain, node.op_type, opset)
    if schema is None:
        return {}
    given = (a.default_value for a in schema.attributes.values())
    return {a.name: ir.serde.deserialize_attribute(a) for a in given if a is not None and a.name}


def _standard_body(
    node: ir.Node, opset: int, facts: Facts, outside: Mapping[str, ir.Value]
) -> tuple[ir.Function | None, list[ir.Value]]:
    """The function that the standard gives for an operator, and outer values that it takes as well."""
    if node.domain == CONTRIBUTED:
        return contributed_function(node, facts), []
    schema = definition(node.domain, node.op_type, opset)
    if schema is None:
        return None, []
    # The stubs of onnx leave functions out.
    known = cast(_Functions, schema)
    if known.has_function:
        proto = known.function_body
        if node.domain == "":
            found = known.get_function_with_opset_version(schema.since_version)
            proto = onnx.FunctionProto.FromString(found) if found else proto
    elif known.has_context_dependent_function:
        types = [_type_of(None if v is None else facts.of(v)).SerializeToString() for v in node.inputs]
        serialized = ir.serde.serialize_node(node).SerializeToString()
        versions = known.context_dependent_function_opset_versions
        version = max((v for v in versions if v <= opset), default=schema.since_version)
        found = known.get_context_dependent_function_with_opset_version(version, serialized, types)
        if not found:
            return None, []
        proto = onnx.FunctionProto.FromString(found)
    else:
        return None, []
    if not proto.node:
        return None, []
    # A body that depends on its call may not make the outputs that the call leaves out.
    made = {name for inner in proto.node for name in inner.output}.union(proto.input)
    while proto.output and proto.output[-1] not in made:
        proto.output.pop()
    names = {name for graph in _graphs(proto) for inner in graph.node for name in inner.input}
    used = {name: value for name, value in outside.items() if name in names and name not in made}
    proto.input.extend(used)
    return ir.serde.deserialize_function(proto), list(used.values())


def _graphs(of: onnx.FunctionProto | onnx.GraphProto) -> Iterator[onnx.FunctionProto | onnx.GraphProto]:
    """Itself and the graphs of all bodies in it."""
    pending = [of]
    while pending:
        graph = pending.pop()
        yield graph
        pending += [a.g for node in graph.node for a in node.attribute if a.HasField("g")]


class _Functions(Protocol):
    """What a schema has to say of its operator's function."""

    has_function: bool
    function_body: onnx.FunctionProto
    has_context_dependent_function: bool
    context_dependent_function_opset_versions: list[int]

    def get_function_with_opset_version(self, version: int) -> bytes: ...

    def get_context_dependent_function_with_opset_version(
        self, version: int, node: bytes, types: list[bytes]
    ) -> bytes: ...


def _type_of(fact: Fact | None) -> onnx.TypeProto:
    made = onnx.TypeProto()
    if isinstance(fact, SequenceFact):
        made.sequence_type.elem_type.CopyFrom(_type_of(fact.element))
    elif isinstance(fact, OptionalFact):
        made.optional_type.elem_type.CopyFrom(_type_of(fact.element))
    elif isinstance(fact, TensorFact) and fact.dtype is not None:
        made.tensor_type.elem_type = int(fact.dtype)
        if fact.dims is not None:
            for dim in fact.dims:
                added = made.tensor_type.shape.dim.add()
                if type(dim) is int:
                    added.dim_value = dim
                else:
                    added.dim_param = str(dim)
    return made
