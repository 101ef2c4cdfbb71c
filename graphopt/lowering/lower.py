"""A model becomes a Program: operator by operator, then pass by pass over the instructions."""

from __future__ import annotations

from collections.abc import Iterable

import onnx_ir as ir

from graphopt.errors import ModelError
from graphopt.ir.constants import constant
from graphopt.ir.fact import TensorFact
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import Facts
from graphopt.ir.names import Names
from graphopt.ir.own_operators import DOMAIN as OWN
from graphopt.lowering import registry
from graphopt.lowering.batched_scan import expand_batched_scan
from graphopt.lowering.builder import Builder, Shared
from graphopt.lowering.expansion import expand
from graphopt.lowering.folding import fold_constants, fold_nodes
from graphopt.lowering.program import ABSENT, Module, Program
from graphopt.lowering.reference import emit_reference
from graphopt.lowering.registry import NotLowered
from graphopt.lowering.taps import DOMAIN as TAPS

__all__ = ["Lowering", "lower"]


def lower(model: ir.Model, *, precision: str = "f32", is_plain: bool = False) -> Program:
    """The Program of a model. The model is changed where functions are expanded: give a copy.

    Args:
        model: A model that the verifier accepts.
        precision: "f32", "f16" (weights are stored so), "bf16" (dot products), "int8" (dynamic, row by row).
        is_plain: Every node as an instruction of the reference implementation, for where there is no engine.

    Raises:
        ModelError: An operator that neither the engine nor the reference implementation has; a rank above 8.
    """
    lowering = Lowering(model, precision, is_plain)
    program = lowering.program()
    from graphopt.lowering.passes import finish

    if not is_plain:
        _check_ranks(program.main)
        finish(program)
    return program


def _check_ranks(main: Module) -> None:
    for register in (r for module in main.walk() for r in module.registers):
        rank = len(register.dims or ())
        if rank > MAX_RANK:
            raise ModelError(f"value '{register.name}' has rank {rank}; the engine takes up to {MAX_RANK}")


# Dims that the engine's tensors have room for.
MAX_RANK = 8


