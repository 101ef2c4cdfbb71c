"""Copies of nodes: a function's at its call, a body's where it is inlined or unrolled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import onnx_ir as ir

from graphopt.ir.names import Names

__all__ = ["copy_nodes"]


def copy_nodes(
    nodes: Iterable[ir.Node],
    values: dict[ir.Value, ir.Value | None],
    names: Names,
    *,
    bound: Mapping[str, ir.Attr] | None = None,
    prefix: str = "",
) -> list[ir.Node]:
    """Copy nodes in order, with their bodies. The copies belong to no graph yet.

    Args:
        nodes: The nodes to copy.
        values: What stands for a value in the copy (None: an absent input); a value that is not in it is
            used as it is. What the nodes make is added.
        names: Where the copies' names come from.
        bound: The attributes of a function's call, which references resolve to; a reference to one that
            is not among them is left out, as the standard says. None: references stay.
        prefix: Put before the copies' names.
    """
    return [_copy(node, values, names, bound, prefix) for node in nodes]


def _copy(
    node: ir.Node,
    values: dict[ir.Value, ir.Value | None],
    names: Names,
    bound: Mapping[str, ir.Attr] | None,
    prefix: str,
) -> ir.Node:
    made = ir.Node(
        node.domain,
        node.op_type,
        [None if v is None else values.get(v, v) for v in node.inputs],
        [a for a in (_attribute(a, values, names, bound, prefix) for a in node.attributes.values()) if a],
        overload=node.overload,
        num_outputs=len(node.outputs),
        version=node.version,
        name=names.unique(f"{prefix}{node.name or node.op_type}"),
        doc_string=node.doc_string,
        metadata_props=dict(node.metadata_props),
    )
    for old, new in zip(node.outputs, made.outputs, strict=True):
        _describe(old, new, names, prefix)
        values[old] = new
    return made


def _describe(old: ir.Value, new: ir.Value, names: Names, prefix: str) -> None:
    new.name = names.unique(f"{prefix}{old.name}") if old.name else old.name
    new.type, new.shape, new.doc_string = old.type, old.shape, old.doc_string
    new.metadata_props.update(old.metadata_props)


def _attribute(
    attribute: ir.Attr,
    values: dict[ir.Value, ir.Value | None],
    names: Names,
    bound: Mapping[str, ir.Attr] | None,
    prefix: str,
) -> ir.Attr | None:
    if attribute.is_ref():
        if bound is None:
            return attribute
        given = bound.get(attribute.ref_attr_name or "")
        return None if given is None else ir.Attr(attribute.name, given.type, given.value)
    if attribute.type == ir.AttributeType.GRAPH:
        return ir.AttrGraph(attribute.name, _body(attribute.as_graph(), values, names, bound, prefix))
    if attribute.type == ir.AttributeType.GRAPHS:
        graphs = [_body(graph, values, names, bound, prefix) for graph in attribute.as_graphs()]
        return ir.AttrGraphs(attribute.name, graphs)
    return attribute


def _body(
    graph: ir.Graph,
    values: dict[ir.Value, ir.Value | None],
    names: Names,
    bound: Mapping[str, ir.Attr] | None,
    prefix: str,
) -> ir.Graph:
    for value in dict.fromkeys((*graph.inputs, *graph.initializers.values())):
        new = ir.Value(const_value=value.const_value)
        _describe(value, new, names, prefix)
        values[value] = new
    nodes = copy_nodes(graph, values, names, bound=bound, prefix=prefix)
    # A body's own value is never absent; only inputs of functions are.
    return ir.Graph(
        [values[v] or v for v in graph.inputs],
        [values.get(v, v) or v for v in graph.outputs],
        nodes=nodes,
        initializers=[values[v] or v for v in graph.initializers.values()],
        opset_imports=dict(graph.opset_imports),
        name=graph.name,
        doc_string=graph.doc_string,
        metadata_props=dict(graph.metadata_props),
    )
