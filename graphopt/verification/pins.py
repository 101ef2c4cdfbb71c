"""Dynamic dims that the weights fix all the same.

    x[N, C, H, W] -> Conv(W[64, 3, 7, 7])        C is 3

Guesses from the operators that read an input directly; the original has the last word.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.operands import input_of
from graphopt.verification.signature import Input

_THROUGH = frozenset({"Identity", "Cast", "Relu", "Sigmoid", "Tanh", "Neg", "Abs", "Sqrt", "Exp", "Clip"})
_BROADCAST = frozenset({"Add", "Sub", "Mul", "Div"})


def pinned_dims(values: Sequence[ir.Value], inputs: Sequence[Input]) -> dict[str, int]:
    """Sizes of dynamic dims that an operator with weights asks for, by name."""
    found: dict[str, int] = {}
    for value, input_ in zip(values, inputs, strict=True):
        if input_.dims is not None:
            _follow(value, list(input_.dims), found)
    return found


def _follow(start: ir.Value, dims: list[int | str], found: dict[str, int]) -> None:
    work = [(start, dims)]
    seen = {start}
    while work:
        value, axes = work.pop()
        for node, index in value.uses():
            if node.domain not in ("", "ai.onnx") or index != 0:
                continue
            for axis, size in _asked(node, len(axes)):
                dim = axes[axis]
                if isinstance(dim, str):
                    found.setdefault(dim, size)
            moved = _moved(node, axes)
            if moved is not None and node.outputs[0] not in seen:
                seen.add(node.outputs[0])
                work.append((node.outputs[0], moved))


def _asked(node: ir.Node, rank: int) -> list[tuple[int, int]]:
    """(axis, size) pairs that the node asks of its first input."""
    shape = _shape(node, 1)
    if shape is None:
        return []
    if node.op_type in _BROADCAST:
        first = rank - len(shape)
        return [(first + i, size) for i, size in enumerate(shape) if size > 1] if first >= 0 else []
    found = _channel(node, rank, shape)
    return [] if found is None else [found]


def _channel(node: ir.Node, rank: int, shape: tuple[int, ...]) -> tuple[int, int] | None:
    attributes = node.attributes
    pairs = {
        "Conv": (3, 1, 1, attributes.get_int("group", 1) or 1),
        "ConvTranspose": (3, 1, 0, 1),
        "BatchNormalization": (2, 1, 0, 1),
        "InstanceNormalization": (2, 1, 0, 1),
        "LayerNormalization": (1, rank - 1, -1, 1),
        "MatMul": (1, rank - 1, -2, 1),
        "Gemm": (
            2,
            0 if attributes.get_int("transA", 0) else 1,
            1 if attributes.get_int("transB", 0) else 0,
            1,
        ),
        "LSTM": (3, 2, 2, 1),
        "GRU": (3, 2, 2, 1),
        "RNN": (3, 2, 2, 1),
    }
    lowest_rank, axis, place, factor = pairs.get(node.op_type, (rank + 1, 0, 0, 1))
    if rank < lowest_rank or not -len(shape) <= place < len(shape):
        return None
    return axis, shape[place] * factor


def _shape(node: ir.Node, index: int) -> tuple[int, ...] | None:
    tensor = constants.constant(input_of(node, index))
    return None if tensor is None else tuple(d for d in tensor.shape if isinstance(d, int))


def _moved(node: ir.Node, axes: list[int | str]) -> list[int | str] | None:
    """The dims of the node's output where they are the input's, moved at most."""
    if node.op_type == "Transpose":
        order = node.attributes.get_ints("perm") or range(len(axes))[::-1]
        return [axes[i] for i in order] if len(order) == len(axes) else None
    if node.op_type in _THROUGH:
        return axes
    if node.op_type in _BROADCAST:
        shape = _shape(node, 1)
        return axes if shape is not None and len(shape) <= len(axes) else None
    return None
