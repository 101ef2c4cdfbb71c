"""Which operators compute with 8-bit integers, and between which values: the plan that a quant table holds.

An operator with a weight takes its input quantized, one scale for all, and its weight with a scale for each
output. A Conv gives its output quantized, too, behind the activation that runtimes fuse into it: without that
onnxruntime convolves floats. What was never observed keeps floats, its weight stored in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.inference import Facts
from graphopt.ir.quant_table import OperatorPlan, TensorPlan
from graphopt.ir.quantizable import Weight, weight_of
from graphopt.ir.quantizing import Grid, asymmetric, channel_grid
from graphopt.ir.scoped_names import scopes, scopes_by_graph
from graphopt.quantization.calibration import Calibration
from graphopt.quantization.observers import Method

__all__ = ["Candidate", "candidates", "plan", "values_to_observe"]

# Smaller weights stay: their scales and the operators around them take what the codes save.
SMALLEST = 1024
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = ("MatMul", "Gemm", *_CONVOLUTIONS)
# Activations that runtimes fuse into the convolution before them.
_FUSED = ("Relu",)
_UNOBSERVED = "its input was never seen with anything in it"
_OTHER_AXIS = "its weight is stored along another axis for another operator"


@dataclass(frozen=True, eq=False)
class Candidate:
    """An operator that may be quantized.

    Attributes:
        name: Its scoped name.
        weight: Its weight.
        weight_name: The weight's scoped name.
        input: Scoped name of the value that it takes quantized; None: only its weight is stored in 8 bits.
        output: Scoped name of the value that is quantized behind it; None: its output stays float.
    """

    name: str
    weight: Weight
    weight_name: str
    input: str | None
    output: str | None


def candidates(model: ir.Model) -> list[Candidate]:
    """Operators of all scopes that may be quantized, in order."""
    facts = Facts(model)
    where = scopes_by_graph(model)
    return [
        Candidate(
            f"{scope}{node.name}",
            weight,
            _scoped(weight.value, where),
            _input(node, facts, where),
            _output(node, facts, where),
        )
        for scope, node, weight in _weighted(model)
    ]


def _weighted(model: ir.Model) -> Iterator[tuple[str, ir.Node, Weight]]:
    for scope, graph in scopes(model.graph):
        for node in graph:
            weight = weight_of(node)
            if weight is not None and weight.tensor.size >= SMALLEST:
                yield scope, node, weight


def values_to_observe(found: list[Candidate]) -> list[str]:
    """Scoped names of all values that candidates take or give quantized, each once."""
    names = [name for c in found for name in (c.input, c.output) if name is not None]
    return list(dict.fromkeys(names))


def plan(
    found: list[Candidate], calibration: Calibration, method: Method
) -> tuple[dict[str, TensorPlan], dict[str, OperatorPlan]]:
    """The table's tensors and operators.

    Args:
        found: Candidates of a model.
        calibration: Of the values that they take and give.
        method: How ranges are chosen.
    """
    tensors: dict[str, TensorPlan] = {}
    operators: dict[str, OperatorPlan] = {}
    for name in values_to_observe(found):
        observer = calibration.observers[name]
        if observer.is_observed:
            low, high = observer.range(method)
            scale, zero = asymmetric(low, high, ir.DataType.UINT8)
            grid = Grid(ir.DataType.UINT8, np.asarray(scale, np.float32), np.asarray(zero, np.uint8))
            tensors[name] = TensorPlan(grid, range=(low, high), observed=observer.seen)
    axes: dict[str, int] = {}
    for candidate in found:
        weight = candidate.weight
        if axes.setdefault(candidate.weight_name, weight.channels) != weight.channels:
            operators[candidate.name] = OperatorPlan("float", reason=_OTHER_AXIS)
            continue
        if candidate.weight_name not in tensors:
            tensors[candidate.weight_name] = _weight_plan(weight)
        operators[candidate.name] = _operator_plan(candidate, tensors)
    return tensors, operators


def _weight_plan(weight: Weight) -> TensorPlan:
    return TensorPlan(channel_grid(weight.tensor.numpy(), weight.channels), "weight")


def _operator_plan(candidate: Candidate, tensors: Mapping[str, TensorPlan]) -> OperatorPlan:
    size = candidate.weight.tensor.size
    if candidate.input is None:
        return OperatorPlan("weight_only", 8, bytes=size)
    needed = [name for name in (candidate.input, candidate.output) if name is not None]
    if not all(name in tensors for name in needed):
        return OperatorPlan("weight_only", 8, bytes=size, reason=_UNOBSERVED)
    outputs = (candidate.output,) if candidate.output is not None else ()
    return OperatorPlan("int8", 8, (candidate.input,), outputs, bytes=size)


def _scoped(value: ir.Value, where: Mapping[ir.Graph, str]) -> str:
    producer = value.producer()
    graph = value.graph if producer is None else producer.graph
    return f"{where[graph]}{value.name}" if graph is not None else value.name or ""


def _input(node: ir.Node, facts: Facts, where: Mapping[ir.Graph, str]) -> str | None:
    value = node.inputs[0]
    if node.op_type not in _PRODUCTS or value is None or facts.dtype(value) != ir.DataType.FLOAT:
        return None
    return _scoped(value, where) if not value.is_initializer() else None


def _output(node: ir.Node, facts: Facts, where: Mapping[ir.Graph, str]) -> str | None:
    """What is quantized behind a convolution: the activation's output where that is all that takes it."""
    if node.op_type not in _CONVOLUTIONS or _input(node, facts, where) is None:
        return None
    value = node.outputs[0]
    uses = list(value.uses())
    if len(uses) == 1 and not value.is_graph_output() and uses[0].node.graph is node.graph:
        user = uses[0].node
        if user.op_type in _FUSED and user.domain == "":
            value = user.outputs[0]
    return _scoped(value, where)
