"""What the engine runs: modules of instructions over numbered registers.

A register is a look at memory: element type, dims, strides. Dims are expressions over symbols; a run
evaluates them once for each new set of sizes. A register without `base` has memory of its own; one with
`base` looks at another's. Instructions stand in the order in which they run.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum

import numpy as np
import numpy.typing as npt

from graphopt.ir.dims import Dim, product

__all__ = [
    "ABSENT",
    "Constant",
    "Definition",
    "Growing",
    "Instruction",
    "Module",
    "Program",
    "Register",
    "Source",
    "dense_strides",
]

ABSENT = -1

Dims = tuple[Dim, ...]


class Source(Enum):
    """Where a run finds the value of a symbol."""

    DIM = 0
    ELEMENT = 1


@dataclass(slots=True)
class Register:
    """A look at memory.

    Attributes:
        dtype: Element type, as ONNX numbers them; 0 where it is not known, or no tensor.
        dims: None where not even the rank is known before it is made.
        strides: In elements, one a dim; None: dense, row-major.
        base: The register whose memory it looks at; itself has memory of its own where ABSENT.
        offset: In elements, from the base's first.
        constant: Number of the constant that it is, or ABSENT.
        name: The ONNX value, for people.
        is_sized: Whether a run knows its dims before it is made.
    """

    dtype: int
    dims: Dims | None
    name: str = ""
    strides: Dims | None = None
    base: int = ABSENT
    offset: Dim = 0
    constant: int = ABSENT
    is_sized: bool = True

    @property
    def is_dense(self) -> bool:
        """Whether its elements are known to lie in row-major order without gaps."""
        if self.strides is None:
            return True
        return self.dims is not None and fits_dense(self.dims, self.strides)


def dense_strides(dims: Dims, order: tuple[int, ...] | None = None) -> Dims:
    """Strides of memory without gaps whose dims lie in `order`, outermost first (row-major without it)."""
    strides: list[Dim] = [1] * len(dims)
    step: Dim = 1
    for axis in reversed(order if order is not None else range(len(dims))):
        strides[axis] = step
        step = step * dims[axis]
    return tuple(strides)


def fits_dense(dims: Dims, strides: Dims) -> bool:
    """Whether strides are those of row-major memory; those of dims of 1 do not count."""
    return all(d == 1 or s == e for d, s, e in zip(dims, strides, dense_strides(dims), strict=True))


@dataclass(slots=True)
class Constant:
    """A constant, as it is or in the form of a packer.

    Attributes:
        arrays: The sources: one of any layout, or several where a packer takes them.
        packer: Name of the packed form; empty: the first array as it is.
        ints: Parameters of the packer.
    """

    arrays: tuple[npt.NDArray[np.generic], ...]
    dtypes: tuple[int, ...]
    packer: str = ""
    ints: tuple[int, ...] = ()


@dataclass(slots=True)
class Instruction:
    """One call of a kernel, or an operator of the engine itself (control flow, sequences).

    Attributes:
        ints: Attributes and sizes.
        data: Further attributes in the kernel's own form.
        nodes: Names of the ONNX nodes that it runs, for people.
        bodies: Modules that it runs (If, Loop, Scan).
        is_dynamic: It computes the dims of its outputs while it runs.
    """

    kernel: str
    inputs: list[int]
    outputs: list[int]
    ints: tuple[Dim, ...] = ()
    floats: tuple[float, ...] = ()
    data: bytes = b""
    nodes: tuple[str, ...] = ()
    bodies: tuple[Module, ...] = ()
    is_dynamic: bool = False

    @property
    def captured(self) -> list[int]:
        """The registers that its bodies read of their surroundings."""
        return [outside for body in self.bodies for outside, _ in body.captures]


@dataclass(slots=True)
class Definition:
    """A symbol gets its value once a register is there.

    symbol = (found - rest) / weight, where found is a dim or an element of the register.
    """

    symbol: str
    register: int
    source: Source
    index: int
    weight: Dim = 1
    rest: Dim = 0


@dataclass(frozen=True, slots=True)
class Growing:
    """An input that a loop carries and its body appends to in place.

    Attributes:
        axis: Where it grows.
        length: What it must have room for along the axis.
        room: The symbol of what it has room for; empty where no stride depends on it.
    """

    register: int
    axis: int
    length: Dim
    room: str = ""


@dataclass(slots=True)
class Module:
    """Instructions over registers of their own.

    Attributes:
        captures: (register outside, register here), for what a body reads of its surroundings.
    """

    name: str
    registers: list[Register] = field(default_factory=list)
    inputs: list[int] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)
    instructions: list[Instruction] = field(default_factory=list)
    captures: list[tuple[int, int]] = field(default_factory=list)
    definitions: list[Definition] = field(default_factory=list)
    growing: list[Growing] = field(default_factory=list)

    def add(self, register: Register) -> int:
        """The number of a new register."""
        self.registers.append(register)
        return len(self.registers) - 1

    def walk(self) -> Iterator[Module]:
        """Itself and all bodies in it, outermost first."""
        yield self
        for instruction in self.instructions:
            for body in instruction.bodies:
                yield from body.walk()

    def root(self, number: int) -> int:
        """The register whose memory a register looks at."""
        while self.registers[number].base != ABSENT:
            number = self.registers[number].base
        return number

    def size(self, number: int) -> Dim:
        """Elements of the memory of a register that has its own."""
        dims = self.registers[number].dims
        assert dims is not None, "the size of a register whose rank is not known"
        return product(dims)


@dataclass(slots=True)
class Program:
    """A model as the engine runs it.

    Attributes:
        input_names: In the order of the main module's inputs; so `output_names`.
        input_dims: As the model declares them: numbers, names, or None.
        defaults: Inputs that may be left out.
        input_types: As a session names them: "tensor(float)", "seq(tensor(int64))"; so `output_types`.
        fallbacks: Operators that the reference implementation runs, with the reason.
    """

    main: Module
    constants: list[Constant]
    input_names: tuple[str, ...]
    output_names: tuple[str, ...]
    input_dims: tuple[tuple[int | str | None, ...] | None, ...] = ()
    output_dims: tuple[tuple[int | str | None, ...] | None, ...] = ()
    fallbacks: tuple[tuple[str, str], ...] = ()
    defaults: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    input_types: tuple[str, ...] = ()
    output_types: tuple[str, ...] = ()

    def __str__(self) -> str:
        from graphopt.lowering.printing import printed

        return printed(self)
