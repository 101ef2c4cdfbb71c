"""Which operators compute with 8-bit integers, and between which values: the plan that a quant table holds.

An operator with a weight takes its input quantized, one scale for all, and its weight with a scale for each
output. A Conv gives its output quantized, too, behind the activation that runtimes fuse into it: without that
onnxruntime convolves floats. What only adds, pools or joins quantized values computes with their codes: the
numbers between two convolutions stay codes. What was never observed keeps floats, its weight in 8 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.inference import Facts
from graphopt.ir.quant_table import OperatorPlan, TensorPlan
from graphopt.ir.quantizable import Weight, weight_of
from graphopt.ir.quantizing import Grid, asymmetric, channel_grid
from graphopt.ir.scoped_names import scopes, scopes_by_graph
from graphopt.quantization.calibration import Calibration
from graphopt.quantization.neighbours import is_alone, is_among_convolutions
from graphopt.quantization.observers import Method

__all__ = ["Between", "Candidate", "between", "candidates", "plan", "values_to_observe"]

# Smaller weights stay: their scales and the operators around them take what the codes save.
SMALLEST = 1024
_CONVOLUTIONS = ("Conv", "ConvTranspose")
_PRODUCTS = ("MatMul", "Gemm", *_CONVOLUTIONS)
# Activations that runtimes fuse into the convolution before them: codes saturate where they would cut.
_FUSED = ("Relu", "Clip")
# Operators that runtimes have integer kernels for where inputs and output are quantized; the largest of some
# codes is the code of the largest number only if the output has the input's scale.
_BETWEEN = ("Add", "Concat", "AveragePool", "GlobalAveragePool", "MaxPool")
_KEEPS_SCALE = ("MaxPool",)
_UNOBSERVED = "its input was never seen with anything in it"
_ONLY_ZEROS = "its input was never seen with anything but zeros in it"
_NOT_FINITE = "its weight has NaN or infinities in it"
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
        source: Scoped name of the value that it multiplies, quantized or not; None: it looks rows up.
    """

    name: str
    weight: Weight
    weight_name: str
    input: str | None
    output: str | None
    source: str | None = None


@dataclass(frozen=True)
class Between:
    """An operator without a weight whose inputs are all quantized outputs of others.

    Attributes:
        name: Its scoped name.
        inputs: Scoped names of what it takes.
        output: Scoped name of the value that is quantized behind it.
        keeps_scale: Whether that has the scale of the first input.
    """

    name: str
    inputs: tuple[str, ...]
    output: str
    keeps_scale: bool


def between(model: ir.Model, found: list[Candidate]) -> list[Between]:
    """Operators of all scopes that only quantized outputs flow into, in order."""
    where = scopes_by_graph(model)
    edges = {candidate.output for candidate in found if candidate.output is not None}
    added: list[Between] = []
    for scope, graph in scopes(model.graph):
        for node in graph:
            if node.op_type not in _BETWEEN or node.domain != "" or len(node.outputs) > 1:
                continue
            inputs = tuple(_scoped(value, where) for value in node.inputs if value is not None)
            if inputs and all(name in edges for name in inputs):
                keeps_scale = node.op_type in _KEEPS_SCALE
                output = node.outputs[0] if keeps_scale else _behind(node)
                name = _scoped(output, where)
                edges.add(name)
                added.append(Between(f"{scope}{node.name}", inputs, name, keeps_scale))
    return added


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
            _source(node, facts, where),
        )
        for scope, node, weight in _weighted(model)
    ]


def _weighted(model: ir.Model) -> Iterator[tuple[str, ir.Node, Weight]]:
    for scope, graph in scopes(model.graph):
        for node in graph:
            weight = weight_of(node)
            if weight is None:
                continue
            if weight.tensor.size >= SMALLEST or is_among_convolutions(node):
                yield scope, node, weight


def values_to_observe(found: list[Candidate], others: Sequence[Between] = ()) -> list[str]:
    """Scoped names of all values that operators take or give quantized, each once."""
    names = [name for c in found for name in (c.input, c.output) if name is not None]
    names += [other.output for other in others]
    return list(dict.fromkeys(names))


