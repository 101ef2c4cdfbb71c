"""What the inputs of a model mean, told from how the graph reads them.

    ids  -> Gather(embedding[1000, 64], ids)          an index from 0 to 999
    mask -> Cast -> Sub(1, mask) -> Mul(-10000)       ones, then zeros
    rate -> Equal(rate, 16000) -> If                  16000, or something else

A role is a guess that makes samples legal and telling; whether a sample is legal, the original decides.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from math import ceil, floor
from typing import Literal

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.verification.flow import Flow, Use, scalar

Kind = Literal["plain", "index", "mask", "length", "count", "choice"]

# Inputs that are sizes, counts or positions: large numbers there would make tensors huge.
_COUNTS: dict[str, tuple[int, ...]] = {
    "Range": (0, 1, 2),
    "TopK": (1,),
    "Tile": (1,),
    "Expand": (1,),
    "Reshape": (1,),
    "ConstantOfShape": (0,),
    "Slice": (1, 2),
    "Loop": (0,),
    "OneHot": (1,),
    "NonMaxSuppression": (2,),
    "Split": (1,),
    "Pad": (1,),
    "SequenceAt": (1,),
}
_LENGTHS: dict[str, int] = {"LSTM": 4, "GRU": 4, "RNN": 4, "ReverseSequence": 1}
_COMPARISONS = frozenset({"Less", "LessOrEqual", "Greater", "GreaterOrEqual"})
_TRUTH = frozenset({"Not", "And", "Or", "Xor"})
# What gives NaN for numbers below zero.
_POSITIVE = frozenset({"Log", "Sqrt"})
MAX_ONE_HOT = 1 << 18  # elements of a constant that are read
_MASKED = 1e3  # a factor this large beside a 0 or 1 is how masks are made: (1 - mask) * -10000


@dataclass(frozen=True, slots=True)
class Role:
    """How to fill an input.

    Attributes:
        kind: "index" of an axis (`low` to `high`), "mask" (ones, then zeros), "length" (1 to the size of the
            smallest dynamic dim), "count" (a small number), "choice" (constants that it is compared with, and
            one other), "plain" (anything of the type).
        high: Of an index: the largest; None where the axis is as long as a dynamic dim.
        choices: Constants that it is compared with.
        positive: Where NaN would come from numbers below zero.
    """

    kind: Kind = "plain"
    low: int = 0
    high: int | None = None
    choices: tuple[float | str, ...] = ()
    positive: bool = False


@dataclass(slots=True)
class _Evidence:
    """What was seen of one input."""

    lows: list[int] = field(default_factory=list)
    highs: list[int] = field(default_factory=list)
    likely: list[tuple[int, int]] = field(
        default_factory=list
    )  # bounds of an index that something was added to
    equal: dict[float | str, None] = field(default_factory=dict)
    near: dict[float | str, None] = field(default_factory=dict)
    index: bool = False
    truth: bool = False
    length: bool = False
    count: bool = False
    positive: bool = False


def role_of(value: ir.Value, flow: Flow) -> Role:
    """The role of one graph input."""
    seen = _Evidence()
    for use in flow.uses(value):
        _observe(use, seen, flow)
    dtype = value.dtype or ir.DataType.FLOAT
    name = (value.name or "").lower()
    rank = len(value.shape) if value.shape is not None else 1
    if dtype.is_integer():
        return _integer_role(seen, name, rank)
    if dtype == ir.DataType.STRING:
        return Role("choice", choices=tuple(c for c in seen.equal if isinstance(c, str)))
    if dtype == ir.DataType.BOOL:
        return Role("mask" if rank else "plain")
    if seen.truth and rank:
        return Role("mask")
    return Role(choices=_numbers(seen.near) if not rank else (), positive=seen.positive)


def _integer_role(seen: _Evidence, name: str, rank: int) -> Role:
    choices = _numbers(seen.equal)
    bounds = _index_bounds(seen, name)
    if bounds is not None:
        # A padding index that the graph looks for is worth meeting now and then.
        return Role("index", *bounds, tuple(c for c in choices if c >= bounds[0]))
    if seen.count or (seen.length and not rank):
        return Role("count", choices=choices)
    if rank and (seen.truth or (choices and set(choices) <= {0.0, 1.0}) or "mask" in name):
        return Role("mask")
    if seen.length:
        return Role("length")
    choices = tuple(dict.fromkeys(choices + _numbers(seen.near)))
    return Role("choice", choices=choices) if choices else Role()


def _index_bounds(seen: _Evidence, name: str) -> tuple[int, int | None] | None:
    if seen.index:
        low, high = max(seen.lows, default=0), min(seen.highs, default=None)
        return (low if high is None else min(low, high)), high
    if seen.likely and not seen.truth and "mask" not in name:
        low = max(a for a, _ in seen.likely)
        return low, max(low, min(b for _, b in seen.likely))
    return None


def _numbers(found: dict[float | str, None]) -> tuple[float, ...]:
    return tuple(c for c in found if isinstance(c, float))


def _observe(use: Use, seen: _Evidence, flow: Flow) -> None:
    node, index, kind = use.node, use.index, use.node.op_type
    if node.domain not in ("", "ai.onnx"):
        return
    if _INDEXED.get(kind) == index:
        _observe_index(use, seen, flow)
    elif kind == "Equal":
        _observe_constant(use, seen.equal)
        _observe_one_hot(use, seen)
    elif kind in _COMPARISONS:
        # Compared with something computed (positions, most often): a length.
        seen.length = not _observe_constant(use, seen.near) or seen.length
    seen.count = seen.count or index in _COUNTS.get(kind, ())
    seen.length = seen.length or _LENGTHS.get(kind) == index
    seen.truth = seen.truth or _is_truth(use)
    seen.positive = seen.positive or (kind in _POSITIVE and use.scale > 0)


def _is_truth(use: Use) -> bool:
    """Whether the node takes the value for yes or no."""
    node = use.node
    if node.op_type in _TRUTH or (node.op_type in ("Where", "If") and use.index == 0):
        return True
    if node.op_type == "Cast":
        return node.attributes.get_int("to", 0) == ir.DataType.BOOL
    if node.op_type == "Mul" and use.scale == -1 and use.offset == 1:
        number = scalar(node.inputs[1 - use.index])
        return isinstance(number, float) and abs(number) >= _MASKED
    return False


_INDEXED = {
    "Gather": 1,
    "GatherElements": 1,
    "GatherND": 1,
    "ScatterElements": 1,
    "ScatterND": 1,
    "OneHot": 0,
    "Scatter": 1,
}


def _observe_index(use: Use, seen: _Evidence, flow: Flow) -> None:
    """Bounds on x from 0 <= scale * x + offset < length."""
    length = _axis_length(use.node, flow)
    if not use.exact:
        if length is not None:
            seen.likely.append((0, length - 1))
        return
    seen.index = True
    if use.scale == 0:
        return
    ends = sorted(((0 - use.offset) / use.scale, ((length or 1) - 1 - use.offset) / use.scale))
    seen.lows.append(ceil(ends[0]))
    if length is not None:
        seen.highs.append(floor(ends[1]))


def _observe_one_hot(use: Use, seen: _Evidence) -> None:
    """Equal(x, [0, 1, ... n - 1]) spells OneHot."""
    other = constants.constant(use.node.inputs[1 - use.index])
    if other is None or not 1 < other.size <= MAX_ONE_HOT or not other.dtype.is_integer():
        return
    numbers = other.numpy().reshape(-1)
    if bool((numbers[1:] - numbers[:-1] == 1).all()):
        seen.likely.append((int(numbers[0]), int(numbers[-1])))


def _axis_length(node: ir.Node, flow: Flow) -> int | None:
    """How many elements the axis has that a node's indices choose from; None where that is not known."""
    if node.op_type == "OneHot":
        depth = scalar(flow.source(node.inputs[1]))
        return int(depth) if isinstance(depth, float) else None
    shape = _static_shape(flow.source(node.inputs[0]))
    if not shape:
        return None
    if node.op_type in ("GatherND", "ScatterND"):
        known = [d for d in shape if d is not None]
        return min(known) if len(known) == len(shape) else None
    axis = node.attributes.get_int("axis", 0)
    return shape[axis] if -len(shape) <= axis < len(shape) else None


def _static_shape(value: ir.Value | None) -> list[int | None] | None:
    """Dims as the constant has them or as they are declared (a hint that the original corrects)."""
    if value is None:
        return None
    tensor = constants.constant(value)
    shape = value.shape if tensor is None else tensor.shape
    return None if shape is None else [d if isinstance(d, int) else None for d in shape]


def _observe_constant(use: Use, found: dict[float | str, None]) -> bool:
    """Note the x for which the value meets the constant that it is compared with; False: with no constant."""
    number = scalar(use.node.inputs[1 - use.index])
    if isinstance(number, float) and use.scale:
        found[(number - use.offset) / use.scale] = None
    elif isinstance(number, str):
        found[number] = None
    return number is not None
