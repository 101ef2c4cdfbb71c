"""Operators with a weight as matrix products, so that one algorithm serves all: Y = X W for each group.

    MatMul, Gemm     X: rows of the input                       W: the weight, as it is or transposed
    Conv             X: a window of the input for each output   W: [group, inputs * kernel, outputs]
    ConvTranspose    X: a position of the input                 W: [group, inputs, outputs * kernel]

Of a ConvTranspose the sums where windows overlap are left out: its columns are judged one by one.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from graphopt.errors import ModelError
from graphopt.ir.attributes import attribute
from graphopt.ir.constants import shape_of
from graphopt.ir.quantizable import Weight

__all__ = ["Product", "product_of"]

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Product:
    """How the input and the weight of an operator become matrices.

    Attributes:
        op_type: MatMul, Gemm, Conv or ConvTranspose.
        shape: Of the weight.
        groups: Of a convolution; else 1.
        turned: Gemm: whether the weight is transposed.
        input_turned: Gemm: whether the input is.
        strides: Of a Conv.
        dilations: Of a Conv.
        pads: Of a Conv: begins, then ends; None: as `auto_pad` says.
        auto_pad: Of a Conv: SAME_UPPER or SAME_LOWER, where `pads` is None.
    """

    op_type: str
    shape: tuple[int, ...]
    groups: int = 1
    turned: bool = False
    input_turned: bool = False
    strides: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    pads: tuple[int, ...] | None = None
    auto_pad: str = ""

    @property
    def depth(self) -> int:
        """How many numbers are summed: K."""
        if self.op_type == "Conv":
            return int(np.prod(self.shape[1:]))
        if self.op_type == "ConvTranspose":
            return self.shape[0] // self.groups
        return self.shape[1 if self.turned else 0]

    @property
    def channels(self) -> int:
        """How many input channels there are, of all groups."""
        return self.shape[1] * self.groups if self.op_type == "Conv" else self.groups * self.depth

    @property
    def kernel(self) -> tuple[int, ...]:
        """Dims of a convolution's window."""
        return self.shape[2:]

    def matrix(self, weight: Array) -> Array:
        """A weight, or anything of its shape, as [group, K, N]."""
        if self.op_type == "Conv":
            return weight.reshape(self.groups, self.shape[0] // self.groups, -1).transpose(0, 2, 1)
        if self.op_type == "ConvTranspose":
            return weight.reshape(self.groups, self.depth, -1)
        return (weight.T if self.turned else weight)[None]

    def weight(self, matrix: Array) -> Array:
        """The way back from `matrix`."""
        if self.op_type == "Conv":
            return np.ascontiguousarray(matrix.transpose(0, 2, 1)).reshape(self.shape)
        if self.op_type == "ConvTranspose":
            return matrix.reshape(self.shape)
        return np.ascontiguousarray(matrix[0].T if self.turned else matrix[0])

    def by_channel(self, array: Floats) -> Floats:
        """An input with the channels last and all else as rows: [rows, channels]."""
        if self.op_type in ("Conv", "ConvTranspose"):
            return np.moveaxis(array, 1, -1).reshape(-1, self.channels)
        found = array.T if self.input_turned else array
        return found.reshape(-1, self.depth)

    def count(self, array: Floats) -> int:
        """How many rows X has for an input."""
        if self.op_type != "Conv":
            return int(array.size) // self.channels
        return int(array.shape[0]) * int(np.prod(self._places(array)))

    def rows(self, array: Floats, chosen: npt.NDArray[np.int64] | None = None) -> Floats:
        """X of an input, or some of its rows: [rows, group, K]."""
        if self.op_type != "Conv":
            found = self.by_channel(array)
            return (found if chosen is None else found[chosen]).reshape(-1, self.groups, self.depth)
        padded, places = self._padded(array), self._places(array)
        numbers = np.arange(self.count(array)) if chosen is None else chosen
        image, *where = np.unravel_index(numbers, (array.shape[0], *places))
        rank = len(self.kernel)
        reach = tuple((k - 1) * d + 1 for k, d in zip(self.kernel, self.dilations, strict=True))
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, tuple(range(2, rank + 2)))
        starts = [at * stride for at, stride in zip(where, self.strides, strict=True)]
        steps = [slice(None), slice(None), *(slice(None, None, d) for d in self.dilations)]
        index: list[npt.NDArray[np.int64] | slice] = [image, slice(None), *starts]
        found = windows[tuple(index)][tuple(steps)]
        return np.ascontiguousarray(found).reshape(-1, self.groups, self.depth)

    def sums(self, array: Floats) -> Wide:
        """Sums over all rows of X: float64[group, K]."""
        if self.op_type != "Conv":
            total: Wide = self.by_channel(array).sum(0, dtype=np.float64)
            return total.reshape(self.groups, self.depth)
        padded, places = self._padded(array), self._places(array)
        axes = (0, *range(2, array.ndim))
        found = np.empty((self.channels, int(np.prod(self.kernel))))
        for i, offset in enumerate(itertools.product(*(range(k) for k in self.kernel))):
            part = [slice(None), slice(None)]
            part += [
                slice(o * d, o * d + (n - 1) * s + 1, s)
                for o, d, n, s in zip(offset, self.dilations, places, self.strides, strict=True)
            ]
            found[:, i] = padded[tuple(part)].sum(axes, dtype=np.float64)
        return found.reshape(self.groups, self.depth)

    def _places(self, array: Floats) -> tuple[int, ...]:
        """Dims of a Conv's output."""
        dims = zip(self._all_pads(array.shape[2:]), array.shape[2:], strict=True)
        padded = [begin + end + n for (begin, end), n in dims]
        return tuple(
            (n - (k - 1) * d - 1) // s + 1
            for n, k, d, s in zip(padded, self.kernel, self.dilations, self.strides, strict=True)
        )

    def _padded(self, array: Floats) -> Floats:
        pads = self._all_pads(array.shape[2:])
        return np.pad(array, ((0, 0), (0, 0), *pads)) if any(map(any, pads)) else array

    def _all_pads(self, dims: Sequence[int]) -> list[tuple[int, int]]:
        if self.pads is not None:
            half = len(self.pads) // 2
            return list(zip(self.pads[:half], self.pads[half:], strict=True))
        found = []
        for n, k, d, s in zip(dims, self.kernel, self.dilations, self.strides, strict=True):
            needed = max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0)
            less = needed // 2
            found.append((less, needed - less) if self.auto_pad == "SAME_UPPER" else (needed - less, less))
        return found


