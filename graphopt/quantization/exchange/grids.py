"""Codes of 8 bits as other tools number them: signed or unsigned, one scale or one for each position."""

from __future__ import annotations

from typing import TypeVar

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.quant_table import TensorPlan
from graphopt.ir.quantizing import LIMITS, Grid, limits_of
from graphopt.quantization.exchange.losses import Losses
from graphopt.quantization.exchange.view import View

__all__ = ["bits_of", "block_axis_of", "by_output", "limits", "output_axis", "plan", "shift", "typed"]

Integers = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]
_Number = TypeVar("_Number", bound=np.generic)


def bits_of(grid: Grid) -> int:
    """How many bits codes have."""
    return grid.bits or grid.dtype.bitwidth


def shift(grid: Grid) -> int:
    """What is added to a code to count from the lowest one of its type: 128 for int8, 0 for uint8."""
    return -limits_of(grid.dtype, bits=grid.bits)[0]


def limits(grid: Grid) -> tuple[int, int]:
    """Lowest and highest code that is used."""
    return limits_of(grid.dtype, narrow=grid.narrow, bits=grid.bits)


def output_axis(name: str, view: View) -> int | None:
    """The axis of a weight along which other tools have a scale for each output; None: no weight."""
    weight = view.weights.get(name)
    return None if weight is None else weight.channels


def block_axis_of(name: str, view: View) -> int | None:
    """The axis of a weight that other tools cut into blocks."""
    weight = view.weights.get(name)
    return None if weight is None else weight.depth


def by_output(name: str, grid: Grid, numbers: npt.NDArray[_Number], view: View) -> npt.NDArray[_Number]:
    """Scales of a weight, or numbers that belong to them: all blocks of the first output first."""
    axis = output_axis(name, view)
    if grid.block_size and axis is not None:
        return np.moveaxis(numbers, axis, 0).reshape(-1)
    return numbers.reshape(-1)


def typed(bits: int, *, is_signed: bool) -> ir.DataType | None:
    """The smallest type that has so many bits; None: there is none."""
    kinds = (
        (ir.DataType.INT4, ir.DataType.INT8, ir.DataType.INT16)
        if is_signed
        else (ir.DataType.UINT4, ir.DataType.UINT8, ir.DataType.UINT16)
    )
    return next((kind for kind in kinds if 2 <= bits <= kind.bitwidth), None)


def plan(
    name: str,
    bits: int,
    scales: Floats,
    zeros: Integers,
    view: View,
    losses: Losses,
    block_size: int = 0,
) -> TensorPlan | None:
    """A tensor from what most tools say of it.

    Args:
        name: Its scoped name.
        bits: How many bits codes have.
        scales: One, one for each output, or all blocks of the first output first.
        zeros: The code of zero, counted from the lowest code; as many as scales, or one.
        view: The model.
        losses: What could not be taken.
        block_size: How many positions share a scale; 0: no blocks.
    """
    is_weight = view.is_weight(name)
    middle = 1 << (bits - 1)
    is_signed = is_weight and bool((zeros == middle).all())
    dtype = typed(bits, is_signed=is_signed)
    if dtype is None:
        losses.add("bits", name, f"there are no codes of {bits} bits; the tensor is left out")
        return None
    used = 0 if bits == dtype.bitwidth else bits
    codes = zeros + (LIMITS[dtype][0] >> (dtype.bitwidth - bits) if used else LIMITS[dtype][0])
    axis: int | None = None
    if scales.size == 1 and not block_size:
        scales, codes = scales.reshape(()), codes.reshape(())
    else:
        shaped = _shaped(name, scales.size, view, block_size)
        if shaped is None:
            losses.add("axis", name, f"{scales.size} scales fit no axis of it; the tensor is left out")
            return None
        axis = shaped[0]
        shape = shaped[1]
        scales = _arranged(scales, shape, name, view, block_size)
        codes = np.broadcast_to(codes, scales.size) if codes.size == 1 else codes
        codes = _arranged(codes, shape, name, view, block_size)
    if not (np.isfinite(scales) & (scales > 0)).all():
        losses.add("scale", name, "it is no positive number; the tensor is left out")
        return None
    if ((codes < limits_of(dtype, bits=used)[0]) | (codes > limits_of(dtype, bits=used)[1])).any():
        losses.add("zero_point", name, "it is no code; the tensor is left out")
        return None
    grid = Grid(dtype, scales, codes.astype(dtype.numpy()), axis, block_size, is_signed, used)
    return TensorPlan(grid, "weight" if is_weight else "activation")


def _shaped(name: str, count: int, view: View, block_size: int) -> tuple[int, tuple[int, ...]] | None:
    """The axis that the scales lie along, and their shape."""
    shape, channels, depth = view.shape(name), output_axis(name, view), block_axis_of(name, view)
    if shape is None or channels is None:
        return None
    if block_size:
        if depth is None:
            return None
        dims = tuple(-(-n // block_size) if i == depth else n for i, n in enumerate(shape))
        return (depth, dims) if int(np.prod(dims)) == count else None
    return (channels, (shape[channels],)) if shape[channels] == count else None


def _arranged(
    numbers: npt.NDArray[_Number], shape: tuple[int, ...], name: str, view: View, block_size: int
) -> npt.NDArray[_Number]:
    first: int | None = output_axis(name, view)
    if not block_size or first is None:
        return numbers.reshape(shape)
    others = [n for i, n in enumerate(shape) if i != first]
    moved = (shape[first], *others)
    return np.moveaxis(numbers.reshape(moved), 0, first)