def plan(
    found: list[Candidate],
    calibration: Calibration,
    method: Method,
    others: Sequence[Between] = (),
    ranges: Mapping[str, tuple[float, float]] | None = None,
    *,
    per_tensor: bool = False,
) -> tuple[dict[str, TensorPlan], dict[str, OperatorPlan]]:
    """The table's tensors and operators.

    Args:
        found: Candidates of a model.
        calibration: Of the values that they take and give.
        method: How ranges are chosen.
        others: Operators between their outputs.
        ranges: Those that are chosen already.
        per_tensor: Whether weights get one scale each, not one for each output.
    """
    tensors: dict[str, TensorPlan] = {}
    operators: dict[str, OperatorPlan] = {}
    for name in values_to_observe(found, others):
        observer = calibration.observers[name]
        if observer.is_observed and (observer.low or observer.high):
            low, high = (ranges or {}).get(name) or observer.range(method)
            scale, zero = asymmetric(low, high, ir.DataType.UINT8)
            grid = Grid(ir.DataType.UINT8, np.asarray(scale, np.float32), np.asarray(zero, np.uint8))
            tensors[name] = TensorPlan(grid, range=(low, high), observed=observer.seen)
    for other in others:
        source = tensors.get(other.inputs[0])
        if other.keeps_scale and source is not None and other.output in tensors:
            own, group = tensors[other.output], source.group or other.inputs[0]
            tensors[other.output] = TensorPlan(source.grid, "activation", source.range, group, own.observed)
    axes: dict[str, int] = {}
    for candidate in found:
        weight = candidate.weight
        if axes.setdefault(candidate.weight_name, weight.channels) != weight.channels:
            operators[candidate.name] = OperatorPlan("float", reason=_OTHER_AXIS)
            continue
        if candidate.weight_name not in tensors:
            array = weight.tensor.numpy()
            if not np.isfinite(array).all():
                operators[candidate.name] = OperatorPlan("float", reason=_NOT_FINITE)
                continue
            axis = None if per_tensor else weight.channels
            tensors[candidate.weight_name] = TensorPlan(channel_grid(array, axis), "weight")
        operators[candidate.name] = _operator_plan(candidate, tensors, calibration)
    quantized = {name for chosen in operators.values() for name in chosen.outputs}
    for other in others:
        if other.output in tensors and all(name in quantized for name in other.inputs):
            operators[other.name] = OperatorPlan("int8", inputs=other.inputs, outputs=(other.output,))
            quantized.add(other.output)
    return tensors, operators


def _operator_plan(
    candidate: Candidate, tensors: Mapping[str, TensorPlan], calibration: Calibration
) -> OperatorPlan:
    size = candidate.weight.tensor.size
    if candidate.input is None:
        return OperatorPlan("weight_only", 8, bytes=size)
    needed = [name for name in (candidate.input, candidate.output) if name is not None]
    if not all(name in tensors for name in needed):
        is_seen = calibration.observers[candidate.input].is_observed
        return OperatorPlan("weight_only", 8, bytes=size, reason=_ONLY_ZEROS if is_seen else _UNOBSERVED)
    outputs = (candidate.output,) if candidate.output is not None else ()
    return OperatorPlan("int8", 8, (candidate.input,), outputs, bytes=size)


def _scoped(value: ir.Value, where: Mapping[ir.Graph, str]) -> str:
    producer = value.producer()
    graph = value.graph if producer is None else producer.graph
    return f"{where[graph]}{value.name}" if graph is not None else value.name or ""


def _input(node: ir.Node, facts: Facts, where: Mapping[ir.Graph, str]) -> str | None:
    return None if is_alone(node) else _source(node, facts, where)


def _source(node: ir.Node, facts: Facts, where: Mapping[ir.Graph, str]) -> str | None:
    value = node.inputs[0]
    if node.op_type not in _PRODUCTS or value is None or facts.dtype(value) != ir.DataType.FLOAT:
        return None
    return _scoped(value, where) if not value.is_initializer() else None


def _output(node: ir.Node, facts: Facts, where: Mapping[ir.Graph, str]) -> str | None:
    """What is quantized behind a convolution: the activation's output where that is all that takes it."""
    if node.op_type not in _CONVOLUTIONS or _input(node, facts, where) is None:
        return None
    return _scoped(_behind(node), where)


def _behind(node: ir.Node) -> ir.Value:
    """The output of a node, or of the activation that alone takes it."""
    value = node.outputs[0]
    uses = list(value.uses())
    if len(uses) == 1 and not value.is_graph_output() and uses[0].node.graph is node.graph:
        user = uses[0].node
        if user.op_type in _FUSED and user.domain == "":
            return user.outputs[0]
    return value