def product_of(weight: Weight) -> Product | None:
    """How an operator is a product; None where its weight is a table, or a stack of matrices."""
    node, shape = weight.node, shape_of(weight.tensor)
    if weight.is_table:
        return None
    if node.op_type == "MatMul":
        return Product("MatMul", shape) if len(shape) == 2 else None
    if node.op_type == "Gemm":
        turned, input_turned = bool(attribute(node, "transB", 0)), bool(attribute(node, "transA", 0))
        return Product("Gemm", shape, turned=turned, input_turned=input_turned)
    groups = _integer(node.op_type, attribute(node, "group", 1))
    if node.op_type == "ConvTranspose":
        return Product("ConvTranspose", shape, groups)
    rank = len(shape) - 2
    auto = attribute(node, "auto_pad", "NOTSET")
    pads: tuple[int, ...] | None = _integers(attribute(node, "pads"), (0,) * (2 * rank))
    if auto == "VALID":
        pads = (0,) * (2 * rank)
    elif auto in ("SAME_UPPER", "SAME_LOWER"):
        pads = None
    return Product(
        "Conv",
        shape,
        groups,
        strides=_integers(attribute(node, "strides"), (1,) * rank),
        dilations=_integers(attribute(node, "dilations"), (1,) * rank),
        pads=pads,
        auto_pad=str(auto),
    )


def _integer(name: str, given: object) -> int:
    if not isinstance(given, int):
        raise ModelError(f"{name}: group is no integer")
    return given


def _integers(given: object, default: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(int(n) for n in given) if isinstance(given, tuple | list) and given else default
