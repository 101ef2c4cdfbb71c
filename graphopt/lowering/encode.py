"""A Program as tables of integers, as the engine reads them.

    program   counts, names of symbols, expressions, modules (the main module last)
    module    registers, inputs, outputs, captures, instructions, segments, definitions

Texts and blobs are numbered. `kernels/engine/program.cpp` reads the same order.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graphopt.ir.dims import Dim, Expr
from graphopt.ir.dims.expression import Atom, Kind
from graphopt.lowering.program import Definition, Instruction, Module, Program
from graphopt.lowering.schedule import Segment, schedule, used_symbols
from graphopt.lowering.sharing import shared_memory

__all__ = ["FORMAT", "Tables", "encode"]

FORMAT = 1

_CONST, _SYMBOL, _ADD, _MUL, _FLOORDIV, _MIN, _MAX, _BROADCAST = range(8)
_KINDS = {Kind.FLOORDIV: _FLOORDIV, Kind.MIN: _MIN, Kind.MAX: _MAX, Kind.BROADCAST: _BROADCAST}

NO_RANK = -1
NO_SYMBOL = -1


@dataclass(frozen=True, slots=True)
class Tables:
    """A program in the engine's form; constants lie beside it."""

    words: npt.NDArray[np.int64]
    texts: list[str]
    blobs: list[bytes]


@dataclass(slots=True)
class _Numbers:
    """Texts, blobs and expressions, each once."""

    texts: dict[str, int] = field(default_factory=dict)
    blobs: dict[bytes, int] = field(default_factory=dict)
    symbols: dict[str, int] = field(default_factory=dict)
    expressions: dict[tuple[int, int, int], int] = field(default_factory=dict)
    slots: dict[Expr, int] = field(default_factory=dict)

    def text(self, text: str) -> int:
        return self.texts.setdefault(text, len(self.texts))

    def blob(self, blob: bytes) -> int:
        return self.blobs.setdefault(blob, len(self.blobs))

    def symbol(self, name: str) -> int:
        return self.symbols.setdefault(name, len(self.symbols))

    def _slot(self, op: int, a: int, b: int = 0) -> int:
        return self.expressions.setdefault((op, a, b), len(self.expressions))

    def dim(self, dim: Dim) -> int:
        """The slot of an expression."""
        if type(dim) is not Expr:
            return self._slot(_CONST, int(dim))  # type: ignore[arg-type]
        found = self.slots.get(dim)
        if found is None:
            found = self.slots[dim] = self._sum(dim)
        return found

    def dims(self, dims: Iterable[Dim]) -> list[int]:
        return [self.dim(dim) for dim in dims]

    def _sum(self, dim: Expr) -> int:
        total: int | None = None
        for monomial, weight in dim.terms:
            part: int | None = None
            for factor in monomial:
                slot = self._atom(factor)
                part = slot if part is None else self._slot(_MUL, part, slot)
            if part is None:
                part = self.dim(weight)
            elif weight != 1:
                part = self._slot(_MUL, part, self.dim(weight))
            total = part if total is None else self._slot(_ADD, total, part)
        assert total is not None, "an expression has terms"
        return total

    def _atom(self, factor: Atom) -> int:
        if factor.kind is Kind.SYMBOL:
            return self._slot(_SYMBOL, self.symbol(factor.name))
        slots = [self.dim(arg) for arg in factor.args]
        result = slots[0]
        for slot in slots[1:]:
            result = self._slot(_KINDS[factor.kind], result, slot)
        return result


def encode(program: Program) -> Tables:
    """The tables of a program."""
    numbers = _Numbers()
    modules: list[list[int]] = []
    used = used_symbols(program.main)
    _module(program.main, numbers, modules, used)
    words = [FORMAT, len(numbers.symbols)]
    words += [numbers.text(name) for name in numbers.symbols]
    words.append(len(numbers.expressions))
    for expression in numbers.expressions:
        words += expression
    words += [len(program.input_names), *map(numbers.text, program.input_names)]
    words += [len(program.output_names), *map(numbers.text, program.output_names)]
    words.append(len(modules))
    for module in modules:
        words += module
    return Tables(np.array(words, dtype=np.int64), list(numbers.texts), list(numbers.blobs))


def _list(items: Sequence[int]) -> list[int]:
    return [len(items), *items]


def _module(module: Module, numbers: _Numbers, done: list[list[int]], used: set[str]) -> int:
    """Append a module's words, those of its bodies first; its number."""
    bodies = {
        id(body): _module(body, numbers, done, used)
        for instruction in module.instructions
        for body in instruction.bodies
    }
    plan = schedule(module, used)
    shared = shared_memory(module, plan.local)
    words = [numbers.text(module.name), len(module.registers)]
    for number, register in enumerate(module.registers):
        dims = register.dims if register.is_sized else None
        words += [register.dtype, NO_RANK if dims is None else len(dims)]
        words += numbers.dims(dims or ())
        strides = register.strides if dims is not None else None
        words.append(int(strides is not None))
        words += numbers.dims(strides or ())
        base = shared.get(number, register.base)
        words += [base, numbers.dim(register.offset), register.constant]
        words += [int(plan.local[number]), numbers.text(register.name)]
    words += _list(module.inputs) + _list(module.outputs)
    words += [len(module.captures), *(r for pair in module.captures for r in pair)]
    words.append(len(module.instructions))
    for instruction in module.instructions:
        words += _instruction(instruction, numbers, bodies)
    words += _definitions(plan.entry, numbers)
    words.append(len(plan.segments))
    for segment in plan.segments:
        words += _segment(segment, numbers)
    words.append(len(module.growing))
    for g in module.growing:
        words += [g.register, g.axis, numbers.dim(g.length)]
        words.append(numbers.symbol(g.room) if g.room else NO_SYMBOL)
    done.append(words)
    return len(done) - 1


def _instruction(instruction: Instruction, numbers: _Numbers, bodies: dict[int, int]) -> list[int]:
    words = [numbers.text(instruction.kernel), numbers.text(", ".join(instruction.nodes))]
    words += _list(instruction.inputs) + _list(instruction.outputs)
    words += _list(numbers.dims(instruction.ints))
    words += _list([struct.unpack("<q", struct.pack("<d", f))[0] for f in instruction.floats])
    words.append(numbers.blob(instruction.data))
    return words + _list([bodies[id(body)] for body in instruction.bodies])


def _definitions(definitions: Sequence[Definition], numbers: _Numbers) -> list[int]:
    words = [len(definitions)]
    for d in definitions:
        words += [numbers.symbol(d.symbol), d.register, d.source.value, d.index]
        words += [numbers.dim(d.weight), numbers.dim(d.rest)]
    return words


def _segment(segment: Segment, numbers: _Numbers) -> list[int]:
    words = [segment.first, segment.count, int(segment.is_boundary)]
    return words + _definitions(segment.definitions, numbers) + _list(segment.dead)
