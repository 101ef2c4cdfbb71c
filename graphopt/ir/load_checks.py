"""Refuse what can't be taken, in one line each, before it becomes IR.

What stands here is what the step from protobuf to IR would lose in silence (sparse initializers, training
information, the second of two equal names) or report as a stack of nested errors.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache

import onnx

from graphopt.errors import ModelError

OLDEST_OPSET = 7
"""The oldest version of the standard operators understood; onnxruntime's own guarantee starts there."""

_GRAPH = onnx.AttributeProto.GRAPH
_GRAPHS = onnx.AttributeProto.GRAPHS
_SPARSE = (onnx.AttributeProto.SPARSE_TENSOR, onnx.AttributeProto.SPARSE_TENSORS)


def check_model(model: onnx.ModelProto, oldest: int = OLDEST_OPSET) -> None:
    """Refuse a parsed model that can't become IR without loss.

    Args:
        model: The model.
        oldest: The oldest version of the standard operators that is taken.

    Raises:
        ModelError: With the reason; the caller adds the file.
    """
    if not model.HasField("graph") or not model.ir_version:
        raise ModelError("is not an ONNX model")
    if model.ir_version > onnx.IR_VERSION:
        raise ModelError(
            f"has IR version {model.ir_version}, newer than {onnx.IR_VERSION}, the newest supported",
            hint="update the onnx package, or export with an older one",
        )
    _check_text("the model", model, ("producer_name", "producer_version", "domain", "doc_string"))
    if len(model.training_info):
        raise ModelError("holds training information", hint="export it for inference")
    _check_opsets("the model", model.opset_import, oldest)
    for graph in _graphs(model.graph):
        _check_graph(graph)
    known: set[tuple[str, str, str]] = set()
    for function in model.functions:
        identity = (function.domain, function.name, function.overload)
        if identity in known:
            raise ModelError(f"function '{function.domain}::{function.name}' is defined twice")
        known.add(identity)
        _check_opsets(f"function '{function.name}'", function.opset_import, oldest)
        _check_function(function)


@cache
def newest_opsets() -> dict[str, int]:
    """The newest version of each standard domain that the installed onnx package knows."""
    versions: dict[str, tuple[int, int]] = onnx.defs.C.schema_version_map()
    return {domain: newest for domain, (_, newest) in versions.items()}


def _check_opsets(owner: str, imports: Iterable[onnx.OperatorSetIdProto], oldest_standard: int) -> None:
    versions: dict[str, int] = {}
    for entry in imports:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        if versions.setdefault(domain, entry.version) != entry.version:
            raise ModelError(f"{owner} imports operator set '{domain}' in two versions")
    if not versions:
        raise ModelError(f"{owner} imports no operator set", hint="write its opset_import")
    newest = newest_opsets()
    for domain, version in versions.items():
        name = domain or "ai.onnx"
        if domain in newest and version > newest[domain]:
            raise ModelError(
                f"{owner} imports opset {version} of {name}; the newest supported is {newest[domain]}",
                hint="update the onnx package, or export with an older opset",
            )
        oldest = 1 if domain else oldest_standard
        if version < oldest:
            raise ModelError(
                f"{owner} imports opset {version} of {name}; the oldest supported is {oldest}",
                hint="export it with a newer opset, or raise it with onnx.version_converter",
            )


def _graphs(graph: onnx.GraphProto) -> Iterator[onnx.GraphProto]:
    pending = [graph]
    while pending:
        current = pending.pop()
        yield current
        _collect_bodies(current.node, pending)


def _check_text(
    owner: str,
    message: onnx.ModelProto | onnx.GraphProto | onnx.NodeProto | onnx.FunctionProto | onnx.ValueInfoProto,
    fields: tuple[str, ...],
) -> None:
    """Refuse text that is not UTF-8: protobuf hands it out as bytes, and nothing can write it again."""
    texts = [getattr(message, field) for field in fields]
    for entry in message.metadata_props:
        texts += (entry.key, entry.value)
    for text in texts:
        if not isinstance(text, str):
            raise ModelError(f"{owner} holds text that is not UTF-8: {text!r}")


