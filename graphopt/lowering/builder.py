"""What the lowering of an operator writes with: values of the graph in, registers and instructions out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.constants import constant
from graphopt.ir.dims import Dim, Expr
from graphopt.ir.fact import Element, TensorFact
from graphopt.ir.inference import Facts
from graphopt.lowering.constant_pool import ConstantPool
from graphopt.lowering.program import (
    ABSENT,
    Definition,
    Instruction,
    Module,
    Register,
    Source,
    dense_strides,
)
from graphopt.lowering.symbols import SymbolTable

__all__ = ["Builder", "Shared"]

Dims = tuple[Dim, ...]


@dataclass(slots=True)
class Shared:
    """What the modules of one program share.

    Attributes:
        symbols: Which of them a run knows by now.
        precision: "f32", "f16", "bf16" or "int8": the form of constant weights.
        fallbacks: Operators that the reference implementation runs, with the reason.
    """

    facts: Facts
    opset_imports: dict[str, int]
    precision: str = "f32"
    constants: ConstantPool = field(default_factory=ConstantPool)
    symbols: SymbolTable = field(default_factory=SymbolTable)
    fallbacks: list[tuple[str, str]] = field(default_factory=list)


class Builder:
    """Makes one module."""

    def __init__(self, shared: Shared, name: str, outer: Builder | None = None) -> None:
        self.shared = shared
        self.facts = shared.facts
        self.module = Module(name)
        self._outer = outer
        self._registers: dict[ir.Value, int] = {}
        self._constants: dict[int, int] = {}
        self._log: list[ir.Value] = []
        self._current: ir.Node | None = None
        self.opset_imports = shared.opset_imports

    @property
    def precision(self) -> str:
        """The form of constant weights: "f32", "f16", "bf16" or "int8"."""
        return self.shared.precision

    # What is known of values.

    def dims(self, value: ir.Value) -> Dims | None:
        """Dims of a tensor; None: the rank is not known, or a dim that a run can't tell before."""
        number = self._registers.get(value)
        register = None if number is None else self.module.registers[number]
        if register is not None and not register.is_sized:
            return None
        if register is not None and register.dims is not None:
            return register.dims
        dims = self.facts.dims(value)
        return None if dims is None else tuple([self.resolved(dim) for dim in dims])

    def rank(self, value: ir.Value) -> int | None:
        """Rank of a tensor; None: not known."""
        dims = self.dims(value)
        return None if dims is None else len(dims)

    def dtype(self, value: ir.Value | None) -> ir.DataType | None:
        """Element type of a tensor; None: not known, or no tensor."""
        return None if value is None else self.facts.dtype(value)

    def elements(self, value: ir.Value) -> tuple[Element, ...] | None:
        """What is known of the contents of a small tensor."""
        found = self.facts.elements(value)
        if found is None:
            return None
        return tuple([self.resolved(e) if type(e) is Expr else e for e in found])

    def sizes(self, value: ir.Value) -> Dims | None:
        """The contents of an integer tensor, if all of it can be computed before it is needed."""
        found = self.elements(value)
        if found is None or not all(type(e) is int or type(e) is Expr for e in found):
            return None
        sizes: Dims = tuple([e for e in found if type(e) is int or type(e) is Expr])
        return sizes if all(self.is_defined(size) for size in sizes) else None

    def constant(self, value: ir.Value | None) -> npt.NDArray[np.generic] | None:
        """The contents of a constant; None where it is none."""
        tensor = None if value is None else constant(value)
        return None if tensor is None else tensor.numpy()

    def opset(self, node: ir.Node) -> int:
        """The version of the node's domain."""
        return node.version or self.opset_imports.get(node.domain, 1)

    def resolved(self, dim: Dim) -> Dim:
        """The expression in symbols that a run knows."""
        return self.shared.symbols.resolved(dim)

    def is_defined(self, dim: Dim) -> bool:
        """Whether a run knows all symbols of it by now."""
        return self.shared.symbols.is_defined(dim)

    # Registers.

    def register(self, value: ir.Value | None) -> int:
        """The register of a value; ABSENT for an input that is left out."""
        if value is None:
            return ABSENT
        found = self._registers.get(value)
        if found is not None:
            return found
        tensor = constant(value)
        if tensor is not None:
            made = self._tensor(tensor, value.name or "")
        elif self._outer is not None and self._outer.has(value):
            made = self._capture(value)
        else:
            made = self._computed(value)
        self.bind(value, made)
        return made

    def has(self, value: ir.Value) -> bool:
        """Whether this module or one around it has a register for the value."""
        return value in self._registers or (self._outer is not None and self._outer.has(value))

    def registered(self, value: ir.Value) -> int:
        """The register that a value has by now; ABSENT where it has none."""
        return self._registers.get(value, ABSENT)

    def start(self, node: ir.Node) -> None:
        """From now on instructions are this node's."""
        self._current = node

    def mark(self) -> tuple[int, int, int]:
        """How far the module is; for `rewind`."""
        return len(self.module.instructions), len(self.module.definitions), len(self._log)

    def rewind(self, mark: tuple[int, int, int]) -> None:
        """Drop what was done since the mark."""
        del self.module.instructions[mark[0] :]
        for definition in self.module.definitions[mark[1] :]:
            self.shared.symbols.undefine(definition.symbol)
        del self.module.definitions[mark[1] :]
        for value in self._log[mark[2] :]:
            self._registers.pop(value, None)
        del self._log[mark[2] :]

    def output_of(self, value: ir.Value, dtype: ir.DataType | None) -> int:
        """A new register for a value that no node of this module makes."""
        register = self.module.add(Register(int(dtype or 0), self.dims(value), value.name or ""))
        self.define_from([register])
        self.module.registers[register].is_sized = self._is_known(self.module.registers[register].dims)
        self.bind(value, register)
        return register

    def equate(self, declared: Dims, register: int) -> None:
        """Note that the dims of a register are also called `declared`."""
        for dim, same in zip(declared, self.module.registers[register].dims or (), strict=False):
            self.shared.symbols.equate(dim, same)

    def is_symbolic(self, value: ir.Value) -> bool:
        """Whether all of its contents are expressions that a run knows by now."""
        fact = self.facts.of(value)
        if not isinstance(fact, TensorFact) or fact.dtype is None or fact.dims is None:
            return False
        if fact.elements is None or not all(type(dim) is int for dim in fact.dims):
            return False
        return all(
            isinstance(e, bool | float | int) or (type(e) is Expr and self.is_defined(self.resolved(e)))
            for e in fact.elements
        )

    def output(self, node: ir.Node, i: int = 0, order: tuple[int, ...] | None = None) -> int:
        """A new register for an output of the node; ABSENT where it is left out.

        Args:
            node: The node.
            i: Number of its output.
            order: Its dims from outermost to innermost in memory, if not in their own order.
        """
        if i >= len(node.outputs) or not (node.outputs[i].name or node.outputs[i].uses()):
            return ABSENT
        value = node.outputs[i]
        dims = self.dims(value)
        dtype = self.dtype(value)
        strides = None
        # What a kernel sizes while it runs is row-major.
        if order is not None and dims is not None and all(map(self.is_defined, dims)):
            strides = dense_strides(dims, order)
        register = self.module.add(Register(int(dtype or 0), dims, value.name or "", strides))
        self.bind(value, register)
        return register

    def bind(self, value: ir.Value, register: int) -> None:
        """From now on the register is the value."""
        self._registers[value] = register
        self._log.append(value)

    def temporary(
        self, dtype: ir.DataType | int, dims: Iterable[Dim], order: tuple[int, ...] | None = None
    ) -> int:
        """A new register for a value that the graph does not have."""
        made = tuple(dims)
        strides = None if order is None else dense_strides(made, order)
        return self.module.add(Register(int(dtype), made, strides=strides))

    def view(self, value: ir.Value, base: int, strides: Sequence[Dim], offset: Dim = 0) -> int:
        """Make a value another look at a register's memory: no instruction."""
        dims = self.dims(value)
        assert dims is not None, "a view whose rank is not known"
        register = self.look(base, dims, strides, offset, value.name or "")
        self.bind(value, register)
        return register

    def look(self, base: int, dims: Dims, strides: Sequence[Dim], offset: Dim = 0, name: str = "") -> int:
        """A register that looks at another's memory; `offset` counts from that register's first element."""
        of = self.module.registers[base]
        root = base if of.base == ABSENT else of.base
        assert of.is_sized, "a view of memory whose size is not known"
        made = Register(of.dtype, dims, name, tuple(strides), root, of.offset + offset, of.constant)
        return self.module.add(made)

    def strides(self, register: int) -> Dims:
        """Strides of a register in elements."""
        of = self.module.registers[register]
        assert of.dims is not None, "strides of a register whose rank is not known"
        return of.strides if of.strides is not None else dense_strides(of.dims)

    def constant_register(self, array: npt.NDArray[np.generic], dtype: ir.DataType | None = None) -> int:
        """A register with these contents."""
        number = int(dtype if dtype is not None else ir.DataType.from_numpy(array.dtype))
        made = Register(number, array.shape, constant=self.shared.constants.array(array, number))
        return self.module.add(made)

    def packed(
        self,
        packer: str,
        sources: Sequence[ir.Value | npt.NDArray[np.generic]],
        ints: Sequence[int] = (),
    ) -> int:
        """A register with constants in the form of a packer; as bytes."""
        number = self.shared.constants.packed(packer, sources, ints)
        return self._constant(number, Register(int(ir.DataType.UINT8), None, packer, constant=number))

    def _constant(self, number: int, register: Register) -> int:
        """The register of a constant; the given one where there is none yet."""
        if number not in self._constants:
            self._constants[number] = self.module.add(register)
        return self._constants[number]

    def _tensor(self, tensor: ir.TensorProtocol, name: str) -> int:
        number = self.shared.constants.tensor(tensor)
        dims = tuple(int(d) for d in tensor.shape.numpy())
        return self._constant(number, Register(int(tensor.dtype), dims, name, constant=number))

    def _capture(self, value: ir.Value) -> int:
        assert self._outer is not None, "only bodies capture"
        outside = self._outer.register(value)
        of = self._outer.module.registers[outside]
        if of.constant != ABSENT:
            return self._constant_look(self._outer.module, of)
        made = Register(of.dtype, of.dims, of.name, of.strides, is_sized=of.is_sized)
        inside = self.module.add(made)
        self.module.captures.append((outside, inside))
        return inside

    def _constant_look(self, outer: Module, of: Register) -> int:
        """The look of a module outside at a constant, in this module."""
        root = of if of.base == ABSENT else outer.registers[of.base]
        made = Register(root.dtype, root.dims, root.name, root.strides, constant=root.constant)
        base = self._constant(of.constant, made)
        if of.base == ABSENT:
            return base
        return self.module.add(Register(of.dtype, of.dims, of.name, of.strides, base, of.offset, of.constant))

    def _computed(self, value: ir.Value) -> int:
        """A register for a value that no instruction made since its contents are expressions."""
        fact = self.facts.of(value)
        assert isinstance(fact, TensorFact) and fact.elements is not None and fact.dtype is not None, (
            f"value {value.name!r} is used before it is made"
        )
        assert fact.dims is not None and self.is_symbolic(value), f"{value.name!r} is not computed"
        register = self.module.add(Register(int(fact.dtype), fact.dims, value.name or ""))
        elements = [self.resolved(e) if type(e) is Expr else e for e in fact.elements]
        if any(isinstance(e, float) for e in elements):
            floats = tuple(float(e) for e in elements if isinstance(e, int | float))
            self._append(Instruction("values", [], [register], floats=floats))
        else:
            ints: Dims = tuple([e if type(e) is Expr else int(e) for e in elements])  # type: ignore[arg-type]
            self._append(Instruction("values", [], [register], ints=ints))
        return register

    # Instructions.

    def emit(
        self,
        kernel: str,
        inputs: Sequence[int],
        outputs: Sequence[int],
        ints: Iterable[Dim] = (),
        floats: Iterable[float] = (),
        data: bytes = b"",
        bodies: tuple[Module, ...] = (),
    ) -> Instruction:
        """Append an instruction."""
        names = () if self._current is None else (self._current.name or self._current.op_type,)
        instruction = Instruction(
            kernel,
            list(inputs),
            list(outputs),
            tuple(ints),
            tuple(float(f) for f in floats),
            data,
            names,
            bodies,
        )
        self._append(instruction)
        return instruction

    def _append(self, instruction: Instruction) -> None:
        """Append; what its outputs' dims tell of symbols is noted."""
        self.module.instructions.append(instruction)
        registers = self.module.registers
        outputs = [output for output in instruction.outputs if output != ABSENT]
        undefined = any(not self._is_known(registers[output].dims) for output in outputs)
        unsized = any(i != ABSENT and not registers[i].is_sized for i in instruction.inputs)
        instruction.is_dynamic = undefined or unsized or bool(instruction.bodies)
        if undefined:
            self.define_from(outputs)
            for output in outputs:
                registers[output].is_sized = self._is_known(registers[output].dims)

    def _is_known(self, dims: Dims | None) -> bool:
        return dims is not None and all(map(self.is_defined, dims))

    def define_from(self, outputs: Iterable[int]) -> None:
        """Note which symbols the dims of registers tell, once these are made."""
        for output in outputs:
            dims = self.module.registers[output].dims
            for index, dim in enumerate(dims or ()):
                self._define(dim, output, Source.DIM, index)

    def define_elements(self, value: ir.Value, register: int) -> None:
        """Note which symbols the contents of a register tell."""
        fact = self.facts.of(value)
        if not isinstance(fact, TensorFact) or fact.elements is None:
            return
        for index, element in enumerate(fact.elements):
            if type(element) is Expr:
                self._define(self.resolved(element), register, Source.ELEMENT, index)

    def _define(self, dim: Dim, register: int, source: Source, index: int) -> None:
        found = self.shared.symbols.define(dim)
        if found is not None:
            symbol, weight, rest = found
            self.module.definitions.append(Definition(symbol, register, source, index, weight, rest))
