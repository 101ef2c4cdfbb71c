"""Programs of the kernel `elementwise`: written, read, and put together.

A program is in single assignment form here: each step makes one value, which later steps may read. In bytes
it is slots (`kernels/ops/elementwise.h` says how); `encode` finds places, `decode` gives this form back.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from functools import cache
from typing import Final, NamedTuple

import onnx_ir as ir

from graphopt.ir.dims import Dim, Expr
from graphopt.ir.element_types import FLOATS, INTEGERS

__all__ = [
    "KERNEL",
    "MAX_SLOTS",
    "ElementwiseProgram",
    "Op",
    "Ref",
    "Source",
    "Step",
    "decode",
    "is_supported",
]

KERNEL = "elementwise"
MAX_SLOTS = 64
_NO_IMMEDIATE = 255
_MAX_IMMEDIATES = 254


class Op(IntEnum):
    """Operations; the order is the kernel's."""

    COPY = 0
    NEG = 1
    ABS = 2
    SIGN = 3
    SQRT = 4
    RECIPROCAL = 5
    EXP = 6
    LOG = 7
    ERF = 8
    SIN = 9
    COS = 10
    TAN = 11
    ASIN = 12
    ACOS = 13
    ATAN = 14
    SINH = 15
    COSH = 16
    TANH = 17
    ASINH = 18
    ACOSH = 19
    ATANH = 20
    FLOOR = 21
    CEIL = 22
    ROUND = 23
    RELU = 24
    LEAKY_RELU = 25
    ELU = 26
    SELU = 27
    CELU = 28
    THRESHOLDED_RELU = 29
    HARD_SIGMOID = 30
    HARD_SWISH = 31
    SIGMOID = 32
    SOFTPLUS = 33
    SOFTSIGN = 34
    GELU = 35
    GELU_TANH = 36
    SWISH = 37
    MISH = 38
    SHRINK = 39
    NOT = 40
    BIT_NOT = 41
    IS_NAN = 42
    IS_INF = 43
    CAST = 44
    ADD = 45
    SUB = 46
    MUL = 47
    DIV = 48
    MOD = 49
    FMOD = 50
    POW = 51
    MIN = 52
    MAX = 53
    PRELU = 54
    BIT_AND = 55
    BIT_OR = 56
    BIT_XOR = 57
    SHIFT_LEFT = 58
    SHIFT_RIGHT = 59
    EQUAL = 60
    LESS = 61
    LESS_EQUAL = 62
    WHERE = 63
    CLIP = 64
    QUANTIZE = 65
    DEQUANTIZE = 66

    @property
    def sources(self) -> int:
        """How many values it reads."""
        return 1 if self < Op.ADD else 2 if self < Op.WHERE else 3

    @property
    def gives_bool(self) -> bool:
        """Whether the result is bool whatever the sources are."""
        return self in (Op.IS_NAN, Op.IS_INF, Op.EQUAL, Op.LESS, Op.LESS_EQUAL)


_OPS = tuple(Op)
_T = ir.DataType
FLOATS8 = frozenset({_T.FLOAT8E4M3FN, _T.FLOAT8E4M3FNUZ, _T.FLOAT8E5M2, _T.FLOAT8E5M2FNUZ, _T.FLOAT4E2M1})
SMALL = frozenset({_T.INT4, _T.UINT4, _T.INT2, _T.UINT2})
CASTABLE = FLOATS | INTEGERS | FLOATS8 | SMALL | {_T.BOOL, _T.FLOAT8E8M0}

_INTEGER_OPS = (
    frozenset({Op.NEG, Op.ABS, Op.SIGN, Op.RELU, Op.LEAKY_RELU, Op.PRELU, Op.CLIP, Op.MIN, Op.MAX})
    | {Op.ADD, Op.SUB, Op.MUL, Op.DIV, Op.MOD, Op.FMOD, Op.POW, Op.EQUAL, Op.LESS, Op.LESS_EQUAL}
    | {Op.BIT_NOT, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.SHIFT_LEFT, Op.SHIFT_RIGHT}
)
_BOOL_OPS = frozenset(
    {Op.NOT, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.EQUAL, Op.MIN, Op.MAX, Op.LESS, Op.LESS_EQUAL}
)
_NOT_FLOAT_OPS = frozenset(
    {Op.NOT, Op.BIT_NOT, Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.SHIFT_LEFT, Op.SHIFT_RIGHT}
)
_MOVING = frozenset({Op.COPY, Op.WHERE})


def is_supported(op: Op, dtype: ir.DataType) -> bool:
    """Whether the kernel has a function for sources of this type."""
    if op in _MOVING:
        return dtype not in (_T.STRING, _T.UNDEFINED)
    if op in (Op.CAST, Op.QUANTIZE, Op.DEQUANTIZE):
        return dtype in CASTABLE
    if dtype in FLOATS:
        return op not in _NOT_FLOAT_OPS
    if dtype in INTEGERS:
        return op in _INTEGER_OPS
    return dtype == _T.BOOL and op in _BOOL_OPS


class Source:
    """Where a value comes from. Plain numbers: merging hashes a great many of them."""

    INPUT: Final = 0
    CONSTANT: Final = 1
    STEP: Final = 2


class Ref(NamedTuple):
    """A value: which input, constant or step."""

    source: int
    number: int


class Step(NamedTuple):
    """One operation.

    Attributes:
        dtype: Element type of the sources (of the choices for Where).
        to: Element type of the result.
    """

    op: Op
    dtype: int
    to: int
    sources: tuple[Ref, ...]
    immediates: tuple[float, float] | None = None