def _collect_bodies(nodes: Iterable[onnx.NodeProto], pending: list[onnx.GraphProto]) -> None:
    for node in nodes:
        _check_text("a node", node, ("op_type", "name", "domain", "overload", "doc_string"))
        if not all(isinstance(name, str) for names in (node.input, node.output) for name in names):
            raise ModelError(
                f"node '{node.name}' ({node.op_type}): a value's name is not UTF-8", node=node.name
            )
        for attribute in node.attribute:
            kind = attribute.type
            if kind == _GRAPH:
                pending.append(attribute.g)
            elif kind == _GRAPHS:
                pending.extend(attribute.graphs)
            elif kind in _SPARSE:
                raise ModelError(
                    f"node '{node.name}' ({node.op_type}): sparse tensors are not supported",
                    node=node.name,
                    hint="store it dense",
                )


def _check_graph(graph: onnx.GraphProto) -> None:
    if len(graph.sparse_initializer):
        name = graph.sparse_initializer[0].values.name
        raise ModelError(
            f"initializer '{name}': sparse tensors are not supported", value=name, hint="store it dense"
        )
    _check_text("a graph", graph, ("name", "doc_string"))
    for info in (*graph.input, *graph.output, *graph.value_info):
        _check_text("a value", info, ("name", "doc_string"))
    for info in (*graph.input, *graph.output):
        if not info.name:
            raise ModelError(f"graph '{graph.name}' has an input or output without a name")
        _check_type(info.name, info.type)
    for info in graph.value_info:
        _check_type(info.name, info.type)
    inputs = _unique((info.name for info in graph.input), lambda name: f"input '{name}' is declared twice")
    initializers = _unique(
        (tensor.name for tensor in graph.initializer), lambda name: f"initializer '{name}' is defined twice"
    )
    if "" in initializers:
        raise ModelError(f"graph '{graph.name}' has an initializer without a name")
    _check_outputs_unique(graph.node, inputs | initializers)


def _check_function(function: onnx.FunctionProto) -> None:
    where = f"function '{function.name}'"
    _check_text("a function", function, ("name", "domain", "overload", "doc_string"))
    inputs = _unique(iter(function.input), lambda name: f"{where}: input '{name}' is declared twice")
    made = _check_outputs_unique(function.node, inputs)
    for name in function.output:
        if name not in made:
            raise ModelError(f"{where}: output '{name}' is made by no node", value=name)
    pending: list[onnx.GraphProto] = []
    _collect_bodies(function.node, pending)
    for body in pending:
        for graph in _graphs(body):
            _check_graph(graph)


def _unique(names: Iterator[str], message: Callable[[str], str]) -> set[str]:
    seen: set[str] = set()
    for name in names:
        if name in seen:
            raise ModelError(message(name), value=name)
        seen.add(name)
    return seen


def _check_outputs_unique(nodes: Iterable[onnx.NodeProto], taken: set[str]) -> set[str]:
    """Check that each node output has a name of its own; return all names of the scope."""
    names = set(taken)
    for node in nodes:
        for name in node.output:
            if not name:
                continue
            if name in names:
                raise ModelError(
                    f"value '{name}' is made twice, the second time by node '{node.name}' ({node.op_type})",
                    node=node.name,
                    value=name,
                )
            names.add(name)
    return names


def _check_type(name: str, declared: onnx.TypeProto) -> None:
    kind = declared.WhichOneof("value")
    while kind in ("sequence_type", "optional_type"):
        declared = getattr(declared, kind).elem_type
        kind = declared.WhichOneof("value")
    if kind in ("map_type", "opaque_type"):
        raise ModelError(
            f"value '{name}' is a {kind[:-5]}, which is not supported",
            value=name,
            hint="export without the ZipMap node, or cut the model before it" if kind == "map_type" else None,
        )
