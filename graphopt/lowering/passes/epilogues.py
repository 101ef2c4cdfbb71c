"""Activations and sums that follow a matrix product or a convolution become part of it.

    before   %2 = conv %0 @w      %3 = elementwise %2 %1 {Add, Relu}
    after    %3 = conv %0 @w ... %1 {Relu}

They are computed while a tile of the product is in registers. The instruction moves to where the element-wise
one stood, which may have computed its other operand in between.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.lowering.elementwise_program import (
    KERNEL,
    ElementwiseProgram,
    Op,
    Ref,
    Source,
    Step,
    decode,
)
from graphopt.lowering.kernels import traits
from graphopt.lowering.passes.layouts import fits
from graphopt.lowering.passes.uses import Uses
from graphopt.lowering.program import ABSENT, Instruction, Module

__all__ = ["fuse_epilogues"]

_FLOAT = int(ir.DataType.FLOAT)
_RESIDUAL = 3  # number of the input that all these kernels add
_RESIDUAL_FIRST = 1

# Where the activation's number stands among a product's ints; flags follow it (kernels/ops/gemm_end.h).
_PRODUCTS = {"gemm": 2, "gemm.f16": 2, "gemm.bf16": 2, "gemm.u8s8": 2, "matmul": 0}
# Their last two ints are the activation and whether the residual comes after it (kernels/ops/conv_end.h).
_CONVOLUTIONS = ("conv.direct", "conv.winograd", "conv.depthwise", "conv")

# Number of an activation (kernels/ops/gemm_end.h) of one step, whose immediates are its parameters.
_ACTIVATIONS = {
    Op.RELU: 1,
    Op.LEAKY_RELU: 3,
    Op.SIGMOID: 4,
    Op.TANH: 5,
    Op.GELU: 6,
    Op.GELU_TANH: 7,
    Op.SWISH: 8,
    Op.HARD_SIGMOID: 9,
    Op.HARD_SWISH: 10,
    Op.ELU: 11,
    Op.SOFTPLUS: 12,
    Op.MISH: 13,
}
_CLIP, _SILU = 2, 8


@dataclass(frozen=True, slots=True)
class _End:
    """What follows the sums.

    Attributes:
        residual: A register that is added, or ABSENT.
        is_first: Whether that comes before the activation.
        activation: Its number; 0: none.
        parameters: Of the activation.
        factor: What the residual is multiplied by.
    """

    residual: int = ABSENT
    is_first: bool = True
    activation: int = 0
    parameters: tuple[float, float] = (0.0, 0.0)
    factor: float = 1.0

    def then(self, other: _End) -> _End | None:
        """This and what follows it; None where they can't be one."""
        if self.activation and other.activation:
            return None
        if other.residual == ABSENT:
            if not other.activation:
                return self
            return replace(self, is_first=True, activation=other.activation, parameters=other.parameters)
        if self.residual != ABSENT:
            return None
        if not self.activation:
            return other
        return replace(other, is_first=False, activation=self.activation, parameters=self.parameters)


def fuse_epilogues(module: Module) -> int:
    """Fuse what can be fused; returns how many instructions went away."""
    uses = Uses.of(module)
    gone: set[int] = set()
    for number, instruction in enumerate(module.instructions):
        if instruction.kernel != KERNEL or instruction.is_dynamic or len(instruction.outputs) != 1:
            continue
        for maker, product in _products(module, uses, instruction):
            if maker in gone:
                continue
            made = _fused(module, module.instructions[maker], product, instruction)
            if made is None:
                continue
            module.instructions[number] = made
            uses.makers[made.outputs[0]] = number
            gone.add(maker)
            break
    module.instructions = [i for n, i in enumerate(module.instructions) if n not in gone]
    return len(gone)


def _products(module: Module, uses: Uses, instruction: Instruction) -> list[tuple[int, int]]:
    """Products among the operands that nobody else reads: (instruction, register), the latest first."""
    found: list[tuple[int, int]] = []
    for register in instruction.inputs:
        maker = uses.makers.get(register) if register != ABSENT else None
        if maker is None or not uses.is_private(register):
            continue
        product = module.instructions[maker]
        if product.kernel not in _PRODUCTS and product.kernel not in _CONVOLUTIONS:
            continue
        if not product.is_dynamic and module.registers[register].dtype == _FLOAT:
            found.append((maker, register))
    return sorted(found, reverse=True)


def _fused(module: Module, product: Instruction, register: int, last: Instruction) -> Instruction | None:
    """The product with the element-wise instruction in it; None where it does not fit."""
    (target,) = last.outputs
    of, made = module.registers[target], module.registers[register]
    if of.dims != made.dims or of.dims is None or of.dtype != _FLOAT:
        return None
    if not fits(of, traits(product.kernel).output(0)):
        return None
    program = decode(last.data, last.floats, last.ints, len(last.inputs), 1)
    found = _parsed(program, last.inputs.index(register), last.inputs)
    before = _end_of(product)
    end = None if found is None or before is None else before.then(found)
    if before is None or end is None or end.residual == register:
        return None
    if end.residual not in (ABSENT, before.residual):
        residual = module.registers[end.residual]
        if residual.dtype != _FLOAT or not fits(residual, traits(product.kernel).input(_RESIDUAL)):
            return None
        is_whole = residual.dims == of.dims
        if not is_whole and (product.kernel in _CONVOLUTIONS or residual.dims is None):
            return None
    return _with_end(product, end, target, last.nodes)


