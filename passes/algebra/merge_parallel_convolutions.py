"""Sums of convolutions over one value into one convolution.

    before   Conv3x3(x) + Conv1x1(x) + BatchNormalization(x)
    after    Conv3x3(x)

A training-time network such as RepVGG has such branches. A value itself, or an affine map of it a channel,
is a convolution with one tap; weights of fewer taps are placed among those of more. The value may be added
beside Transposes that lead to the convolution and back.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, lazy
from graphopt.ir.affine import Affine, affine_of
from graphopt.ir.convolutions import Geometry, geometry_of, identity_like, joined
from graphopt.ir.element_types import FLOATS
from graphopt.ir.operands import input_of
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on
from graphopt.rewriting.weights import LAZY_BYTES, Array

OTHER_GEOMETRY = "the branches read their input in ways that no one convolution does at less cost"
NOT_LINEAR = "a branch has weights that are no constants, or results that are needed elsewhere"


@dataclass(frozen=True, eq=False)
class _Branch:
    """A linear branch: its input, where it reads it, its weights [M, C/groups, taps...] and its bias."""

    source: ir.Value
    geometry: Geometry
    weight: ir.TensorProtocol | Array
    bias: Array | None


def _convolution(m: Match, value: ir.Value) -> _Branch | None:
    node = value.producer()
    if node is None or node.op_type != "Conv" or node.domain != "" or not m.has_one_consumer(value):
        return None
    geometry, weight = geometry_of(node), m.tensor(node.inputs[1])
    given = input_of(node, 2)
    bias = m.array(given)
    if (
        geometry is None
        or weight is None
        or weight.dtype not in FLOATS
        or (given is not None and bias is None)
    ):
        return None
    if node.inputs[1] is None or len(node.inputs[1].uses()) > 1:
        return None
    source = node.inputs[0]
    return None if source is None else _Branch(source, geometry, weight, bias)


def _copy(m: Match, value: ir.Value, other: _Branch) -> _Branch | None:
    """A value, or its affine map a channel, as a convolution of one tap beside another one."""
    if value is other.source:
        affine = Affine(np.ones(()), np.zeros(()), None)
    else:
        node = value.producer()
        found = affine_of(node, m.facts) if node is not None and m.has_one_consumer(value) else None
        if found is None or found[0] is not other.source or found[1].axis not in (None, 1):
            return None
        affine = found[1]
    channels, width = _shape(other.weight)[:2]
    if channels != width * other.geometry.groups:
        return None
    dtype = _dtype(other.weight)
    weight = np.zeros((channels, width), np.float64)
    weight[np.arange(channels), np.arange(channels) % width] = affine.scale
    geometry = identity_like(other.geometry)
    bias = np.broadcast_to(affine.shift, (channels,)).astype(dtype) if affine.has_shift else None
    taps = weight.reshape((channels, width) + (1,) * len(geometry.taps)).astype(dtype)
    return _Branch(other.source, geometry, taps, bias)


def _transposed(m: Match, value: ir.Value | None) -> tuple[ir.Value, tuple[int, ...]] | None:
    """What a value is a transpose of, and how."""
    node = None if value is None else value.producer()
    if node is None or node.op_type != "Transpose" or node.domain != "" or node.inputs[0] is None:
        return None
    perm = m.attribute(node, "perm")
    return (node.inputs[0], perm) if isinstance(perm, tuple) else None


@rule_on("Add", depth=4)
def sum_with_transposed_convolution(m: Match) -> ir.Value | Rejection | None:
    """Add(x, Transpose(Conv(Transpose(x), w))) -> Transpose(Conv(Transpose(x), w + 1))."""
    for value, other in (m.root.inputs, m.root.inputs[::-1]):
        outer = _transposed(m, value)
        if outer is None or value is None or not m.has_one_consumer(value):
            continue
        one = _convolution(m, outer[0])
        inner = None if one is None else _transposed(m, one.source)
        if one is None or inner is None or inner[0] is not other:
            continue
        if tuple(inner[1][axis] for axis in outer[1]) != tuple(range(len(outer[1]))):
            return Rejection(OTHER_GEOMETRY, value)
        same = _copy(m, one.source, one)
        geometry = None if same is None else joined(one.geometry, same.geometry)
        if same is None or geometry is None or geometry.taps != one.geometry.taps:
            return Rejection(OTHER_GEOMETRY, value)
        return op.Transpose(_built(one, same, geometry), perm=list(outer[1]))
    return None


@rule_on("Add", depth=3)
def sum_of_convolutions(m: Match) -> ir.Value | Rejection | None:
    """Add(Conv(x, v), Conv(x, w)) -> Conv(x, v + w)."""
    left, right = m.root.inputs
    assert left is not None and right is not None
    producers = [v.producer() for v in (left, right)]
    if not any(p is not None and p.op_type == "Conv" for p in producers):
        return None
    one, other = _convolution(m, left), _convolution(m, right)
    if one is None and other is not None:
        one, other = other, _copy(m, left, other)
    elif one is not None and other is None:
        other = _copy(m, right, one)
    if one is None or other is None or one.source is not other.source:
        return Rejection(NOT_LINEAR, m.output)
    geometry = joined(one.geometry, other.geometry)
    if geometry is None or _shape(one.weight)[0] != _shape(other.weight)[0]:
        return Rejection(OTHER_GEOMETRY, m.output)
    if math.prod(geometry.taps) > math.prod(one.geometry.taps) + math.prod(other.geometry.taps):
        return Rejection(OTHER_GEOMETRY, m.output)
    return _built(one, other, geometry)


def _built(one: _Branch, other: _Branch, geometry: Geometry) -> ir.Value:
    dims = (*_shape(one.weight)[:2], *geometry.taps)
    dtype = _dtype(one.weight)
    places = [_place(branch.geometry, geometry) for branch in (one, other)]

    def added(*weights: Array) -> Array:
        total = np.zeros(dims, np.float64 if dtype == np.float64 else np.float32)
        for place, weight in zip(places, weights, strict=True):
            total[place] += weight
        return total.astype(dtype, copy=False)

    tensors = [w if not isinstance(w, np.ndarray) else ir.tensor(w) for w in (one.weight, other.weight)]
    weight = lazy.mapped(tensors, added, tensors[0].dtype, dims)
    biases = [b.astype(np.float64) for b in (one.bias, other.bias) if b is not None]
    bias = sum(biases[1:], biases[0]).astype(dtype) if biases else None
    result: ir.Value = op.Conv(
        one.source,
        constant(weight if weight.nbytes > LAZY_BYTES else weight.numpy()),
        bias,
        dilations=list(geometry.step),
        group=geometry.groups,
        kernel_shape=list(geometry.taps),
        pads=geometry.pads,
        strides=list(geometry.stride),
    )
    return result


def _place(inner: Geometry, outer: Geometry) -> tuple[slice, ...]:
    """Where the taps of one convolution are among those of another that holds them."""
    spatial = []
    for i, taps in enumerate(inner.taps):
        start = (inner.first[i] - outer.first[i]) // outer.step[i]
        spatial.append(slice(start, start + taps))
    return (slice(None), slice(None), *spatial)


def _shape(weight: ir.TensorProtocol | Array) -> tuple[int, ...]:
    return weight.shape if isinstance(weight, np.ndarray) else constants.shape_of(weight)


def _dtype(weight: ir.TensorProtocol | Array) -> np.dtype[np.generic]:
    return weight.dtype if isinstance(weight, np.ndarray) else weight.dtype.numpy()


@dataclass(frozen=True)
class MergeParallelConvolutions(Pass):
    """Merge sums of convolutions over one value into one convolution."""

    name = "merge-parallel-convolutions"
    family = "algebra"
    stage = "fuse"
    level = 2
    bound = "float32 within a few units in the last place of the products: the weights are added first"
    rules = (sum_of_convolutions, sum_with_transposed_convolution)
