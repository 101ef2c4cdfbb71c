"""Tables as the engine reads them become a Program again, for people: `graphopt.lowering.encode` wrote them.

What only the engine needs (which registers are local, segments) is read over, and what only compiling needs
is gone: the ranges of symbols, and dims of registers that a run can't tell before they are made.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Sequence
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from graphopt.errors import ModelError
from graphopt.ir.dims import Atom, Dim, Kind, symbol
from graphopt.ir.dims.expression import atom, of_atom
from graphopt.lowering.encode import FORMAT, NO_RANK, NO_SYMBOL
from graphopt.lowering.program import (
    Definition,
    Growing,
    Instruction,
    Module,
    Program,
    Register,
    Source,
)

__all__ = ["decoded"]

_T = TypeVar("_T")

_KINDS = (Kind.FLOORDIV, Kind.MIN, Kind.MAX, Kind.BROADCAST)


def decoded(words: npt.NDArray[np.int64], texts: Sequence[str], blobs: Sequence[bytes]) -> Program:
    """The program of tables, without constants.

    Raises:
        ModelError: They are damaged.
    """
    try:
        return _Reader(words.tolist(), texts, blobs).program()
    except (IndexError, ValueError, OverflowError) as error:
        raise ModelError(f"the program's tables are damaged: {error}") from error


class _Reader:
    def __init__(self, words: list[int], texts: Sequence[str], blobs: Sequence[bytes]) -> None:
        self._words = words
        self._texts = texts
        self._blobs = blobs
        self._at = 0
        self._symbols: list[str] = []
        self._slots: list[Dim] = []
        self._modules: list[Module] = []

    def program(self) -> Program:
        if self._next() != FORMAT:
            raise ValueError("they have another version of the format")
        self._symbols = self._list(self._text)
        for _ in range(self._next()):
            self._slots.append(self._expression())
        inputs, outputs = tuple(self._list(self._text)), tuple(self._list(self._text))
        for _ in range(self._next()):
            self._modules.append(self._module())
        return Program(
            self._modules[-1],
            [],
            inputs,
            outputs,
            (None,) * len(inputs),
            (None,) * len(outputs),
            input_types=("?",) * len(inputs),
            output_types=("?",) * len(outputs),
        )

    def _next(self) -> int:
        self._at += 1
        return self._words[self._at - 1]

    def _list(self, item: Callable[[], _T]) -> list[_T]:
        return [item() for _ in range(self._next())]

    def _text(self) -> str:
        return self._texts[self._next()]

    def _dim(self) -> Dim:
        return self._slots[self._next()]

    def _expression(self) -> Dim:
        operation, a, b = self._next(), self._next(), self._next()
        if operation == 0:
            return a
        if operation == 1:
            return symbol(self._symbols[a])
        left, right = self._slots[a], self._slots[b]
        if operation in (2, 3):
            return left + right if operation == 2 else left * right
        # As they were: nothing is left to simplify, and the ranges that it would need are gone.
        made: Atom = atom(_KINDS[operation - 4], "", (left, right))
        return of_atom(made)

    def _module(self) -> Module:
        module = Module(self._text())
        module.registers = self._list(self._register)
        module.inputs, module.outputs = self._list(self._next), self._list(self._next)
        module.captures = self._list(lambda: (self._next(), self._next()))
        module.instructions = self._list(self._instruction)
        module.definitions = self._list(self._definition)
        for _ in range(self._next()):
            first, count, is_boundary = self._next(), self._next(), self._next()
            for instruction in module.instructions[first : first + count]:
                instruction.is_dynamic = bool(is_boundary) and not instruction.kernel.startswith("tap")
            module.definitions += self._list(self._definition)
            self._list(self._next)
        module.growing = self._list(self._growing)
        return module

    def _register(self) -> Register:
        dtype, rank = self._next(), self._next()
        dims = tuple(self._dim() for _ in range(max(rank, 0)))
        strides = tuple(self._dim() for _ in range(max(rank, 0))) if self._next() else None
        base, offset, constant, _ = self._next(), self._dim(), self._next(), self._next()
        is_known = rank != NO_RANK
        return Register(
            dtype,
            dims if is_known else None,
            self._text(),
            strides,
            base,
            offset,
            constant,
            is_known or constant >= 0,
        )

    def _instruction(self) -> Instruction:
        kernel, nodes = self._text(), self._text()
        made = Instruction(
            kernel, self._list(self._next), self._list(self._next), tuple(self._list(self._dim))
        )
        made.floats = tuple(
            struct.unpack("<d", struct.pack("<q", bits))[0] for bits in self._list(self._next)
        )
        made.data = self._blobs[self._next()]
        made.bodies = tuple(self._modules[number] for number in self._list(self._next))
        made.nodes = tuple(nodes.split(", ")) if nodes else ()
        return made

    def _definition(self) -> Definition:
        name, register, source, index = self._symbols[self._next()], self._next(), self._next(), self._next()
        return Definition(name, register, Source(source), index, self._dim(), self._dim())

    def _growing(self) -> Growing:
        register, axis, length, room = self._next(), self._next(), self._dim(), self._next()
        return Growing(register, axis, length, "" if room == NO_SYMBOL else self._symbols[room])