def _parsed(program: ElementwiseProgram, product: int, inputs: Sequence[int]) -> _End | None:
    """The end that a program is, seen from one of its inputs."""
    value = Ref(Source.INPUT, product)
    end = _End()
    number = 0
    while number < len(program.steps):
        step = program.steps[number]
        following = program.steps[number + 1] if number + 1 < len(program.steps) else None
        if step.dtype != _FLOAT or step.to != _FLOAT:
            return None
        part: _End | None
        if following is not None and _is_silu(step, following, value, Ref(Source.STEP, number)):
            part, number = _End(activation=_SILU, parameters=(1.0, 0.0)), number + 1
        else:
            part = _part(program, step, value, inputs)
        joined = None if part is None else end.then(part)
        if joined is None:
            return None
        end, value = joined, Ref(Source.STEP, number)
        number += 1
    return end if program.outputs == [len(program.steps) - 1] else None


def _is_silu(first: Step, second: Step, value: Ref, made: Ref) -> bool:
    """value * sigmoid(value)."""
    return (
        first.op is Op.SIGMOID
        and first.sources == (value,)
        and second.op is Op.MUL
        and second.dtype == second.to == _FLOAT
        and set(second.sources) == {value, made}
    )


def _part(program: ElementwiseProgram, step: Step, value: Ref, inputs: Sequence[int]) -> _End | None:
    if step.op in (Op.ADD, Op.SUB) and value in step.sources and step.sources[0] != step.sources[1]:
        other = step.sources[1] if step.sources[0] == value else step.sources[0]
        if other.source != Source.INPUT or (step.op is Op.SUB and step.sources[0] != value):
            return None
        return _End(residual=inputs[other.number], factor=-1.0 if step.op is Op.SUB else 1.0)
    if step.sources[0] != value or any(ref == value for ref in step.sources[1:]):
        return None
    if step.op in (Op.MIN, Op.MAX, Op.CLIP):
        bounds = [_number(program, ref) for ref in step.sources[1:]]
        if any(bound is None or math.isnan(bound) for bound in bounds):
            return None
        known = [bound for bound in bounds if bound is not None]
        low = -math.inf if step.op is Op.MIN else known[0]
        high = math.inf if step.op is Op.MAX else known[-1]
        return _End(activation=_CLIP, parameters=(low, high)) if low <= high else None
    if step.op not in _ACTIVATIONS:
        return None
    return _End(activation=_ACTIVATIONS[step.op], parameters=step.immediates or (0.0, 0.0))


def _number(program: ElementwiseProgram, ref: Ref) -> float | None:
    if ref.source != Source.CONSTANT:
        return None
    value = program.constants[ref.number][1]
    return value if isinstance(value, float) else None


def _end_of(product: Instruction) -> _End | None:
    """The end that a product has already."""
    residual = product.inputs[_RESIDUAL] if len(product.inputs) > _RESIDUAL else ABSENT
    if product.kernel in _CONVOLUTIONS:
        if len(product.inputs) <= _RESIDUAL:
            return None
        activation, is_last = product.ints[-2:]
        p, q = (*product.floats, 0.0, 0.0)[:2]
        assert isinstance(activation, int), "the activation is a number"
        return _End(residual, is_last == 0, activation, (p, q))
    place = _PRODUCTS[product.kernel]
    activation, flags = product.ints[place : place + 2]
    assert isinstance(activation, int) and isinstance(flags, int), "activation and flags are numbers"
    _, p, q, beta = product.floats[:4]
    return _End(residual, bool(flags & _RESIDUAL_FIRST), activation, (p, q), beta)


def _with_end(product: Instruction, end: _End, target: int, nodes: tuple[str, ...]) -> Instruction | None:
    inputs = list(product.inputs)
    inputs[_RESIDUAL] = end.residual
    ints: list[Dim] = list(product.ints)
    if product.kernel in _CONVOLUTIONS:
        if end.factor != 1.0:
            return None
        ints[-2:] = [end.activation, int(not end.is_first)]
        floats: tuple[float, ...] = end.parameters
    else:
        place = _PRODUCTS[product.kernel]
        flags = ints[place + 1]
        assert isinstance(flags, int), "flags are a number"
        kept = flags & ~_RESIDUAL_FIRST
        ints[place : place + 2] = [end.activation, kept | _RESIDUAL_FIRST * end.is_first]
        factor = end.factor if end.residual != ABSENT else product.floats[3]
        floats = (product.floats[0], *end.parameters, factor)
    return Instruction(
        product.kernel,
        inputs,
        [target],
        tuple(ints),
        floats,
        product.data,
        tuple(dict.fromkeys((*product.nodes, *nodes))),
    )
