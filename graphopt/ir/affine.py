"""Affine maps a channel: y = x * scale + shift, with one pair for each index of an axis, or one for all.

What exporters write as BatchNormalization, Mul, Div, Add, Sub and Neg with constants is one thing to
what can take it in: a convolution's or a matrix product's weights, or another such map.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attributes import attribute, attribute_float
from graphopt.ir.element_types import FLOATS
from graphopt.ir.inference import Facts

__all__ = ["MOST_CHANNELS", "Affine", "affine_of", "channels_of"]

# A constant with more elements than any layer has channels is no affine map; its bytes are not read.
MOST_CHANNELS = 1 << 18

Vector = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Affine:
    """y = x * scale + shift.

    Attributes:
        scale: float64 [] or [C].
        shift: float64 [] or [C].
        axis: The axis of the C channels, counted from the front; None: both are scalars.
    """

    scale: Vector
    shift: Vector
    axis: int | None

    @property
    def has_scale(self) -> bool:
        return bool(np.any(self.scale != 1))

    @property
    def has_shift(self) -> bool:
        return bool(np.any(self.shift != 0))

    @property
    def is_finite(self) -> bool:
        return bool(np.isfinite(self.scale).all() and np.isfinite(self.shift).all())

    @property
    def is_positive(self) -> bool:
        """Whether it keeps the order of numbers, and 0 times infinity can't come up."""
        return bool((self.scale > 0).all())

    def equals(self, other: Affine) -> bool:
        """Whether the two are one map."""
        return (
            self.axis == other.axis
            and np.array_equal(self.scale, other.scale)
            and np.array_equal(self.shift, other.shift)
        )

    @property
    def only_scale(self) -> Affine:
        return Affine(self.scale, np.zeros(()), self.axis if self.scale.ndim else None)

    @property
    def inverse_sum(self) -> Affine | None:
        """The map m with (x * scale + shift) + z = (x + m(z)) * scale; None where a scale is 0."""
        if not bool((self.scale != 0).all()):
            return None
        with np.errstate(all="ignore"):
            found = Affine(1 / self.scale, self.shift / self.scale, self.axis)
        return found if found.is_finite else None

    def along(self, axis: int) -> Affine:
        """The same map with its channels on another axis (scalars have none)."""
        return self if self.axis is None else Affine(self.scale, self.shift, axis)

    def after(self, first: Affine) -> Affine | None:
        """`self` applied to what `first` gives; None if their channels are on different axes."""
        if self.axis is not None and first.axis is not None and self.axis != first.axis:
            return None
        axis = self.axis if self.axis is not None else first.axis
        with np.errstate(all="ignore"):
            return Affine(first.scale * self.scale, first.shift * self.scale + self.shift, axis)

    def shaped(self, vector: Vector, rank: int) -> Vector:
        """`scale` or `shift` as an array that broadcasts over a value of that rank."""
        if vector.ndim == 0 or self.axis is None:
            return vector.reshape(())
        return vector.reshape((-1,) + (1,) * (rank - 1 - self.axis))


def channels_of(vector: Vector, count: int) -> Vector:
    """A scalar written out for each channel."""
    return np.broadcast_to(vector, (count,))


def affine_of(node: ir.Node, facts: Facts) -> tuple[ir.Value, Affine] | None:
    """The value that an affine node maps and its map; None for every other node.

    The map never makes the value larger: constants that broadcast it are no maps. Only floats.
    """
    if node.domain != "":
        return None
    if node.op_type == "BatchNormalization":
        found = _batch_normalization(node, facts)
    elif node.op_type == "Neg":
        value = node.inputs[0]
        found = None if value is None else (value, Affine(np.array(-1.0), np.zeros(()), None))
    elif node.op_type in ("Add", "Sub", "Mul", "Div"):
        found = _arithmetic(node, facts)
    else:
        return None
    if found is None or facts.dtype(found[0]) not in FLOATS or not found[1].is_finite:
        return None
    return found


def _arithmetic(node: ir.Node, facts: Facts) -> tuple[ir.Value, Affine] | None:
    left, right = node.inputs[0], node.inputs[1]
    if left is None or right is None:
        return None
    tensor, value, flipped = constants.constant(right), left, False
    if tensor is None:
        tensor, value, flipped = constants.constant(left), right, True
    if tensor is None or tensor.size > MOST_CHANNELS or "broadcast" in node.attributes:
        return None
    placed = _channel_axis(constants.shape_of(tensor), value, facts)
    if placed is None or (flipped and node.op_type == "Div"):
        return None
    axis = None if placed < 0 else placed
    vector = np.asarray(tensor.numpy()).astype(np.float64).reshape(() if axis is None else (-1,))
    one, zero = np.ones(()), np.zeros(())
    with np.errstate(all="ignore"):
        if node.op_type == "Add":
            return value, Affine(one, vector, axis)
        if node.op_type == "Sub":
            return value, Affine(-one, vector, axis) if flipped else Affine(one, -vector, axis)
        return value, Affine(vector if node.op_type == "Mul" else 1 / vector, zero, axis)


def _channel_axis(shape: tuple[int, ...], value: ir.Value, facts: Facts) -> int | None:
    """The only axis along which a constant varies over the value; -1: none; None: it is no such constant."""
    dims = facts.dims(value)
    if dims is None or len(shape) > len(dims):
        return None
    varying = [i for i, size in enumerate(shape) if size != 1]
    if not varying:
        return -1
    axis = len(dims) - len(shape) + varying[0]
    return axis if len(varying) == 1 and dims[axis] == shape[varying[0]] else None


def _batch_normalization(node: ir.Node, facts: Facts) -> tuple[ir.Value, Affine] | None:
    """(x - mean) / sqrt(var + epsilon) * scale + B; None in training, or with runtime parameters."""
    value = node.inputs[0]
    if value is None or len(node.inputs) < 5 or not _is_inference(node):
        return None
    rank = facts.rank(value)
    tensors = [constants.constant(v) for v in node.inputs[1:5]]
    if (rank is not None and rank < 2) or any(t is None or t.size > MOST_CHANNELS for t in tensors):
        return None
    scale, bias, mean, variance = (np.asarray(t.numpy()).astype(np.float64) for t in tensors if t is not None)
    if not scale.shape == bias.shape == mean.shape == variance.shape or scale.ndim != 1:
        return None
    epsilon = attribute_float(node, "epsilon", 1e-5)
    with np.errstate(all="ignore"):
        factor = scale / np.sqrt(variance + epsilon)
        return value, Affine(factor, bias - mean * factor, 1)


def _is_inference(node: ir.Node) -> bool:
    """Whether it normalizes by its parameters over axis 1.

    Before opset 7 `is_test` says so, from 14 on `training_mode` denies it; between, other outputs do.
    `spatial` 0 (before opset 9) has one parameter an element.
    """
    plain = attribute(node, "training_mode", 0) == 0 and attribute(node, "spatial", 1) == 1
    others = any(v.uses() or v.is_graph_output() for v in node.outputs[1:])
    return plain and not others and ("consumed_inputs" not in node.attributes)
