"""The text of a Program becomes the Program again (`graphopt.lowering.printing` writes it)."""

from __future__ import annotations

import ast
import base64
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graphopt.errors import ModelError
from graphopt.ir.dims import Dim, Kind
from graphopt.ir.dims.expression import atom, of_atom
from graphopt.lowering.printing import DTYPE_NAMES
from graphopt.lowering.program import (
    ABSENT,
    Constant,
    Definition,
    Growing,
    Instruction,
    Module,
    Program,
    Register,
    Source,
)

__all__ = ["read"]

_NUMBERS = {name: number for number, name in DTYPE_NAMES.items()}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


def read(
    text: str,
    constants: Sequence[Constant] = (),
    defaults: Mapping[str, npt.NDArray[np.generic]] | None = None,
) -> Program:
    """The program of a text.

    Args:
        text: What `printed` made.
        constants: The text names them by number.
        defaults: Of inputs; the text does not hold them.

    Raises:
        ModelError: The text is damaged; the message names the line.
    """
    reader = _Reader(text)
    try:
        return reader.program(list(constants), dict(defaults or {}))
    except (ValueError, IndexError, KeyError, SyntaxError, AttributeError) as error:
        raise ModelError(f"line {reader.at + 1} of the program's text: {error}") from error


@dataclass(slots=True)
class _Line:
    """The rest of a line."""

    text: str
    at: int = 0

    def peek(self, *texts: str) -> bool:
        rest = self.text[self.at :].lstrip()
        return any(
            rest.startswith(t) and (not t.isalpha() or not rest[len(t) :][:1].isalnum()) for t in texts
        )

    def take(self, text: str) -> bool:
        if not self.peek(text):
            return False
        self.at = self.text.index(text, self.at) + len(text)
        return True

    def expect(self, text: str) -> None:
        if not self.take(text):
            raise ValueError(f"{text!r} is wanted at {self.text[self.at :]!r}")

    def match(self, pattern: str) -> str:
        found = re.compile(rf"\s*({pattern})").match(self.text, self.at)
        if found is None:
            raise ValueError(f"{self.text[self.at :]!r} is not understood")
        self.at = found.end()
        return found[1]

    def name(self) -> str:
        if self.peek('"'):
            made: str = json.loads(self.match(r'"(?:[^"\\]|\\.)*"'))
            return made
        return self.match(r"[A-Za-z_][\w./:\-]*")

    def integer(self) -> int:
        return int(self.match(r"-?\d+"))

    def register(self) -> int:
        return int(self.match(r"%\d+")[1:])

    def operand(self) -> int:
        return ABSENT if self.take("-") else self.register()

    def operands(self) -> list[int]:
        found = [self.operand()]
        while self.take(","):
            found.append(self.operand())
        return found

    def bracketed(self, opening: str) -> list[str]:
        """The parts between a bracket and its counterpart, cut at commas outside of inner brackets."""
        self.expect(opening)
        parts, depth, start = [], 1, self.at
        while depth:
            char = self.text[self.at]
            self.at += 1
            depth += (char in _CLOSING) - (char in _CLOSING.values())
            if depth == 0 or (depth == 1 and char == ","):
                parts.append(self.text[start : self.at - 1].strip())
                start = self.at
        return parts if parts != [""] else []

    @property
    def is_done(self) -> bool:
        return not self.text[self.at :].strip()


