"""Quantize nothing that has just been dequantized by the same map.

    before   q -> DequantizeLinear(s, z) -> QuantizeLinear(s, z)
    after    q

    before   q -> DequantizeLinear(s, z) -> Reshape -> Transpose -> QuantizeLinear(s, z)
    after    q -> Reshape -> Transpose

    before   ArgMax(DequantizeLinear(q))
    after    ArgMax(q)

Scale, zero point, axis and type must be the same bits: pairs with other scales round to other numbers. That
the way back gives every integer again is proved for the scale at hand (`Quantization.is_reversible`).
Between the two may lie what moves numbers or chooses among them: a maximum of integers is the integer of the
maximum, and since rounding keeps order a bound, or another constant, becomes its integer. What only asks for
the shape of numbers or for the largest one asks the integers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import attribute, axes_of
from graphopt.ir.operands import input_of
from graphopt.ir.quantization import BYTES, Quantization, is_dequantize, is_quantize, quantization
from graphopt.ir.quantizing import Grid, quantized
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, constant, op, rule_on
from graphopt.rewriting.operators import Operator
from graphopt.rewriting.weights import copy_of

NOT_REVERSIBLE = "the way there and back may not give every integer again"
OTHER_PARAMETERS = "scale, zero point, axis or type are not provably the same"

# Operators between a pair at most.
LONGEST = 8
# MaxPool and the reductions take integers of a byte from opset 12 on, Pad in onnxruntime from 13 on.
CHOOSING_SINCE = 12
PAD_SINCE = 13
# Constants beside what is dequantized are turned into integers up to this size.
MOST_ELEMENTS = 1 << 16

_MOVING = frozenset(
    {
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Slice",
        "Gather",
        "Expand",
        "Tile",
        "Identity",
    }
)
_CHOOSING = frozenset(
    {
        "MaxPool",
        "ReduceMax",
        "ReduceMin",
        "GatherElements",
        "GatherND",
        "Resize",
        "ReverseSequence",
        "DepthToSpace",
        "SpaceToDepth",
    }
)
# Which inputs are numbers: those that the result is chosen from.
_JOINING: dict[str, tuple[int, ...] | None] = {
    "Max": None,
    "Min": None,
    "Where": (1, 2),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
}


@dataclass(frozen=True)
class Source:
    """Integers that are there already."""

    value: ir.Value


@dataclass(frozen=True)
class Coded:
    """A constant as integers."""

    array: np.ndarray


@dataclass(frozen=True)
class Bounded:
    """Integers within bounds; None: there is none."""

    source: Plan
    low: np.ndarray | None
    high: np.ndarray | None


@dataclass(frozen=True)
class Moved:
    """A node that moves what lies above it; `sources` for its first inputs, or for those of `places`."""

    node: ir.Node
    sources: tuple[Plan, ...]
    pad: np.ndarray | None = None
    places: tuple[int, ...] | None = None


Plan = Source | Coded | Bounded | Moved


@rule_on("QuantizeLinear", depth=LONGEST)
def quantized_again(m: Match) -> ir.Value | Rejection | None:
    """QuantizeLinear(movement(DequantizeLinear(q))) -> movement(q)."""
    return _without(m)


@rule_on("QuantizeLinear", domain="com.microsoft", depth=LONGEST)
def quantized_again_by_microsoft(m: Match) -> ir.Value | Rejection | None:
    """QuantizeLinear(movement(DequantizeLinear(q))) -> movement(q)."""
    return _without(m)


def _without(m: Match) -> ir.Value | Rejection | None:
    value = m.root.inputs[0]
    if value is None or not _may_lead_to_integers(value):
        return None
    wanted = quantization(m.root, m.facts)
    if wanted is None:
        return Rejection(OTHER_PARAMETERS, m.output)
    if not wanted.is_reversible:
        return Rejection(NOT_REVERSIBLE, m.output)
    plan = _plan(m, value, wanted, LONGEST)
    return plan if plan is None or isinstance(plan, Rejection) else _built(plan)


def _may_lead_to_integers(value: ir.Value) -> bool:
    """A quick look: is there a DequantizeLinear above, beyond what moves its numbers?"""
    node = value.producer()
    for _ in range(LONGEST):
        if node is None or is_dequantize(node):
            return node is not None
        if node.domain != "" or node.op_type not in _STEPS:
            return False
        places = _JOINING.get(node.op_type) or range(len(node.inputs))
        makers = (v.producer() for i in places if (v := input_of(node, i)) is not None)
        node = next((maker for maker in makers if maker is not None and maker.op_type != "Constant"), None)
    return False


def _plan(m: Match, value: ir.Value, wanted: Quantization, steps: int) -> Plan | Rejection | None:
    """How the integers of a value are had; None where it is not made of integers."""
    node = value.producer()
    if node is None:
        return None
    if is_dequantize(node):
        found, source = quantization(node, m.facts), node.inputs[0]
        if found is None or source is None or not found.same_as(wanted):
            return Rejection(OTHER_PARAMETERS, value)
        return Source(source)
    step = _STEPS.get(node.op_type) if node.domain == "" and wanted.dtype in BYTES else None
    if step is None or steps == 0 or node.graph is not m.root.graph:
        return None
    if not m.has_one_consumer(value) or len(node.outputs) > 1:
        return Rejection(HAS_OTHER_CONSUMERS, value)
    return step(m, node, wanted, steps - 1)


def _one(m: Match, node: ir.Node, wanted: Quantization, steps: int) -> Plan | Rejection | None:
    """Plan a node with one input that is moved."""
    source = node.inputs[0]
    above = _plan(m, source, wanted, steps) if source is not None else None
    return above if above is None or isinstance(above, Rejection) else Moved(node, (above,))


def _moving(m: Match, node: ir.Node, wanted: Quantization, steps: int) -> Plan | Rejection | None:
    if wanted.axis is None:
        return _one(m, node, wanted, steps)
    axis = _axis_above(m, node, wanted.axis)
    return None if axis is None else _one(m, node, _along(wanted, axis), steps)


def _along(wanted: Quantization, axis: int) -> Quantization:
    return Quantization(wanted.scale, wanted.zero_point, wanted.dtype, wanted.wide, axis)


def _axis_above(m: Match, node: ir.Node, axis: int) -> int | None:
    """Which axis of the input an axis of the output is; None if none, or if elements of it are left out."""
    if node.op_type == "Identity":
        return axis
    if node.op_type == "Transpose":
        perm = attribute(node, "perm")
        rank = m.rank(node.outputs[0])
        order = perm if isinstance(perm, tuple) else tuple(reversed(range(rank))) if rank is not None else ()
        return int(order[axis]) if axis < len(order) else None
    source = node.inputs[0]
    axes, rank = axes_of(node, m.opset), m.rank(source) if source is not None else None
    if not axes or rank is None:
        return None
    if node.op_type == "Slice":
        return axis if axis not in {a % rank for a in axes} else None
    if node.op_type == "Unsqueeze":
        made = {a % (rank + len(axes)) for a in axes}
        return axis - sum(a < axis for a in made) if axis not in made else None
    if node.op_type == "Squeeze":
        return [a for a in range(rank) if a not in {b % rank for b in axes}][axis]
    return None


def _choosing(m: Match, node: ir.Node, wanted: Quantization, steps: int) -> Plan | Rejection | None:
    if wanted.axis is not None or m.opset < CHOOSING_SINCE:
        return None
    if node.op_type == "Resize":
        mode = attribute(node, "mode", "nearest")
        outside = attribute(node, "coordinate_transformation_mode", "half_pixel")
        if mode != "nearest" or outside == "tf_crop_and_resize" or attribute(node, "antialias"):
            return None
    return _one(m, node, wanted, steps)


def _pad(m: Match, node: ir.Node, wanted: Quantization, steps: int) -> Plan | Rejection | None:
    """What is padded with becomes its integer."""
    if wanted.axis is not None or m.opset < PAD_SINCE or wanted.wide != ir.DataType.FLOAT:
        return None
    above = _one(m, node, wanted, steps)
    if not isinstance(above, Moved) or attribute(node, "mode", "constant") != "constant":
        return above
    given = node.inputs[2] if len(node.inputs) > 2 else None
    number = 0.0 if given is None else m.scalar(given)
    return None if number is None else Moved(node, above.sources, _integer(wanted, number))


def _integer(wanted: Quantization, number: float) -> np.ndarray:
    return np.asarray(wanted.integer_of(number), wanted.dtype.numpy())


def _bounded(m: Match, node: ir.Node, wanted: Quantization, steps: int) -> Plan | Rejection | None:
    """Relu and Clip: rounding keeps order, so that a bound of numbers is its integer."""
    if wanted.axis is not None or m.opset < CHOOSING_SINCE or wanted.wide != ir.DataType.FLOAT:
        return None
    bounds: list[float | None] = [0.0, None]
    if node.op_type == "Clip":
        for i in (1, 2):
            given = input_of(node, i)
            bounds[i - 1] = None if given is None else m.scalar(given)
            if given is not None and bounds[i - 1] is None:
                return Rejection(OTHER_PARAMETERS, given)
    above = _one(m, node, wanted, steps)
    if not isinstance(above, Moved):
        return above
    low, high = (None if b is None else _integer(wanted, b) for b in bounds)
    low = None if low is None or low <= wanted.lowest else low
    high = None if high is None or high >= wanted.highest else high
    return above.sources[0] if low is None and high is None else Bounded(above.sources[0], low, high)


def _joining(m: Match, node: ir.Node, wanted: Quantization, steps: int) -> Plan | Rejection | None:
    """What chooses among several values, one of them dequantized at least; the others may be constants."""
    if wanted.axis is not None or m.opset < CHOOSING_SINCE or wanted.wide != ir.DataType.FLOAT:
        return None
    if attribute(node, "reduction", "none") != "none":
        return None
    places = _JOINING[node.op_type] or tuple(range(len(node.inputs)))
    plans: list[Plan] = []
    for place in places:
        value = input_of(node, place)
        found = _coded(m, value, wanted)
        if found is None:
            above = _plan(m, value, wanted, steps) if value is not None else None
            if above is None or isinstance(above, Rejection):
                return above
            found = above
        plans.append(found)
    if all(isinstance(plan, Coded) for plan in plans):
        return None
    return Moved(node, tuple(plans), places=places)


def _coded(m: Match, value: ir.Value | None, wanted: Quantization) -> Plan | None:
    tensor = m.tensor(value)
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or tensor.size > MOST_ELEMENTS:
        return None
    grid = Grid(wanted.dtype, wanted.scale.astype(np.float32), wanted.zero_point)
    array = tensor.numpy()
    return Coded(quantized(array, grid)) if np.isfinite(array).all() else None


def _concat(m: Match, node: ir.Node, wanted: Quantization, steps: int) -> Plan | Rejection | None:
    rank, axis = m.rank(node.outputs[0]), attribute(node, "axis")
    if wanted.axis is not None and (rank is None or not isinstance(axis, int) or axis % rank == wanted.axis):
        return None
    plans: list[Plan] = []
    for value in node.inputs:
        found = None if wanted.axis is not None else _coded(m, value, wanted)
        if found is None:
            above = _plan(m, value, wanted, steps) if value is not None else None
            if above is None or isinstance(above, Rejection):
                return above
            found = above
        plans.append(found)
    return None if all(isinstance(plan, Coded) for plan in plans) else Moved(node, tuple(plans))


Step = Callable[[Match, ir.Node, Quantization, int], Plan | Rejection | None]
_STEPS: dict[str, Step] = {
    **dict.fromkeys(sorted(_MOVING), _moving),
    **dict.fromkeys(sorted(_CHOOSING), _choosing),
    "Pad": _pad,
    "Concat": _concat,
    "Relu": _bounded,
    "Clip": _bounded,
    **dict.fromkeys(sorted(_JOINING), _joining),
}


def _built(plan: Plan) -> ir.Value:
    if isinstance(plan, Source):
        return plan.value
    if isinstance(plan, Coded):
        return constant(plan.array)
    if isinstance(plan, Bounded):
        return op.Clip(_built(plan.source), plan.low, plan.high)
    inputs: list[ir.Value | np.ndarray | None] = list(plan.node.inputs)
    places = plan.places if plan.places is not None else range(len(plan.sources))
    for place, source in zip(places, plan.sources, strict=True):
        inputs[place] = _built(source)
    if plan.pad is not None:
        inputs[2:3] = [constant(plan.pad)]
    return copy_of(plan.node, inputs)


@rule_on("Split", depth=2)
def split_of_dequantized(m: Match) -> dict[ir.Value, ir.Value] | Rejection | None:
    """QuantizeLinear(Split(DequantizeLinear(q))) for every part -> Split(q)."""
    value = m.root.inputs[0]
    source = value.producer() if value is not None else None
    if source is None or not is_dequantize(source):
        return None
    wanted = quantization(source, m.facts)
    integers = source.inputs[0]
    if integers is None or wanted is None or wanted.dtype not in BYTES or wanted.axis is not None:
        return Rejection(OTHER_PARAMETERS, m.output)
    parts: list[list[ir.Value]] = []
    for part in m.root.outputs:
        users = [use.node for use in part.uses()]
        if part.is_graph_output() or any(not is_quantize(n) or n.graph is not m.root.graph for n in users):
            return Rejection(HAS_OTHER_CONSUMERS, part)
        found = [quantization(user, m.facts) for user in users]
        if any(q is None or not q.same_as(wanted) for q in found):
            return Rejection(OTHER_PARAMETERS, part)
        parts.append([user.outputs[0] for user in users])
    if not wanted.is_reversible or not any(parts):
        return Rejection(NOT_REVERSIBLE, m.output)
    made = Operator("", ("Split",))(
        integers, *m.root.inputs[1:], outputs=len(parts), **dict(m.root.attributes.items())
    )
    return {old: new for olds, new in zip(parts, made, strict=True) for old in olds}


@rule_on("ArgMax", "ArgMin", "Shape", "Size", depth=1)
def asked_of_dequantized(m: Match) -> ir.Value | Rejection | None:
    """ArgMax(DequantizeLinear(q)) -> ArgMax(q)."""
    value = m.root.inputs[0]
    source = value.producer() if value is not None else None
    if value is None or source is None or not is_dequantize(source) or source.inputs[0] is None:
        return None
    if not m.has_one_consumer(value):
        return Rejection(HAS_OTHER_CONSUMERS, value)
    if m.root.op_type in ("ArgMax", "ArgMin"):
        found = quantization(source, m.facts)
        if found is None or found.axis is not None or found.dtype not in BYTES or m.opset < PAD_SINCE:
            return Rejection(OTHER_PARAMETERS, value)
        if not found.is_reversible:  # two integers could be one number
            return Rejection(NOT_REVERSIBLE, value)
    return copy_of(m.root, [source.inputs[0]])


@dataclass(frozen=True)
class CancelQdq(Pass):
    """Cancel quantization of what has just been dequantized by the same map."""

    name = "cancel-qdq"
    family = "quantization"
    rules = (quantized_again, quantized_again_by_microsoft, split_of_dequantized, asked_of_dequantized)
