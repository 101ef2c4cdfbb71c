"""Where the value of an input goes: an iterative walk along the edges, through bodies and functions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.graphs import bodies

# Operators whose output holds elements of these inputs, unchanged, perhaps others beside them.
_CARRIERS: dict[str, tuple[int, ...]] = {
    **dict.fromkeys(
        (
            "Cast", "CastLike", "Compress", "ConcatFromSequence", "DepthToSpace", "Dropout", "Expand",
            "Flatten", "Gather", "GatherElements", "GatherND", "Identity", "Optional", "OptionalGetElement",
            "Pad", "Reshape", "Resize", "ReverseSequence", "SequenceAt", "Slice", "SpaceToDepth", "Split",
            "SplitToSequence", "Squeeze", "Tile", "Transpose", "Trilu", "Unsqueeze", "Upsample",
        ),
        (0,),
    ),
    "ScatterElements": (0, 2),
    "ScatterND": (0, 2),
    "Where": (1, 2),
    "SequenceInsert": (0, 1),
}  # fmt: skip
_ARITHMETIC = frozenset({"Add", "Sub", "Mul"})
_VARIADIC = frozenset({"Concat", "SequenceConstruct", "Sum", "Max", "Min"})


MAX_CALL_DEPTH = 64

_Scaled = tuple[ir.Value, float, float]  # a value, its scale and its offset


@dataclass(frozen=True, slots=True)
class Use:
    """The value, as `scale * x + offset` of the input x, read by a node as its input `index`.

    Attributes:
        exact: False where something computed was added to it or multiplied with it on the way.
    """

    node: ir.Node
    index: int
    scale: float
    offset: float
    exact: bool


def nodes_of(model: ir.Model) -> Iterator[ir.Node]:
    """Every node, bodies and functions included."""
    for scope in (model.graph, *(f.graph for f in model.functions.values())):
        yield from scope.all_nodes()


class Flow:
    """The edges of one model, bodies and functions included, made once for all inputs."""

    def __init__(self, model: ir.Model) -> None:
        self._functions = model.functions
        self._outside: dict[ir.Value, list[ir.Value]] = {}
        self._given: dict[ir.Value, ir.Value] = {}
        for node in nodes_of(model):
            self._link(node)

    def _link(self, node: ir.Node) -> None:
        """Remember which outputs of the node the outputs of its bodies, or of its function, become."""
        for graph in bodies(node):
            # A Loop's first inner output is its condition, which goes nowhere.
            inner = graph.outputs[1:] if node.op_type == "Loop" else graph.outputs
            self._join(inner, node.outputs)
        function = self._functions.get(node.op_identifier())
        if function is not None:
            self._join(function.outputs, node.outputs)
            for parameter, value in zip(function.inputs, node.inputs, strict=False):
                if value is not None:
                    self._given.setdefault(parameter, value)

    def _join(self, inner: Sequence[ir.Value], outer: Sequence[ir.Value]) -> None:
        for a, b in zip(inner, outer, strict=False):
            self._outside.setdefault(a, []).append(b)

    def source(self, value: ir.Value | None) -> ir.Value | None:
        """What the first call of a function gives for its parameter; other values as they are."""
        for _ in range(MAX_CALL_DEPTH):
            if value is None or value not in self._given:
                break
            value = self._given[value]
        return value

    def uses(self, start: ir.Value) -> Iterator[Use]:
        """Every read of `start` and of values made from it by moving it, or by adding and scaling.

        Each value is visited once, along exact ways first.
        """
        exact: list[_Scaled] = [(start, 1.0, 0.0)]
        computed: list[_Scaled] = []
        seen: set[ir.Value] = set()
        while exact or computed:
            is_exact = bool(exact)
            value, scale, offset = (exact or computed).pop()
            if value in seen:
                continue
            seen.add(value)
            reached = [(v, scale, offset) for v in self._outside.get(value, ())]
            for node, index in value.uses():
                yield Use(node, index, scale, offset, is_exact)
                reached += [(v, scale, offset) for v in self._next(node, index)]
                affine = _affine(node, index, scale, offset)
                if affine is not None:
                    reached.append((node.outputs[0], *affine))
                elif node.op_type in _ARITHMETIC and node.domain in ("", "ai.onnx"):
                    computed.append((node.outputs[0], 1.0, 0.0))
            (exact if is_exact else computed).extend(reached)

    def _next(self, node: ir.Node, index: int) -> list[ir.Value]:
        """Values that hold the elements of this input unchanged."""
        function = self._functions.get(node.op_identifier())
        if function is not None:
            return [function.inputs[index]] if index < len(function.inputs) else []
        if node.domain not in ("", "ai.onnx"):
            return []
        if node.op_type in _VARIADIC or index in _CARRIERS.get(node.op_type, ()):
            return list(node.outputs)
        if node.op_type in ("Loop", "Scan"):
            # The body's inputs stand where the node's do: trip count, condition, carried values, scanned.
            first = 2 if node.op_type == "Loop" else 0
            return [g.inputs[index] for g in bodies(node) if first <= index < len(g.inputs)]
        return []


def scalar(value: ir.Value | None) -> float | str | None:
    """The number (or string) of a constant of one element; None for everything else."""
    tensor = constants.constant(value)
    if tensor is None or tensor.size != 1:
        return None
    element = tensor.numpy().reshape(-1)[0]
    if isinstance(element, bytes):
        return element.decode(errors="replace")
    return element if isinstance(element, str) else float(element)


def _affine(node: ir.Node, index: int, scale: float, offset: float) -> tuple[float, float] | None:
    """What Add, Sub and Mul with a constant make of `scale * x + offset`."""
    if node.op_type not in _ARITHMETIC or node.domain not in ("", "ai.onnx"):
        return None
    number = scalar(node.inputs[1 - index])
    if not isinstance(number, float):
        return None
    if node.op_type == "Mul":
        return scale * number, offset * number
    if node.op_type == "Add":
        return scale, offset + number
    return (scale, offset - number) if index == 0 else (-scale, number - offset)