class Lowering:
    """One model on its way."""

    def __init__(self, model: ir.Model, precision: str, is_plain: bool = False) -> None:
        self.model = model
        fold_constants(model)
        self.facts = Facts(model)
        self.names = Names(model)
        self.shared = Shared(self.facts, dict(model.opset_imports), precision)
        self.is_plain = is_plain

    def program(self) -> Program:
        """All modules."""
        graph = self.model.graph
        builder = Builder(self.shared, "main")
        self.module(graph, builder, list(graph.inputs))
        return Program(
            builder.module,
            self.shared.constants.constants,
            tuple(v.name or "" for v in graph.inputs),
            tuple(v.name or "" for v in graph.outputs),
            tuple(_declared(v) for v in graph.inputs),
            tuple(_declared(v) for v in graph.outputs),
            tuple(self.shared.fallbacks),
            {v.name or "": v.const_value.numpy() for v in graph.inputs if v.const_value is not None},
            tuple(self._type_name(v) for v in graph.inputs),
            tuple(self._type_name(v) for v in graph.outputs),
        )

    def module(self, graph: ir.Graph, build: Builder, inputs: Iterable[ir.Value]) -> Module:
        """Fill the builder's module with a graph's nodes."""
        module = build.module
        for value in inputs:
            register = build.output_of(value, build.dtype(value))
            module.inputs.append(register)
            # At once: the number of an iteration tells dims of what the loop carries.
            build.define_elements(value, register)
        pending = list(graph)[::-1]
        while pending:
            node = pending.pop()
            expanded = self.node(node, build)
            pending.extend(reversed(expanded))
        for value in graph.outputs:
            module.outputs.append(build.register(value))
        return module

    def node(self, node: ir.Node, build: Builder) -> list[ir.Node]:
        """Lower one node; the nodes that stand in its place where it has to be expanded."""
        if all(constant(output) is not None for output in node.outputs):
            return []
        if self.is_plain:
            return self._plain(node, build)
        if node.op_type not in _BODIES and all(map(build.is_symbolic, node.outputs)):
            return []
        build.start(node)
        reason = "there is no kernel"
        function = registry.find(node.domain, node.op_type)
        if function is not None and (node.op_identifier() not in self.model.functions or node.domain == OWN):
            mark = build.mark()
            result = function(build, node)
            if not isinstance(result, NotLowered):
                self._after(node, build)
                return []
            build.rewind(mark)
            reason = result.reason
        elif node.op_type in _BODIES and node.domain == "" and not _is_batched_scan(node, build):
            self.control_flow(node, build)
            self._after(node, build)
            return []
        expanded = self._expanded(node, build)
        if expanded is not None:
            return expanded
        self.shared.fallbacks.append(
            (f"{node.domain}::{node.op_type}" if node.domain else node.op_type, reason)
        )
        emit_reference(build, node)
        self._after(node, build)
        return []

    def _expanded(self, node: ir.Node, build: Builder) -> list[ir.Node] | None:
        if _is_batched_scan(node, build):
            return expand_batched_scan(node, self.names)
        made = expand(self.model, node, build.opset(node), self.facts, self.names)
        return None if made is None else fold_nodes(self.model, made)

    def _plain(self, node: ir.Node, build: Builder) -> list[ir.Node]:
        """Only control flow and taps are ours."""
        build.start(node)
        function = registry.find(node.domain, node.op_type) if node.domain == TAPS else None
        if function is not None:
            function(build, node)
            return []
        if node.op_type in _BODIES and node.domain == "" and not _is_batched_scan(node, build):
            self.control_flow(node, build)
            return []
        if node.op_identifier() in self.model.functions or bodies(node) or node.op_type in _WITHOUT_REFERENCE:
            expanded = self._expanded(node, build)
            if expanded is not None:
                return expanded
        emit_reference(build, node)
        return []

    def _type_name(self, value: ir.Value) -> str:
        """The type as a session names it: "tensor(float)", "seq(tensor(int64))"."""
        dtype = self.facts.dtype(value)
        return _type_name(value.type) or f"tensor({'undefined' if dtype is None else dtype.name.lower()})"

    def control_flow(self, node: ir.Node, build: Builder) -> None:
        """If, Loop and Scan: their bodies are modules of their own."""
        from graphopt.lowering.control_flow import lower_if, lower_loop, lower_scan

        {"If": lower_if, "Loop": lower_loop, "Scan": lower_scan}[node.op_type](self, node, build)

    def _after(self, node: ir.Node, build: Builder) -> None:
        """Note what the results tell of symbols: their dims, and the contents of small ones."""
        for output in node.outputs:
            register = build.registered(output)
            if register == ABSENT:
                continue
            dims = build.module.registers[register].dims
            declared = self.facts.dims(output)
            if dims is not None and declared is not None:
                build.equate(declared, register)
            fact = self.facts.of(output)
            if isinstance(fact, TensorFact) and fact.elements is not None:
                build.define_elements(output, register)


def _type_name(type_: ir.TypeProtocol | None) -> str:
    if isinstance(type_, ir.SequenceType | ir.OptionalType):
        kind = "seq" if isinstance(type_, ir.SequenceType) else "optional"
        return f"{kind}({_type_name(type_.elem_type)})"
    if not isinstance(type_, ir.TensorType) or type_.dtype == ir.DataType.UNDEFINED:
        return ""
    return f"tensor({type_.dtype.name.lower()})"


_BODIES = ("If", "Loop", "Scan")

# onnx.reference can't run them, but the nodes of their functions.
_WITHOUT_REFERENCE = ("GroupNormalization",)


def _is_batched_scan(node: ir.Node, build: Builder) -> bool:
    """Scan-8 has a batch axis and lengths of its own."""
    return node.op_type == "Scan" and build.opset(node) < 9


def _declared(value: ir.Value) -> tuple[int | str | None, ...] | None:
    if value.shape is None or not isinstance(value.type, ir.TensorType):
        return None
    return tuple(
        (d if d >= 0 else None)
        if isinstance(d, int)
        else (None if d.value in (None, "", "?") else str(d.value))
        for d in value.shape
    )
