"""The door to onnx-graphsurgeon, for people who know its API.

graphsurgeon carries less than a model holds: it drops metadata, doc strings, some kinds of attributes and
types, the input side of initializers that an input overrides. What it can't carry is kept from it on the way
in, and put back on the way out wherever the same name still means the same thing. Weights are not copied on
either way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import onnx
import onnx_ir as ir

from graphopt.errors import ModelError
from graphopt.ir import protobuf, scopes
from graphopt.ir.graphs import named_bodies
from graphopt.ir.save import references
from graphopt.ir.scopes import defined_values

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs
    from onnx_graphsurgeon.ir.tensor import LazyValues

_CARRIED = {
    onnx.AttributeProto.FLOAT,
    onnx.AttributeProto.INT,
    onnx.AttributeProto.STRING,
    onnx.AttributeProto.TENSOR,
    onnx.AttributeProto.GRAPH,
    onnx.AttributeProto.FLOATS,
    onnx.AttributeProto.INTS,
    onnx.AttributeProto.STRINGS,
}


def to_graphsurgeon(model: ir.Model) -> gs.Graph:
    """A graphsurgeon graph of the model, bodies and functions included.

    `Constant.values` reads a large weight when it is first asked for.
    """
    import onnx_graphsurgeon as gs
    from onnx_graphsurgeon.ir.tensor import LazyValues

    with references(model) as (skeleton, tensors):
        proto = onnx.ModelProto.FromString(skeleton)
    for graph in _graphs(proto):
        _hide_types(graph)
    for node in _nodes(proto):
        _hide_attributes(node)
    graph = gs.import_onnx(proto)
    for constant in _constants(graph):
        values = constant._values
        number = _number(values.tensor) if isinstance(values, LazyValues) else None
        if number is not None:
            constant._values = _lazy_values(values.tensor, tensors[number])
            constant.data_location = None  # "external" would stick to values that an edit puts in their place
    return graph


def from_graphsurgeon(graph: gs.Graph, like: ir.Model) -> ir.Model:
    """The model that a graphsurgeon graph describes.

    Args:
        graph: A graph from `to_graphsurgeon`, edited.
        like: The model it came from, for everything that graphsurgeon does not carry.

    Raises:
        ModelError: graphsurgeon can't export the graph.
    """
    return _restored(*_exported(graph), like)


def edited(model: ir.Model, edit: Callable[[gs.Graph], gs.Graph | None]) -> ir.Model | None:
    """The model as a function on a graphsurgeon graph leaves it; None where it edits nothing.

    Raises:
        ModelError: graphsurgeon can't export what the function made.
    """
    graph = to_graphsurgeon(model)
    stored = [(c, c._values) for c in _constants(graph) if not isinstance(c._values, np.ndarray)]
    before = _exported(graph)
    result = edit(graph)
    for constant, values in stored:
        # A constant that was read and left as it was is no edit, and need not be kept twice.
        if isinstance(constant._values, np.ndarray) and _same_array(constant._values, values.load()):
            constant._values = values
    after = _exported(graph if result is None else result)
    if after == before:
        return None
    return _restored(*after, model)


def _same_array(a: npt.NDArray[np.generic], b: npt.NDArray[np.generic]) -> bool:
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    return bool((a == b).all()) if a.dtype == np.object_ else a.tobytes() == b.tobytes()


def _exported(graph: gs.Graph) -> tuple[onnx.ModelProto, list[ir.TensorProtocol]]:
    """The graph as protobuf, and the weights that it refers to by number."""
    import onnx_graphsurgeon as gs

    tensors: list[ir.TensorProtocol] = []
    for constant in _constants(graph):
        source = getattr(constant._values, "source", None)
        if source is not None:
            entry = next(e for e in constant._values.tensor.external_data if e.key == "offset")
            entry.value = str(len(tensors))
            tensors.append(source)
    try:
        return gs.export_onnx(graph, do_type_check=False), tensors
    except Exception as error:  # its own exceptions, and whatever its edits lead to
        raise ModelError(f"graphsurgeon's graph can't be taken back: {error}") from error


def _restored(proto: onnx.ModelProto, tensors: list[ir.TensorProtocol], like: ir.Model) -> ir.Model:
    try:
        model = ir.from_proto(proto)
    except Exception as error:  # whatever the edits lead to
        raise ModelError(f"graphsurgeon's graph can't be taken back: {error}") from error
    _bind(model, tensors)
    return _Restoration(like).apply(model)


def _lazy_values(tensor: onnx.TensorProto, source: ir.TensorProtocol) -> LazyValues:
    from onnx_graphsurgeon.ir.tensor import LazyValues

    class StoredValues(LazyValues):  # type: ignore[misc]
        """Values that are read from where the model has them."""

        def __init__(self) -> None:
            super().__init__(tensor)
            self.source = source

        def load(self) -> npt.NDArray[np.generic]:
            return np.array(source.numpy())

    return StoredValues()


def _number(tensor: onnx.TensorProto) -> int | None:
    entries = {entry.key: entry.value for entry in tensor.external_data}
    return int(entries["offset"]) if entries.get("location") == protobuf.MARK else None


def _graphs(proto: onnx.ModelProto) -> Iterator[onnx.GraphProto]:
    pending = [proto.graph]
    for function in proto.functions:
        pending += [body for node in function.node for body in _bodies(node)]
    while pending:
        graph = pending.pop()
        yield graph
        pending += [body for node in graph.node for body in _bodies(node)]


def _bodies(node: onnx.NodeProto) -> list[onnx.GraphProto]:
    return [attribute.g for attribute in node.attribute if attribute.HasField("g")]


def _nodes(proto: onnx.ModelProto) -> Iterator[onnx.NodeProto]:
    for graph in _graphs(proto):
        yield from graph.node
    for function in proto.functions:
        yield from function.node


def _hide_attributes(node: onnx.NodeProto) -> None:
    kept = [attribute for attribute in node.attribute if _is_carried(attribute)]
    if len(kept) != len(node.attribute):
        del node.attribute[:]
        node.attribute.extend(kept)


def _is_carried(attribute: onnx.AttributeProto) -> bool:
    if attribute.ref_attr_name:
        return True
    lists = (attribute.floats, attribute.ints, attribute.strings)
    is_list = attribute.type in (
        onnx.AttributeProto.FLOATS,
        onnx.AttributeProto.INTS,
        onnx.AttributeProto.STRINGS,
    )
    return attribute.type in _CARRIED and (any(lists) or not is_list)


def _hide_types(graph: onnx.GraphProto) -> None:
    """Show a value that is neither a tensor nor a sequence of tensors as a tensor of unknown shape."""
    for info in (*graph.input, *graph.output, *graph.value_info):
        kind = info.type.WhichOneof("value")
        if kind == "optional_type" or (
            kind == "sequence_type" and not info.type.sequence_type.elem_type.HasField("tensor_type")
        ):
            info.type.Clear()
            info.type.tensor_type.elem_type = onnx.TensorProto.UINT8


def _constants(graph: gs.Graph) -> Iterator[gs.Constant]:
    import onnx_graphsurgeon as gs

    seen: set[int] = set()
    pending = [graph, *graph.functions]
    while pending:
        current = pending.pop()
        for node in current.nodes:
            for held in (*node.inputs, *node.outputs, *node.attrs.values()):
                if isinstance(held, gs.Constant) and id(held) not in seen:
                    seen.add(id(held))
                    yield held
            pending += [held for held in node.attrs.values() if isinstance(held, gs.Graph)]
        for held in current.outputs:
            if isinstance(held, gs.Constant) and id(held) not in seen:
                seen.add(id(held))
                yield held


def _bind(model: ir.Model, tensors: list[ir.TensorProtocol]) -> None:
    def bound(tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if isinstance(tensor, ir.ExternalTensor) and tensor.location == protobuf.MARK:
            return tensors[tensor.offset or 0]
        return tensor

    for graph in scopes.all_graphs(model):
        for value in graph.initializers.values():
            if value.const_value is not None:
                value.const_value = bound(value.const_value)
        for node in graph:
            for attribute in list(node.attributes.values()):
                if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
                    tensor = bound(attribute.as_tensor())
                    if tensor is not attribute.value:
                        node.attributes[attribute.name] = ir.AttrTensor(attribute.name, tensor)


class _Restoration:
    """Puts back what graphsurgeon does not carry."""

    def __init__(self, like: ir.Model) -> None:
        self._like = like

    def apply(self, model: ir.Model) -> ir.Model:
        like = self._like
        by_name = {(function.domain, function.name): function for function in like.functions.values()}
        functions: list[ir.Function] = []
        for function in model.functions.values():
            old = by_name.get((function.domain, function.name))
            if old is not None:
                self._graph(function.graph, old.graph, ())
                function.overload = old.overload
                function.doc_string = old.doc_string
                function.metadata_props.update(old.metadata_props)
            functions.append(function)
        self._graph(model.graph, like.graph, ())
        self._signature(model.graph, like.graph)
        restored = ir.Model(
            model.graph,
            ir_version=like.ir_version,
            producer_name=like.producer_name,
            producer_version=like.producer_version,
            domain=like.domain,
            model_version=like.model_version,
            doc_string=like.doc_string,
            functions=functions,
            metadata_props=dict(like.metadata_props) or None,
            device_configurations=like.device_configurations,
        )
        restored.meta.update(like.meta)
        return restored

    def _graph(self, graph: ir.Graph, old: ir.Graph, outer: Sequence[tuple[ir.Graph, ir.Graph]]) -> None:
        _lift_captured(graph, old, outer)
        graph.name = old.name
        graph.doc_string = old.doc_string
        graph.metadata_props.update(old.metadata_props)
        values = {value.name: value for value in defined_values(old) if value.name}
        for value in defined_values(graph):
            before = values.get(value.name or "")
            if before is not None:
                _restore_value(value, before)
        nodes = {node.outputs[0].name: node for node in old if node.outputs}
        for node in graph:
            match = nodes.get(node.outputs[0].name) if node.outputs else None
            if match is not None and match.op_type == node.op_type and match.domain == node.domain:
                self._node(node, match, (*outer, (graph, old)))

    def _node(self, node: ir.Node, old: ir.Node, scope: Sequence[tuple[ir.Graph, ir.Graph]]) -> None:
        node.doc_string = old.doc_string
        node.metadata_props.update(old.metadata_props)
        node.overload = old.overload
        node.device_configurations = old.device_configurations
        for name, attribute in old.attributes.items():
            if name not in node.attributes and not _visible(attribute):
                node.attributes[name] = attribute
        bodies = dict(named_bodies(old))
        for name, body in named_bodies(node):
            if name in bodies and body is not bodies[name]:
                self._graph(body, bodies[name], scope)

    def _signature(self, graph: ir.Graph, old: ir.Graph) -> None:
        """Bring back initializers that no node uses, and the inputs that have a default."""
        for name, value in old.initializers.items():
            if name not in graph.initializers and not value.uses() and value.const_value is not None:
                graph.register_initializer(
                    ir.Value(name=name, shape=value.shape, type=value.type, const_value=value.const_value)
                )
        present = {value.name for value in graph.inputs}
        for place, value in enumerate(old.inputs):
            default = graph.initializers.get(value.name or "")
            if value.is_initializer() and value.name not in present and default is not None:
                graph.inputs.insert(min(place, len(graph.inputs)), default)


def _lift_captured(body: ir.Graph, old: ir.Graph, outer: Sequence[tuple[ir.Graph, ir.Graph]]) -> None:
    """Bring initializers of outer graphs home: the exporter repeats them in each body that uses them."""
    for name in [name for name in body.initializers if name not in old.initializers]:
        owner = next(((new, was) for new, was in reversed(outer) if name in was.initializers), None)
        value = body.initializers[name]
        if owner is None or not _same_contents(value.const_value, owner[1].initializers[name].const_value):
            continue
        home = owner[0].initializers.get(name)
        if home is None:
            del body.initializers[name]
            owner[0].register_initializer(value)
        elif _same_contents(value.const_value, home.const_value):
            value.replace_all_uses_with(home)
            del body.initializers[name]


def _same_contents(a: ir.TensorProtocol | None, b: ir.TensorProtocol | None) -> bool:
    if a is None or b is None or a is b:
        return a is b
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.dtype == ir.DataType.STRING:
        return bool((a.numpy() == b.numpy()).all())
    return a.tobytes() == b.tobytes()


def _restore_value(value: ir.Value, old: ir.Value) -> None:
    if isinstance(old.type, (ir.SequenceType, ir.OptionalType)) or value.dtype == old.dtype:
        if value.shape == old.shape or value.shape is None or not isinstance(old.type, ir.TensorType):
            value.shape = old.shape
        value.type = old.type
    value.doc_string = old.doc_string
    value.metadata_props.update(old.metadata_props)
    value.meta.update(old.meta)


def _visible(attribute: ir.Attr) -> bool:
    """Whether graphsurgeon was shown the attribute, so that its absence is an edit."""
    if attribute.is_ref():
        return True
    number = attribute.type.value
    is_list = attribute.type in (ir.AttributeType.FLOATS, ir.AttributeType.INTS, ir.AttributeType.STRINGS)
    return number in _CARRIED and (not is_list or len(attribute.value) > 0)