@dataclass(slots=True)
class _Reader:
    text: str
    at: int = 0
    lines: list[str] = field(default_factory=list)
    symbols: dict[str, Dim] = field(default_factory=dict)
    blobs: dict[int, bytes] = field(default_factory=dict)
    pending: list[tuple[Instruction, int]] = field(default_factory=list)

    def program(self, constants: list[Constant], defaults: dict[str, npt.NDArray[np.generic]]) -> Program:
        self.lines = self.text.rstrip("\n").split("\n")
        if self.lines[0] != "program":
            raise ValueError("it does not begin with 'program'")
        self.at = 1
        signature: dict[str, list[tuple[str, str, tuple[int | str | None, ...] | None]]] = {
            "input": [],
            "output": [],
        }
        fallbacks: list[tuple[str, str]] = []
        while True:
            line = _Line(self.lines[self.at])
            if line.take("input "):
                signature["input"].append(_argument(line))
            elif line.take("output "):
                signature["output"].append(_argument(line))
            elif line.take("fallback "):
                fallbacks.append((line.name(), line.name()))
            elif line.take("symbol "):
                self._symbol(line)
            else:
                break
            self.at += 1
        main = self._module(2)
        while self.at < len(self.lines):
            line = _Line(self.lines[self.at])
            line.expect("data ")
            number = line.integer()
            line.expect("=")
            self.blobs[number] = base64.b64decode(line.text[line.at :], validate=False)
            self.at += 1
        for instruction, number in self.pending:
            instruction.data = self.blobs[number]
        (input_names, input_types, input_dims), (output_names, output_types, output_dims) = (
            tuple(tuple(column) for column in zip(*signature[kind], strict=True)) or ((), (), ())
            for kind in ("input", "output")
        )
        return Program(
            main,
            constants,
            input_names,
            output_names,
            input_dims,
            output_dims,
            tuple(fallbacks),
            defaults,
            input_types,
            output_types,
        )

    def _symbol(self, line: _Line) -> None:
        alias = line.match(r"\w+")
        bounds: tuple[int | None, int | None] = (0, None)
        if re.match(r"\s*-?\d*\.\.", line.text[line.at :]):
            first, _, second = line.match(r"-?\d*\.\.(?:-?\d+)?").partition("..")
            bounds = (int(first) if first else None, int(second) if second else None)
        name = alias if line.is_done else line.name()
        self.symbols[alias] = of_atom(atom(Kind.SYMBOL, name, (), *bounds))

    def _module(self, depth: int) -> Module:
        line = self._line(depth)
        module = Module(line.match(r"[^()]*"))
        module.inputs = [_register(part) for part in line.bracketed("(")]
        line.expect("->")
        module.outputs = [_register(part) for part in line.bracketed("(")]
        if line.take("captures"):
            for part in line.bracketed("("):
                outside, inside = part.split(" as ")
                module.captures.append((_register(outside), _register(inside)))
        registers: dict[int, Register] = {}
        while self.at < len(self.lines) and self._depth() == depth + 2:
            self._item(self._line(depth + 2), module, registers, depth + 2)
        module.registers = [registers[i] for i in range(len(registers))]
        return module

    def _item(self, line: _Line, module: Module, registers: dict[int, Register], depth: int) -> None:
        if line.take("where "):
            module.definitions.append(self._definition(line))
            return
        if line.take("grows "):
            register = line.register()
            line.expect("axis")
            axis = line.integer()
            room = line.match(r"\S+") if line.take("room") else ""
            line.expect("to")
            module.growing.append(Growing(register, axis, self._dim(line.text[line.at :]), room))
            return
        outputs: list[int] = []
        while line.peek("%", "-"):
            number = line.operand()
            if number != ABSENT and not line.peek(",", "=") and not line.is_done:
                registers[number] = self._type(line)
            outputs.append(number)
            if not line.take(","):
                break
        if outputs and line.is_done:
            return
        if outputs:
            line.expect("=")
        module.instructions.append(self._instruction(line, outputs, depth))

    def _instruction(self, line: _Line, outputs: list[int], depth: int) -> Instruction:
        made = Instruction(line.match(r"[\w.]+"), [], outputs)
        if line.peek("%", "-"):
            made.inputs = line.operands()
        if line.peek("("):
            made.ints = tuple(map(self._dim, line.bracketed("(")))
        if line.peek("{"):
            made.floats = tuple(map(float, line.bracketed("{")))
        if line.take("data "):
            if line.peek('"'):
                made.data = line.name().encode()
            else:
                self.pending.append((made, line.integer()))
        made.is_dynamic = line.take("dynamic")
        if line.take("#"):
            names = [line.name() if line.peek('"') else line.match(r"[^,\s]+")]
            while line.take(","):
                names.append(line.name() if line.peek('"') else line.match(r"[^,\s]+"))
            made.nodes = tuple(names)
        if not line.is_done:
            raise ValueError(f"{line.text[line.at :]!r} is too much")
        bodies = []
        while self.at < len(self.lines) and self._depth() == depth + 2:
            bodies.append(self._module(depth + 2))
        made.bodies = tuple(bodies)
        return made

    def _type(self, line: _Line) -> Register:
        dtype = line.match(r"[\w?]+")
        parts = line.bracketed("[")
        made = Register(_NUMBERS[dtype], None if parts == ["*"] else tuple(map(self._dim, parts)))
        if line.take("strides"):
            made.strides = tuple(map(self._dim, line.bracketed("[")))
        if line.take("in "):
            made.base = line.register()
        if line.take("at "):
            (offset,) = line.bracketed("[")
            made.offset = self._dim(offset)
        if line.take("@"):
            made.constant = line.integer()
        made.is_sized = not line.take("unsized")
        if line.peek('"'):
            made.name = line.name()
        return made

    def _definition(self, line: _Line) -> Definition:
        symbol = line.name()
        line.expect("=")
        register = line.register()
        source = Source.DIM if line.take("dim ") else Source.ELEMENT
        if source is Source.ELEMENT:
            line.expect("element ")
        made = Definition(symbol, register, source, line.integer())
        rest, _, weight = line.text[line.at :].partition(" over ")
        if rest.strip():
            made.rest = self._dim(rest.strip().removeprefix("minus "))
        if weight:
            made.weight = self._dim(weight)
        return made

    def _dim(self, text: str) -> Dim:
        text = text.strip()
        if re.fullmatch(r"-?\d+", text):
            return int(text)
        return self._value(ast.parse(text, mode="eval").body)

    def _value(self, node: ast.expr) -> Dim:
        if isinstance(node, ast.Constant) and isinstance(node.value, int):
            return node.value
        if isinstance(node, ast.Name):
            return self.symbols[node.id]
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
            return -self._value(node.operand)
        if isinstance(node, ast.BinOp) and type(node.op) in _OPERATIONS:
            return _OPERATIONS[type(node.op)](self._value(node.left), self._value(node.right))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            # What was printed is canonical: nothing is left to simplify.
            return of_atom(atom(Kind(node.func.id), "", tuple(map(self._value, node.args))))
        raise ValueError(f"{ast.unparse(node)} is no dim")

    def _line(self, depth: int) -> _Line:
        line = self.lines[self.at]
        if self._depth() != depth:
            raise ValueError("the indentation is wrong")
        self.at += 1
        return _Line(line[depth:])

    def _depth(self) -> int:
        line = self.lines[self.at]
        return len(line) - len(line.lstrip(" "))


_OPERATIONS: dict[type[ast.operator], Callable[[Dim, Dim], Dim]] = {
    ast.Add: lambda a, b: a + b,
    ast.Sub: lambda a, b: a - b,
    ast.Mult: lambda a, b: a * b,
}


def _argument(line: _Line) -> tuple[str, str, tuple[int | str | None, ...] | None]:
    name, type_ = line.name(), line.match(r"\S+")
    return name, type_, None if line.take("*") else tuple(json.loads(line.text[line.at :]))


def _register(text: str) -> int:
    return ABSENT if text == "-" else int(text.removeprefix("%"))
