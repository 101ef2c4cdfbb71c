"""A Program as text, one line an instruction.

    %3 float32[N, 256] "h" = gemm.f32 %1, %2 (1, 256) {0.5}  # first, relu

A register's type stands where it is made, on a line of its own where no instruction makes it (inputs,
constants `@7`, views `in %2`): element type, dims, strides where they are given, name. After the kernel:
operands (`-`: absent), `(integers)`, `{floats}`, `data`; behind `#` the nodes of the model. Bodies are
indented below. `graphopt.lowering.reading` reads it back.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator

import onnx_ir as ir

from graphopt.ir.dims import Atom, Dim, Expr, Kind
from graphopt.ir.dims.expression import Terms
from graphopt.lowering.program import ABSENT, Definition, Instruction, Module, Program, Register, Source

__all__ = ["DTYPE_NAMES", "PLAIN_NAME", "printed"]

# Attributes up to this length stand in the line.
MAX_INLINE_BYTES = 60

PLAIN_NAME = re.compile(r"[A-Za-z_][\w./:\-]*")
_SPECIAL_NAMES = {0: "?", 1: "float32", 11: "float64"}
DTYPE_NAMES = {int(dtype): _SPECIAL_NAMES.get(int(dtype), dtype.name.lower()) for dtype in ir.DataType}


def printed(program: Program) -> str:
    """The text of a program; constants are named by number."""
    return "\n".join(_Printer().program(program)) + "\n"


class _Printer:
    def __init__(self) -> None:
        self._symbols: dict[Atom, str] = {}
        self._blobs: dict[bytes, int] = {}

    def program(self, program: Program) -> Iterator[str]:
        modules = [f"  {line}" for line in self._module(program.main)]
        yield "program"
        for kind, names, types, dims in (
            ("input", program.input_names, program.input_types, program.input_dims),
            ("output", program.output_names, program.output_types, program.output_dims),
        ):
            for name, type_, shape in zip(names, types, dims, strict=True):
                shown = "*" if shape is None else json.dumps(list(shape), ensure_ascii=False)
                yield f"  {kind} {quoted(name)} {type_} {shown}"
        for operator, reason in program.fallbacks:
            yield f"  fallback {quoted(operator)} {quoted(reason)}"
        for symbol, alias in self._symbols.items():
            yield f"  symbol {alias}{_range(symbol)}" + (
                f" {quoted(symbol.name)}" if symbol.name != alias else ""
            )
        yield from modules
        for blob, number in self._blobs.items():
            yield f"  data {number} = {base64.b64encode(blob).decode()}"

    def _module(self, module: Module) -> Iterator[str]:
        captures = ", ".join(f"%{outside} as %{inside}" for outside, inside in module.captures)
        head = f"{module.name}({registers(module.inputs)}) -> ({registers(module.outputs)})"
        yield f"{head} captures ({captures})" if captures else head
        declared: set[int] = set()
        made = {o for instruction in module.instructions for o in instruction.outputs}
        entries = [*module.inputs, *(inside for _, inside in module.captures)]
        yield from self._declarations(module, entries, declared)
        for definition in module.definitions:
            yield f"  where {self._definition(definition)}"
        for growing in module.growing:
            room = f" room {growing.room}" if growing.room else ""
            yield f"  grows %{growing.register} axis {growing.axis}{room} to {self._dim(growing.length)}"
        for instruction in module.instructions:
            used = [r for r in (*instruction.inputs, *instruction.captured) if r not in made or r in declared]
            used += [module.registers[o].base for o in instruction.outputs if o != ABSENT]
            yield from self._declarations(module, used, declared)
            yield f"  {self._instruction(module, instruction, declared)}"
            for body in instruction.bodies:
                yield from (f"    {line}" for line in self._module(body))
        yield from self._declarations(module, range(len(module.registers)), declared)

    def _declarations(self, module: Module, numbers: Iterable[int], declared: set[int]) -> Iterator[str]:
        """Lines for registers that are not declared yet, each after the one that it looks at."""
        for number in numbers:
            if number == ABSENT or number in declared:
                continue
            yield from self._declarations(module, [module.registers[number].base], declared)
            declared.add(number)
            yield f"  %{number} {self._type(module.registers[number])}"

    def _instruction(self, module: Module, instruction: Instruction, declared: set[int]) -> str:
        outputs = []
        for output in instruction.outputs:
            if output == ABSENT or output in declared:
                outputs.append(register(output))
                continue
            declared.add(output)
            outputs.append(f"%{output} {self._type(module.registers[output])}")
        text = f"{', '.join(outputs)} = {instruction.kernel}" if outputs else instruction.kernel
        if instruction.inputs:
            text += f" {registers(instruction.inputs)}"
        if instruction.ints:
            text += f" ({self._dims(instruction.ints)})"
        if instruction.floats:
            text += f" {{{', '.join(map(repr, instruction.floats))}}}"
        if instruction.data:
            text += f" data {self._data(instruction.data)}"
        if instruction.is_dynamic:
            text += " dynamic"
        if instruction.nodes:
            text += f"  # {', '.join(map(quoted, instruction.nodes))}"
        return text

    def _type(self, register: Register) -> str:
        dims = "*" if register.dims is None else self._dims(register.dims)
        text = f"{DTYPE_NAMES.get(register.dtype, register.dtype)}[{dims}]"
        if register.strides is not None:
            text += f" strides [{self._dims(register.strides)}]"
        if register.base != ABSENT:
            text += f" in %{register.base}"
        if register.offset != 0:
            text += f" at [{self._dim(register.offset)}]"
        if register.constant != ABSENT:
            text += f" @{register.constant}"
        if not register.is_sized:
            text += " unsized"
        return f"{text} {json.dumps(register.name, ensure_ascii=False)}" if register.name else text

    def _definition(self, d: Definition) -> str:
        text = (
            f"{quoted(d.symbol)} = %{d.register} {'dim' if d.source is Source.DIM else 'element'} {d.index}"
        )
        if d.rest != 0:
            text += f" minus {self._dim(d.rest)}"
        return text if d.weight == 1 else f"{text} over {self._dim(d.weight)}"

    def _data(self, data: bytes) -> str:
        try:
            text = data.decode()
        except UnicodeDecodeError:
            text = ""
        if text and text.isprintable() and len(data) <= MAX_INLINE_BYTES:
            return json.dumps(text, ensure_ascii=False)
        return str(self._blobs.setdefault(data, len(self._blobs)))

    def _dims(self, dims: Iterable[Dim]) -> str:
        return ", ".join(map(self._dim, dims))

    def _dim(self, dim: Dim) -> str:
        return self._sum(dim.terms) if type(dim) is Expr else str(dim)

    def _sum(self, terms: Terms) -> str:
        text = ""
        for monomial, weight in terms:
            factors = [self._factor(factor) for factor in monomial]
            if abs(weight) != 1 or not factors:
                factors.insert(0, str(abs(weight)))
            sign = (" - " if weight < 0 else " + ") if text else ("-" if weight < 0 else "")
            text += sign + "*".join(factors)
        return text

    def _factor(self, factor: Atom) -> str:
        if factor.kind is Kind.SYMBOL:
            return self._alias(factor)
        return f"{factor.kind.value}({', '.join(map(self._dim, factor.args))})"

    def _alias(self, symbol: Atom) -> str:
        """A word for a symbol; of two with one name, or a name that is no word, another one."""
        found = self._symbols.get(symbol)
        if found is None:
            word = re.sub(r"\W", "_", symbol.name)
            word = word if word.isidentifier() and word not in _TAKEN else f"s_{word}"
            found, i = word, 2
            while found in self._symbols.values():
                found, i = f"{word}__{i}", i + 1
            self._symbols[symbol] = found
        return found


# Names of operations, and words that Python's grammar takes.
_TAKEN = {kind.value for kind in Kind} | {"and", "as", "at", "for", "if", "in", "is", "not", "or", "lambda"}


def quoted(name: str) -> str:
    """A name as it is if it is plain, else in quotes."""
    return name if PLAIN_NAME.fullmatch(name) else json.dumps(name, ensure_ascii=False)


def register(number: int) -> str:
    """An operand."""
    return "-" if number == ABSENT else f"%{number}"


def registers(numbers: Iterable[int]) -> str:
    """Operands."""
    return ", ".join(map(register, numbers))


def _range(symbol: Atom) -> str:
    if (symbol.low, symbol.high) == (0, None):
        return ""
    low, high = ("" if bound is None else str(bound) for bound in (symbol.low, symbol.high))
    return f" {low}..{high}"
