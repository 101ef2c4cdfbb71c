"""What the fusions of layer and RMS normalization share: which axes, and constants over exactly those."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir.attributes import axes_of
from graphopt.rewriting.match import Match


def trailing_axes(m: Match, reduction: ir.Node) -> tuple[int, ...] | None:
    """The axes of a reduction that keeps dims, if they are the last ones of its input; else None."""
    source = reduction.inputs[0]
    rank = m.rank(source) if source is not None else None
    axes = axes_of(reduction, m.opset)
    if rank is None or not axes or m.attribute(reduction, "keepdims") != 1:
        return None
    found = tuple(sorted(a % rank for a in axes))
    return found if found == tuple(range(rank - len(found), rank)) else None


def normalized_sizes(m: Match, value: ir.Value, axes: tuple[int, ...]) -> tuple[int, ...] | None:
    """Sizes of the axes if they are known and positive: over nothing, one spelling gives NaN and the other none."""
    dims = m.dims(value) or ()
    sizes = tuple(d for d in (dims[a] for a in axes) if isinstance(d, int) and d > 0)
    return sizes if len(sizes) == len(axes) else None


def over_normalized(m: Match, value: ir.Value, norm: ir.Node) -> np.ndarray | None:
    """A constant that has one number, or exactly the normalized axes (ones before them allowed); else None.

    Returns:
        The contents, broadcast to the shape of the normalization's scale.
    """
    tensor, scale = m.tensor(value), m.tensor(norm.inputs[1])
    if tensor is None or scale is None:
        return None
    sizes, shape = tuple(scale.shape.numpy()), tuple(tensor.shape.numpy())
    rank = m.rank(norm.outputs[0])
    if rank is None or len(shape) > rank or tensor.dtype != scale.dtype:
        return None
    if tensor.size != 1 and (shape[-len(sizes) :] != sizes or set(shape[: -len(sizes)]) - {1}):
        return None
    array = m.array(value)
    assert array is not None
    return np.broadcast_to(array.reshape(() if tensor.size == 1 else sizes), sizes).copy()