@dataclass(slots=True)
class ElementwiseProgram:
    """Steps over inputs and constants.

    Attributes:
        inputs: How many inputs there are.
        constants: Element type and value; a whole number for integers and bools.
        outputs: The step that makes each output.
    """

    inputs: int
    constants: list[tuple[int, float | Dim]] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)
    outputs: list[int] = field(default_factory=list)

    def constant(self, dtype: int, value: float | Dim) -> Ref:
        """A constant; an equal one is used again."""
        for index, (of, known) in enumerate(self.constants):
            if of == dtype and _same(known, value):
                return Ref(Source.CONSTANT, index)
        self.constants.append((dtype, value))
        return Ref(Source.CONSTANT, len(self.constants) - 1)

    def add(self, step: Step) -> Ref:
        """Append a step; an equal one is used again."""
        for index, known in enumerate(self.steps):
            if known == step:
                return Ref(Source.STEP, index)
        self.steps.append(step)
        return Ref(Source.STEP, len(self.steps) - 1)

    def slots(self) -> int:
        """Slots that the encoded form has."""
        return self.inputs + len(self.outputs) + len(self.constants) + self._places()[1]

    def encode(self) -> tuple[bytes, tuple[float, ...], tuple[Dim, ...]]:
        """The kernel's data, floats and ints."""
        places, temporaries = self._places()
        floats: list[float] = []
        ints: list[Dim] = []
        pairs: dict[tuple[float, float], int] = {}
        steps = bytearray()
        first_constant = self.inputs + len(self.outputs) + temporaries
        for number, step in enumerate(self.steps):
            at = _NO_IMMEDIATE
            if step.immediates is not None:
                key = step.immediates
                if key not in pairs:
                    pairs[key] = len(floats)
                    floats += key
                at = pairs[key]
                assert at < _MAX_IMMEDIATES, "too many immediates"
            slots = [self._slot(ref, places, first_constant) for ref in step.sources]
            slots += [slots[0]] * (3 - len(slots))
            steps += bytes([step.op, step.dtype, step.to, places[number], *slots, at])
        constants = b""
        for dtype, value in self.constants:
            if isinstance(value, float):
                constants += struct.pack("<BBH", dtype, 0, len(floats))
                floats.append(value)
            else:
                constants += struct.pack("<BBH", dtype, 1, len(ints))
                ints.append(value)
        header = bytes([len(self.steps), len(self.constants), temporaries, 0])
        return header + constants + bytes(steps), tuple(floats), tuple(ints)

    def _slot(self, ref: Ref, places: Sequence[int], first_constant: int) -> int:
        if ref.source == Source.INPUT:
            return ref.number
        return places[ref.number] if ref.source == Source.STEP else first_constant + ref.number

    def _places(self) -> tuple[list[int], int]:
        """The slot of each step's result, and how many are temporaries; places are used again."""
        last: dict[int, int] = {}
        for number, step in enumerate(self.steps):
            last[number] = number
            for ref in step.sources:
                if ref.source == Source.STEP:
                    last[ref.number] = number
        outputs = {number: self.inputs + k for k, number in enumerate(self.outputs)}
        first = self.inputs + len(self.outputs)
        places: list[int] = []
        until: list[int] = []  # the step that last reads what lies in each temporary
        widths: list[int] = []  # of that
        for number, step in enumerate(self.steps):
            if number in outputs:
                places.append(outputs[number])
                continue
            # A step may write over what it reads only where elements of both lie in the same places.
            width = _width(step.to)
            free = next(
                (k for k, end in enumerate(until) if end < number or (end == number and widths[k] == width)),
                len(until),
            )
            if free == len(until):
                until.append(0)
                widths.append(0)
            until[free], widths[free] = last[number], width
            places.append(first + free)
        return places, len(until)


@cache
def _width(dtype: int) -> int:
    """Bytes of an element in a slot: types below 8 bits take a byte."""
    return max(1, ir.DataType(dtype).bitwidth // 8)


def _same(a: float | Dim, b: float | Dim) -> bool:
    if isinstance(a, Expr) or isinstance(b, Expr):
        return a is b
    return type(a) is type(b) and struct.pack("<d", float(a)) == struct.pack("<d", float(b)) and a == b


def decode(
    data: bytes, floats: Sequence[float], ints: Sequence[Dim], inputs: int, outputs: int
) -> ElementwiseProgram:
    """The program in bytes; what `encode` gave."""
    n_steps, n_constants, n_temporaries, _ = data[:4]
    program = ElementwiseProgram(inputs)
    for k in range(n_constants):
        dtype, whole, index = struct.unpack_from("<BBH", data, 4 + 4 * k)
        program.constants.append((dtype, ints[index] if whole else floats[index]))
    first_constant = inputs + outputs + n_temporaries
    holds: dict[int, Ref] = {k: Ref(Source.INPUT, k) for k in range(inputs)}
    holds.update({first_constant + k: Ref(Source.CONSTANT, k) for k in range(n_constants)})
    for k in range(n_steps):
        op, dtype, to, out, a, b, c, at = data[4 + 4 * n_constants + 8 * k :][:8]
        operation = _OPS[op]
        sources = tuple([holds[slot] for slot in (a, b, c)[: operation.sources]])
        immediates = None if at == _NO_IMMEDIATE else (floats[at], floats[at + 1])
        program.steps.append(Step(operation, dtype, to, sources, immediates))
        holds[out] = Ref(Source.STEP, k)
    program.outputs = [holds[inputs + k].number for k in range(outputs)]
    return program


def reachable(program: ElementwiseProgram, outputs: Iterable[int]) -> set[int]:
    """The steps that these steps need, themselves included."""
    found: set[int] = set()
    pending = list(outputs)
    while pending:
        number = pending.pop()
        if number not in found:
            found.add(number)
            pending += [ref.number for ref in program.steps[number].sources if ref.source == Source.STEP]
    return found
