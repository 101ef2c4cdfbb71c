"""Write a float32 model in float16 or bfloat16.

    before   x: float32 -> MatMul(w: float32) -> Softmax -> y: float32
    after    x: float32 -> Cast -> MatMul(w: float16) -> Softmax -> Cast -> y: float32

Graph inputs and outputs keep their types unless `keep-io=false`. What half precision would break stays in
float32 (`graphopt.ir.precision` says what), and so does what `keep-operators` and `keep-nodes` name. A value
is cast at most once each way, next to where it is made. Bodies are converted like their graph: what they
capture, carry and give has one type inside and outside.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

import numpy as np
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir import constants, lazy
from graphopt.ir.graphs import bodies
from graphopt.ir.precision import Limits, is_narrow_port, kept_nodes, limits_of
from graphopt.rewriting import Editor, Pass
from graphopt.rewriting.inlining import can_inline, inline_call

TYPES = {"float16": ir.DataType.FLOAT16, "bfloat16": ir.DataType.BFLOAT16}
WIDE = ir.DataType.FLOAT

# Larger constants are converted while they are saved.
CONVERTED_NOW = 1 << 16


@dataclass
class _Conversion:
    """The state of one run: which type each value has now that was float32."""

    editor: Editor
    limits: Limits
    kept: set[ir.Node]
    floats: set[ir.Value]
    now: dict[ir.Value, ir.DataType] = field(default_factory=dict)
    casts: dict[tuple[ir.Value, ir.DataType], ir.Value] = field(default_factory=dict)

    @property
    def has_changed(self) -> bool:
        return bool(self.now or self.casts)

    @property
    def narrow(self) -> ir.DataType:
        return self.limits.dtype

    def graph(self, graph: ir.Graph, opset: int) -> None:
        """Convert the nodes of a graph, and of its bodies."""
        for node in list(graph):
            if node.op_type == "Constant" and node.domain == "":
                continue
            for i, value in enumerate(node.inputs):
                if value is not None and value in self.floats:
                    wanted = self.wanted(node, i, value, opset)
                    node.replace_input_with(i, self.typed(value, wanted))
            for body in bodies(node):
                self.body(body, opset)
            self.outputs(node, opset)

    def body(self, body: ir.Graph, opset: int) -> None:
        for value in body.inputs:
            if value in self.floats:
                self.becomes(value)
        self.graph(body, opset)
        for i, value in enumerate(body.outputs):
            if value in self.floats:
                body.outputs[i] = self.given(body, value)

    def given(self, body: ir.Graph, value: ir.Value) -> ir.Value:
        """A body's float output in the short type, made in that body."""
        if self.now.get(value, WIDE) == self.narrow:
            return value
        made = self.typed(value, self.narrow)
        if made.graph is body and not made.is_initializer():
            return made
        node = ir.node("Identity", [made])
        body.append(node)
        return self.named(node, value)

    def wanted(self, node: ir.Node, index: int, value: ir.Value, opset: int) -> ir.DataType:
        if node.op_type == "Cast":
            return self.now.get(value, WIDE)  # A Cast takes what there is.
        if node in self.kept or not is_narrow_port(node, opset, index, self.narrow):
            return WIDE
        return self.narrow

    def outputs(self, node: ir.Node, opset: int) -> None:
        # A model that goes from half precision up to float32 does so on purpose.
        source = node.inputs[0] if node.op_type == "Cast" else None
        is_upward = source is not None and self.editor.facts.dtype(source) == self.narrow
        if node in self.kept or is_upward:
            return
        for i, value in enumerate(node.outputs):
            if value in self.floats and is_narrow_port(node, opset, i, self.narrow, output=True):
                self.becomes(value)
        to, filled = node.attributes.get("to"), node.attributes.get("value")
        if node.op_type == "Cast" and to is not None and to.value == WIDE:
            node.attributes["to"] = ir.AttrInt64("to", self.narrow)
        if node.op_type == "ConstantOfShape" and node.outputs[0] in self.floats:
            tensor = ir.tensor([0.0], WIDE) if filled is None else filled.as_tensor()
            node.attributes["value"] = ir.AttrTensor("value", self.converted(tensor))

    def becomes(self, value: ir.Value) -> None:
        self.now[value] = self.narrow
        value.type = ir.TensorType(self.narrow)

    # -------------------------------------------------------------- casts

    def typed(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        """The value in one of both types: itself, a converted constant, or one Cast of it."""
        if self.now.get(value, WIDE) == wanted:
            return value
        known = self.casts.get((value, wanted))
        if known is None:
            tensor = constants.constant(value)
            made = self.cast(value, wanted) if tensor is None else self.constant(value, tensor)
            self.casts[value, wanted] = known = made
        return known

    def constant(self, value: ir.Value, tensor: ir.TensorProtocol) -> ir.Value:
        converted = self.converted(tensor)
        graph = self.editor.model.graph
        made = ir.Value(
            name=self.editor.names.unique(f"{value.name}_{self.narrow.name.lower()}"),
            const_value=converted,
            type=ir.TensorType(self.narrow),
            shape=ir.Shape(constants.shape_of(tensor)),
        )
        graph.register_initializer(made)
        return made

    def converted(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        dtype, largest = self.narrow, self.limits.largest

        def narrowed(array: np.ndarray) -> np.ndarray:
            with np.errstate(all="ignore"):
                finite = np.isfinite(array)
                return np.where(finite, np.clip(array, -largest, largest), array).astype(dtype.numpy())

        if tensor.nbytes <= CONVERTED_NOW:
            return ir.Tensor(narrowed(np.asarray(tensor.numpy())), dtype=dtype)
        return lazy.mapped((tensor,), narrowed, dtype, constants.shape_of(tensor))

    def cast(self, value: ir.Value, wanted: ir.DataType) -> ir.Value:
        node = ir.node("Cast", [value], {"to": int(wanted)})
        producer = value.producer()
        graph = value.graph
        assert graph is not None
        if producer is not None:
            graph.insert_after(producer, node)
        elif len(graph):
            graph.insert_before(graph[0], node)
        else:
            graph.append(node)
        made = self.named(node, value)
        made.type = ir.TensorType(wanted)
        return made

    def named(self, node: ir.Node, value: ir.Value) -> ir.Value:
        made = node.outputs[0]
        made.name = self.editor.names.unique(f"{value.name}_{node.op_type}")
        node.name = self.editor.names.unique(f"{value.name}/{node.op_type}")
        made.shape = value.shape
        return made

    def give(self, graph: ir.Graph, wanted: ir.DataType) -> None:
        """Graph outputs get a type, under their own names."""
        for i, value in enumerate(graph.outputs):
            if value in self.floats and self.now.get(value, WIDE) != wanted and value.producer() is not None:
                made = self.typed(value, wanted)
                made.name, value.name = value.name, self.editor.names.unique(f"{value.name}_inner")
                graph.outputs[i] = made


@dataclass(frozen=True)
class ConvertFloat16(Pass):
    """Write a float32 model in float16 or bfloat16, but for what half precision would break."""

    name = "convert-float16"
    family = "layout"
    stage = "on-request"
    bound = "half precision: about 1e-2 of an output's largest value"

    type: str = "float16"
    keep_operators: tuple[str, ...] = ()
    keep_nodes: tuple[str, ...] = ()
    keep_io: bool = True

    def run_model(self, editor: Editor) -> None:
        """Convert the main graph and its bodies.

        Functions are written where they are called: what their values are depends on the call. Calls that
        can't be stay as they are, with float32.
        """
        if self.type not in TYPES:
            raise UsageError(f"pass {self.name}: type is {' or '.join(TYPES)}, not {self.type!r}")
        limits, model = limits_of(TYPES[self.type]), editor.model
        graph = model.graph
        _inline(editor)
        kept = kept_nodes(model, editor.facts, limits, self.keep_operators, self.keep_nodes)
        floats = _floats(graph, editor)
        if not floats:
            return
        conversion = _Conversion(editor, limits, kept, floats)
        if not self.keep_io:
            for value in graph.inputs:
                if value in floats and value.const_value is None:
                    conversion.becomes(value)
        conversion.graph(graph, graph.opset_imports.get("", 1))
        conversion.give(graph, WIDE if self.keep_io else limits.dtype)
        if conversion.has_changed:
            _drop_unused(graph)
            editor.adopt(model)


def _inline(editor: Editor) -> None:
    """Write the functions' bodies in the place of their calls, in those too."""
    functions = editor.model.functions
    pending = deque(n for n in editor.where.in_order() if n.op_identifier() in functions)
    while pending:
        call = pending.popleft()
        function = functions[call.op_identifier()]
        if can_inline(editor, call, function):
            inner = inline_call(editor, call, function)
            pending.extendleft(n for n in reversed(inner) if n.op_identifier() in functions)


def _floats(graph: ir.Graph, editor: Editor) -> set[ir.Value]:
    """Every float32 tensor of a graph and its bodies."""
    found = {v for v in (*graph.inputs, *graph.initializers.values()) if editor.facts.dtype(v) == WIDE}
    for node in graph:
        found.update(v for v in node.outputs if editor.facts.dtype(v) == WIDE)
        for body in bodies(node):
            found |= _floats(body, editor)
    return found


def _drop_unused(graph: ir.Graph) -> None:
    """Constants that only their converted copies stand for; in bodies too."""
    for node in list(graph):
        for body in bodies(node):
            _drop_unused(body)
        if (
            node.op_type == "Constant"
            and not node.outputs[0].uses()
            and not node.outputs[0].is_graph_output()
        ):
            graph.remove(node)
    for name, value in list(graph.initializers.items()):
        if not value.uses() and not value.is_graph_output() and not value.is_graph_input():
            graph.initializers.pop(name)
