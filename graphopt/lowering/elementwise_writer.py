"""Writes one element-wise instruction for a node of the graph."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir

from graphopt.ir.dims import Dim, Expr
from graphopt.lowering.builder import Builder
from graphopt.lowering.elementwise_program import (
    KERNEL,
    ElementwiseProgram,
    Op,
    Ref,
    Source,
    Step,
    is_supported,
)
from graphopt.lowering.program import Register, dense_strides
from graphopt.lowering.registry import NotLowered

__all__ = ["ElementwiseWriter", "common_order", "memory_order"]

Dims = tuple[Dim, ...]

MAX_INPUTS = 16


class ElementwiseWriter:
    """Collects steps over values, then emits them.

    Constants of one element become constants of the program, so that they cost no input.
    """

    def __init__(self, build: Builder, node: ir.Node) -> None:
        self.build = build
        self.node = node
        self.program = ElementwiseProgram(0)
        self.registers: list[int] = []
        self.dtypes: dict[Ref, ir.DataType] = {}
        self.problem: NotLowered | None = None
        self._values: dict[ir.Value, Ref] = {}
        ranks = [build.rank(value) for value in node.inputs if value is not None]
        known = [rank for rank in ranks if rank is not None]
        self._rank = max(known, default=0) if len(known) == len(ranks) else None
        self._full = sum(rank == self._rank for rank in ranks)

    def value(self, value: ir.Value | None) -> Ref:
        """An input of the node."""
        assert value is not None, f"{self.node.op_type} misses an input"
        found = self._values.get(value)
        if found is None:
            found = self._values[value] = self._new(value)
        return found

    def register(self, register: int, dtype: ir.DataType) -> Ref:
        """A register as an input."""
        self.registers.append(register)
        ref = Ref(Source.INPUT, len(self.registers) - 1)
        self.dtypes[ref] = dtype
        return ref

    def constant(self, dtype: ir.DataType, value: float | Dim) -> Ref:
        """A constant of the program: a float for float types, else a whole number."""
        ref = self.program.constant(int(dtype), value)
        self.dtypes[ref] = dtype
        return ref

    def apply(
        self,
        op: Op,
        *sources: Ref,
        immediates: tuple[float, float] | None = None,
        dtype: ir.DataType | None = None,
        to: ir.DataType | None = None,
    ) -> Ref:
        """One step; its type is that of the first source (for Where of the second)."""
        of = dtype or self.dtypes[sources[1 if op is Op.WHERE else 0]]
        if to is None:
            to = ir.DataType.BOOL if op.gives_bool else of
        if not is_supported(op, of):
            self.problem = self.problem or NotLowered(f"element type {of.name.lower()}")
        ref = self.program.add(Step(op, int(of), int(to), sources, immediates))
        self.dtypes[ref] = to
        return ref

    def cast(self, source: Ref, to: ir.DataType, saturate: bool = True, rounding: int = 0) -> Ref:
        """A source in another element type; itself where it has that already."""
        if self.dtypes[source] == to:
            return source
        if not is_supported(Op.CAST, to):
            self.problem = self.problem or NotLowered(f"cast to {to.name.lower()}")
        return self.apply(Op.CAST, source, to=to, immediates=(float(saturate), float(rounding)))

    def finish(self, *results: Ref) -> NotLowered | None:
        """Emit the instruction: result k is output k of the node."""
        if self.problem is not None:
            return self.problem
        if len(self.registers) > MAX_INPUTS:
            return NotLowered(f"more than {MAX_INPUTS} inputs")
        order = None  # outputs of the graph are row-major
        if not any(output.is_graph_output() for output in self.node.outputs):
            order = common_order(self.build, self.registers, self.build.dims(self.node.outputs[0]))
        return self.emit(results, [self.build.output(self.node, k, order) for k in range(len(results))])

    def emit(self, results: tuple[Ref, ...], outputs: list[int]) -> NotLowered | None:
        """Emit the instruction with these registers as outputs."""
        if self.problem is not None:
            return self.problem
        self.program.inputs = len(self.registers)
        taken: list[int] = []
        for ref in results:
            if ref.source != Source.STEP or ref.number in taken:
                of = self.dtypes[ref]
                self.program.steps.append(Step(Op.COPY, int(of), int(of), (ref,)))
                ref = Ref(Source.STEP, len(self.program.steps) - 1)
            taken.append(ref.number)
        self.program.outputs = taken
        data, floats, ints = self.program.encode()
        self.build.emit(KERNEL, self.registers, outputs, ints, floats, data)
        return None

    def _new(self, value: ir.Value) -> Ref:
        dtype = self.build.dtype(value)
        if dtype is None or dtype == ir.DataType.STRING:
            self.problem = self.problem or NotLowered("element type")
            return self.constant(ir.DataType.FLOAT, 0.0)
        scalar = self._scalar(value)
        if scalar is not None:
            return self.constant(dtype, scalar)
        return self.register(self.build.register(value), dtype)

    def _scalar(self, value: ir.Value) -> float | Dim | None:
        """The one element of a constant that does not decide the dims of the result."""
        dims = self.build.dims(value)
        if dims is None or not all(type(dim) is int and dim == 1 for dim in dims):
            return None
        if not self._is_free(len(dims)):
            return None
        elements = self.build.elements(value)
        if elements is not None and len(elements) == 1 and type(elements[0]) is Expr:
            return elements[0] if self.build.is_defined(elements[0]) else None
        array = self.build.constant(value)
        if array is None or array.dtype.kind in "OSUc":
            return None
        if array.dtype.kind in "iub":
            number = int(array.reshape(-1)[0])
            return number - (1 << 64) if number >= 1 << 63 else number
        return float(array.astype(np.float64).reshape(-1)[0])

    def _is_free(self, rank: int) -> bool:
        """Whether an input of this rank can be left out without changing the dims of the result."""
        if self._rank is None:
            return rank == 0 and len(self.node.inputs) > 1
        if rank < self._rank:
            return True
        if rank == self._rank and self._full > 1:
            self._full -= 1
            return True
        return False


def common_order(build: Builder, registers: list[int], dims: Dims | None) -> tuple[int, ...] | None:
    """The order in memory of all inputs that have these dims; None where it is row-major, or they differ."""
    found: tuple[int, ...] | None = None
    for register in registers:
        of = build.module.registers[register]
        if dims is None or of.dims != dims:
            continue
        order = memory_order(of)
        if order is None or (found is not None and order != found):
            return None
        found = order
    return found


def memory_order(register: Register) -> tuple[int, ...] | None:
    """The order of the dims in memory without gaps, outermost first; None: row-major, or with gaps."""
    if register.dims is None or register.strides is None:
        return None
    order = _order(register.dims, register.strides)
    return None if order == tuple(range(len(register.dims))) else order


def _order(dims: Dims, strides: Dims) -> tuple[int, ...] | None:
    """The order of dims in memory without gaps, outermost first."""
    left = list(range(len(dims)))
    inner: list[int] = []
    step: Dim = 1
    while left:
        axis = next((k for k in reversed(left) if dims[k] == 1 or strides[k] == step), None)
        if axis is None:
            return None
        left.remove(axis)
        inner.insert(0, axis)
        step = step * dims[axis]
    order = tuple(inner)
    made = dense_strides(dims, order)
    return order if all(d == 1 or a == b for d, a, b in zip(dims, made, strides, strict=True)) else None
