"""Where the elements of a tensor lie in a register's memory: dims, strides and an offset, all expressions.

A pure movement operator maps a region to a region and costs nothing; chains of them compose by themselves.
Only where the result's dims can't be cut out of the strides (a Reshape that joins what a Transpose has
parted) is it laid out anew: one copy for the whole chain before it.

    %1 [b,t,h*d]  -> Reshape [b,t,h,d] -> Transpose [b,h,t,d]      a look, strides (t*h*d, d, h*d, 1)
                  -> Slice, Squeeze, ...                           another look
                  -> Reshape [b*h,t,d]                             copy %2 %1
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import onnx_ir as ir

from graphopt.ir.dims import Dim, product
from graphopt.ir.regions import Movement
from graphopt.lowering.builder import Builder
from graphopt.lowering.program import ABSENT, dense_strides

__all__ = ["Region", "bind", "lay_out", "place", "region_of"]

Dims = tuple[Dim, ...]


@dataclass(frozen=True, slots=True)
class Region:
    """A look at a register.

    Attributes:
        base: The register that is looked at.
        dims: Of the tensor.
        strides: In elements, one a dim.
        offset: In elements, from the base's first.
    """

    base: int
    dims: Dims
    strides: Dims
    offset: Dim = 0

    def transposed(self, perm: Sequence[int]) -> Region:
        """Dims in another order."""
        dims, strides = (tuple([of[axis] for axis in perm]) for of in (self.dims, self.strides))
        return Region(self.base, dims, strides, self.offset)

    def sliced(self, axis: int, first: Dim, length: Dim, step: int = 1) -> Region:
        """`length` elements of an axis: first, first + step, ..."""
        dims, strides = list(self.dims), list(self.strides)
        offset = self.offset + first * strides[axis]
        dims[axis], strides[axis] = length, strides[axis] * step
        return Region(self.base, tuple(dims), tuple(strides), offset)

    def without(self, axis: int) -> Region:
        """The first element of an axis, and the axis gone."""
        dims = self.dims[:axis] + self.dims[axis + 1 :]
        return Region(self.base, dims, self.strides[:axis] + self.strides[axis + 1 :], self.offset)

    def expanded(self, dims: Dims) -> Region | None:
        """Broadcast to `dims`; None where it is not proven to fit."""
        extra = len(dims) - len(self.dims)
        if extra < 0:
            return None
        strides: list[Dim] = [0] * extra
        for have, want, stride in zip(self.dims, dims[extra:], self.strides, strict=True):
            if have == want:
                strides.append(stride)
            elif have == 1:
                strides.append(0)
            else:
                return None
        return Region(self.base, dims, tuple(strides), self.offset)

    def reshaped(self, dims: Dims) -> Region | None:
        """The same elements in the same order with other dims; None where no strides do it.

        `dims` have as many elements, which the caller has made sure of.
        """
        sizes, steps = self.blocks()
        if len(sizes) <= 1 or product(dims) == 0:
            step = steps[0] if steps else 1
            return Region(self.base, dims, tuple([s * step for s in dense_strides(dims)]), self.offset)
        # A map would join blocks that follow each other; in the opposite order none does.
        opposite = tuple(reversed(range(len(sizes))))
        turned = Movement.of(sizes[::-1]).transposed(opposite)
        cut = None if turned is None else turned.relabelled(dims)
        if cut is None:
            return None
        strides_of = _factor_strides(sizes[::-1], steps[::-1], cut.factors)
        strides: list[Dim] = []
        for group in cut.groups:
            for outer, inner in pairwise(group):
                if strides_of[outer] != strides_of[inner] * cut.factors[inner]:
                    return None
            strides.append(strides_of[group[-1]] if group else 1)
        return Region(self.base, dims, tuple(strides), self.offset)

    def blocks(self) -> tuple[Dims, Dims]:
        """Sizes and strides with neighbours joined where one stride reaches over both; no dim of 1."""
        sizes: list[Dim] = []
        steps: list[Dim] = []
        for dim, stride in zip(self.dims, self.strides, strict=True):
            if dim == 1:
                continue
            if sizes and steps[-1] == stride * dim:
                sizes[-1], steps[-1] = sizes[-1] * dim, stride
            else:
                sizes.append(dim)
                steps.append(stride)
        return tuple(sizes), tuple(steps)

    def numbers(self) -> Iterable[Dim]:
        """All expressions in it."""
        return (*self.dims, *self.strides, self.offset)


def _factor_strides(sizes: Dims, steps: Dims, factors: Dims) -> list[Dim]:
    """The stride of each factor, where factors cut blocks one after another."""
    strides: list[Dim] = []
    place = 0
    for size, step in zip(sizes, steps, strict=True):
        first, total = place, factors[place]
        place += 1
        while total != size:
            total = total * factors[place]
            place += 1
        strides += [s * step for s in dense_strides(factors[first:place])]
    return strides


def region_of(build: Builder, register: int) -> Region | None:
    """The whole register; None where its rank, or a size, is not known before it is made."""
    if register == ABSENT:
        return None
    of = build.module.registers[register]
    dims = of.dims
    if dims is None or not of.is_sized or not all(build.is_defined(dim) for dim in dims):
        return None
    return Region(register, dims, build.strides(register))


def bind(build: Builder, value: ir.Value, region: Region) -> bool:
    """Make a value a look at memory; False where a run does not know its numbers by now."""
    dims = build.dims(value)
    if (
        dims is None
        or len(dims) != len(region.dims)
        or not all(map(build.is_defined, (*region.numbers(), *dims)))
    ):
        return False
    if (
        region.offset == 0
        and build.module.registers[region.base].dims == dims
        and region.strides == build.strides(region.base)
    ):
        build.bind(value, region.base)
    else:
        build.view(value, region.base, region.strides, region.offset)
    return True


def lay_out(build: Builder, node: ir.Node, region: Region) -> None:
    """Copy a region into the node's output, in row-major order; the output may have other dims."""
    output = build.output(node)
    inner = build.look(output, region.dims, dense_strides(region.dims))
    source = build.look(region.base, region.dims, region.strides, region.offset)
    build.emit("copy", [source], [inner])


def place(build: Builder, node: ir.Node, region: Region) -> bool:
    """Give the node's output a region's elements in row-major order: a look if strides do it, else a copy.

    False where it is not proven, before the run, to have as many elements.
    """
    dims = build.dims(node.outputs[0])
    if dims is None or not all(map(build.is_defined, (*region.numbers(), *dims))):
        return False
    if product(dims) != product(region.dims):
        return False
    shaped = region if region.dims == dims else region.reshaped(dims)
    if shaped is None:
        lay_out(build, node, region)
        return True
    return bind(build, node.outputs[0], shaped)
