"""Compute what is computed twice only once, in every scope.

    before   a = Exp(x); b = Exp(x); If(c) { then: Exp(x) + 1 }
    after    a = Exp(x); If(c) { then: a + 1 }

Two nodes are equal when operator, attributes and inputs are: the two inputs of a commutative operator in
either order, small constants by their contents, attributes that say what the standard says anyway left
out. A node in a body may be equal to one before it in a graph around the body, which it then captures.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import constants, facts
from graphopt.ir.attribute_defaults import is_default
from graphopt.ir.graphs import bodies
from graphopt.rewriting import Editor, Pass

# Larger constants are equal only if they are one: `merge-initializers` has seen to that.
COMPARED_BYTES = 64

# Three floats add up to something else in another order.
ORDERED = frozenset({"Sum", "Mean"})

# repr tells 0.0 from -0.0 and one NaN from none; the kinds not listed are graphs and types.
PLAIN = frozenset(
    {
        ir.AttributeType.INT,
        ir.AttributeType.INTS,
        ir.AttributeType.FLOAT,
        ir.AttributeType.FLOATS,
        ir.AttributeType.STRING,
        ir.AttributeType.STRINGS,
    }
)

Key = tuple[Hashable, ...]


class _Merger:
    """One walk over a model, graphs before the bodies in them."""

    def __init__(self, editor: Editor, current: Pass) -> None:
        self._editor = editor
        self._pass = current
        self._contents: dict[ir.Value, Hashable] = {}

    def walk(self, graph: ir.Graph, seen: tuple[dict[Key, ir.Node], ...], opset: int) -> None:
        """Merge the nodes of a graph with each other and with what the graphs around it have seen."""
        own: dict[Key, ir.Node] = {}
        scopes = (own, *seen)
        for node in graph:
            key = self._key(node, opset)
            if key is None:
                for body in bodies(node):
                    self.walk(body, scopes, opset)
                continue
            for scope in scopes:
                first = scope.get(key)
                if first is not None and self._merge(node, first):
                    break
            else:
                own[key] = node

    def _key(self, node: ir.Node, opset: int) -> Key | None:
        """What equal nodes have in common; None: equal to nothing."""
        entry = facts.lookup(node)
        if entry is None or not entry.pure:
            return None
        attributes = _attributes_key(node, opset)
        if attributes is None:
            return None
        inputs = [self._input_key(v) for v in node.inputs]
        while inputs and inputs[-1] is None:
            inputs.pop()
        if entry.commutative and (len(inputs) == 2 or node.op_type not in ORDERED):
            inputs.sort(key=hash)
        outputs = tuple(bool(v.name) for v in node.outputs)
        return (node.domain, node.op_type, attributes, outputs, *inputs)

    def _input_key(self, value: ir.Value | None) -> Hashable:
        if value is None:
            return None
        key = self._contents.get(value)
        if key is None:
            tensor = constants.constant(value)
            small = tensor is not None and tensor.nbytes <= COMPARED_BYTES
            key = self._contents[value] = _tensor_key(tensor) if small and tensor is not None else value
        return key

    def _merge(self, node: ir.Node, first: ir.Node) -> bool:
        """Let the consumers of a node take an equal one's outputs; False where an output is in the way."""
        for old, new in zip(node.outputs, first.outputs, strict=True):
            if old.is_graph_output() and (new.graph is not old.graph or new.is_graph_output()):
                return False
        editor = self._editor
        assert node.graph is not None
        path = editor.regions[node.graph].path
        if not editor.begin_step(self._pass, "equal-node", path, node):
            return False
        for old, new in zip(node.outputs, first.outputs, strict=True):
            editor.take_over(old, new)
        editor.remove(node)
        return True


def _attributes_key(node: ir.Node, opset: int) -> Key | None:
    """The attributes in the order of names, defaults left out; None: not to be compared."""
    if not node.attributes:
        return ()
    key: list[Hashable] = []
    for name in sorted(node.attributes):
        attribute = node.attributes[name]
        if attribute.is_ref():
            key.append((name, "ref", attribute.ref_attr_name))
        elif attribute.type == ir.AttributeType.TENSOR:
            tensor = attribute.as_tensor()
            if tensor.nbytes > COMPARED_BYTES:
                return None
            key.append((name, _tensor_key(tensor)))
        elif attribute.type not in PLAIN:
            return None
        elif not is_default(node, attribute, opset):
            key.append((name, attribute.type, repr(attribute.value)))
    return tuple(key)


def _tensor_key(tensor: ir.TensorProtocol) -> Hashable:
    if tensor.dtype == ir.DataType.STRING:
        return ("strings", tuple(tensor.shape.numpy()), tuple(tensor.numpy().reshape(-1).tolist()))
    return (tensor.dtype, tuple(tensor.shape.numpy()), tensor.tobytes())


@dataclass(frozen=True)
class MergeCommon(Pass):
    """Merge nodes that compute the same."""

    name = "merge-common"
    family = "cleanup"
    marks_steps = True

    def run_model(self, editor: Editor) -> None:
        for region in list(editor.regions.values()):
            if region.owner is None:
                _Merger(editor, self).walk(region.graph, (), region.opsets.get("", 1))
