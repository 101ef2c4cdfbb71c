"""Raise the opset of a model where every operator says exactly the same in the newer one.

The standard's own converter guesses where it does not know. Here each change of each operator is a line of a
table (`opset_table`) or a step (`opset_steps`), and what has neither blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.errors import ModelError
from graphopt.ir import schemas, scopes
from graphopt.ir.inference import Facts
from graphopt.ir.names import Names
from graphopt.ir.opset_steps import STEPS, Array, Inexact, Operation
from graphopt.ir.opset_table import BLOCKED, IDENTICAL


@dataclass(frozen=True, slots=True)
class Blocker:
    """Why one node can't be raised.

    Attributes:
        version: The opset whose change of the operator stands in the way.
    """

    node: str
    op_type: str
    version: int
    reason: str

    def __str__(self) -> str:
        return f"node '{self.node}' ({self.op_type}): opset {self.version}: {self.reason}"


def can_convert(model: ir.Model, to_version: int) -> list[Blocker]:
    """The nodes that have no exact spelling in opset `to_version`; none: the conversion is exact.

    Looks at the main graph, all bodies, and the functions; what is newer already stays.
    """
    return _plan(model, to_version)[1]


def convert(model: ir.Model, to_version: int) -> None:
    """Raise the model, and its functions, to opset `to_version` of the standard operators, in place.

    Raises:
        ModelError: Some node has no exact spelling there (the first is named), or the model is newer already;
            the model is untouched.
    """
    current = model.graph.opset_imports.get("")
    if current is not None and current > to_version:
        raise ModelError(f"the model is at opset {current}, and opsets are only raised (to {to_version})")
    plan, blockers = _plan(model, to_version)
    if blockers:
        raise ModelError(f"{blockers[0]} ({len(blockers)} such nodes)", node=blockers[0].node)
    writer = _Writer(model)
    for operation in plan:
        writer.write(operation)
    for imports in _imports(model):
        imports[""] = max(imports[""], to_version)
    known = [onnx.helper.make_opsetid("", to_version)]
    model.ir_version = max(model.ir_version, onnx.helper.find_min_ir_version_for(known))


def _imports(model: ir.Model) -> list[dict[str, int]]:
    owners = [model.graph.opset_imports, *(f.opset_imports for f in model.functions.values())]
    return [imports for imports in owners if "" in imports]


def _plan(model: ir.Model, to_version: int) -> tuple[list[Operation], list[Blocker]]:
    facts = _lazy_facts(model)
    plan: list[Operation] = []
    blockers: list[Blocker] = []
    roots = [model.graph, *(function.graph for function in model.functions.values())]
    for root in roots:
        from_version = root.opset_imports.get("")
        if from_version is None or from_version >= to_version:
            continue
        for graph in scopes.nested(root):
            for node in graph:
                if node.domain or node.op_identifier() in model.functions:
                    continue
                if not _changes(node.op_type, from_version, to_version):
                    continue
                operation = Operation.of(node, facts)
                blocker = _raise(operation, from_version, to_version)
                if blocker is not None:
                    blockers.append(blocker)
                plan.append(operation)
    return plan, blockers


def _lazy_facts(model: ir.Model) -> Callable[[], Facts]:
    return cache(lambda: Facts(model))


@cache
def _changes(op_type: str, from_version: int, to_version: int) -> bool:
    """Whether the operator is another one in the newer opset, or not known in either."""
    old, new = (schemas.schema("", op_type, version) for version in (from_version, to_version))
    return old is None or new is None or old.since != new.since or new.deprecated


def _raise(operation: Operation, from_version: int, to_version: int) -> Blocker | None:
    """Take an operation version by version to the newest; return what stops it."""
    for version in range(from_version + 1, to_version + 1):
        op_type = operation.op_type
        reason = None
        found = schemas.schema("", op_type, version)
        step = STEPS.get((op_type, version))
        if step is not None:
            try:
                step(operation)
            except Inexact as finding:
                reason = str(finding)
        elif found is None:
            reason = "there is no such operator"
        elif found.since != version or version in IDENTICAL.get(op_type, ()):
            continue
        else:
            reason = BLOCKED.get((op_type, version), "its change is not in the table")
        if reason is not None:
            node = operation.node
            name = node.name or next((output.name for output in node.outputs if output.name), None)
            return Blocker(name or "", node.op_type, version, reason)
    return None


class _Writer:
    """Writes operations back into their nodes, and constants beside them."""

    def __init__(self, model: ir.Model) -> None:
        self._names = Names(model)
        self._in_function = {
            graph for function in model.functions.values() for graph in scopes.nested(function)
        }
        self._shared: dict[tuple[ir.Graph, str, tuple[int, ...], bytes], ir.Value] = {}

    def write(self, operation: Operation) -> None:
        node = operation.node
        inputs = [
            self._constant(node, value) if isinstance(value, np.ndarray) else value
            for value in operation.inputs
        ]
        if node.op_type != operation.op_type:
            node.op_type = operation.op_type
        node.attributes.clear()
        node.attributes.update(operation.attributes)
        node.resize_inputs(len(inputs))
        for index, value in enumerate(inputs):
            if node.inputs[index] is not value:
                node.replace_input_with(index, value)
        if len(node.outputs) != operation.outputs:
            node.resize_outputs(operation.outputs)

    def _constant(self, node: ir.Node, array: Array) -> ir.Value:
        """A value with these contents that the node can see; equal ones of a graph are one."""
        graph = node.graph
        assert isinstance(graph, ir.Graph), "a node of a model stands in a graph"
        key = (graph, array.dtype.str, array.shape, array.tobytes())
        known = self._shared.get(key)
        if known is not None:
            return known
        name = self._names.unique(f"{node.name or node.op_type}_constant")
        tensor = ir.tensor(array, name=name)
        if graph in self._in_function:  # a function's body can't hold initializers
            made = ir.node("Constant", [], {"value": tensor}, name=name)
            made.outputs[0].name = self._names.unique(f"{name}_value")
            node.prepend(made)
            return made.outputs[0]
        value = ir.Value(
            name=name, shape=ir.Shape(array.shape), type=ir.TensorType(tensor.dtype), const_value=tensor
        )
        graph.register_initializer(value)
        self._shared[key] = value
        return value
