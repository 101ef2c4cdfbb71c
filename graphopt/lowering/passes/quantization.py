"""Quantization of floats that one instruction makes becomes a part of it.

    before   %2 = gemm.u8s8 %0 @w       %3 uint8 = elementwise %2 {Quantize}
    after    %3 uint8 = gemm.u8s8 %0 @w ... {scale}

    before   %2 = layer_norm %0         %3 %4 %5 = quantize_rows %2
    after    %3 %4 %5 = layer_norm.rows %0

    before   %3 uint8 = elementwise %0 %1 {Dequantize, Dequantize, Add, Relu, Quantize}
    after    %3 uint8 = sum.bytes %0 %1

    before   %1 uint8[N, 3, H, W], channels innermost = elementwise %0 {Quantize}
    after    %1 uint8[N, 3, H, W], channels innermost = quantize.planes %0

The floats are in registers or in L1 then, and are not written. The instruction moves to where the
quantization stood.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.lowering.elementwise_program import (
    KERNEL,
    ElementwiseProgram,
    Op,
    Ref,
    Source,
    decode,
)
from graphopt.lowering.kernels import Layout
from graphopt.lowering.passes.layouts import fits
from graphopt.lowering.passes.uses import Uses
from graphopt.lowering.program import ABSENT, Instruction, Module

__all__ = ["fuse_quantization", "quantize_planes"]

_FLOAT = int(ir.DataType.FLOAT)
_BYTES = (int(ir.DataType.UINT8), int(ir.DataType.INT8))
_NORMS = ("layer_norm", "rms_norm")

_SUM = [Op.DEQUANTIZE, Op.DEQUANTIZE, Op.ADD, Op.QUANTIZE]

# kMostChannels of kernels/ops/quantize_planes.cpp.
MOST_PLANES = 4
# Numbers of kernels/ops/quantized_gemm.h.
_FLAGS = 3
_QUANTIZES_END = 8


@dataclass(frozen=True, slots=True)
class _Bytes:
    """saturate(round(x / scale) + zero)."""

    scale: float
    zero: int


def fuse_quantization(module: Module) -> int:
    """Fuse what can be fused; returns how many instructions went away."""
    uses = Uses.of(module)
    gone: set[int] = set()
    for number, instruction in enumerate(module.instructions):
        summed = _sum_of_bytes(module, instruction)
        if summed is not None:
            module.instructions[number] = summed
            continue
        found = instruction.inputs[0] if instruction.inputs else ABSENT
        maker = uses.makers.get(found)
        if maker is None or maker in gone or instruction.is_dynamic or not uses.is_private(found):
            continue
        made = _fused(module, module.instructions[maker], found, instruction)
        if made is not None:
            module.instructions[number] = made
            gone.add(maker)
    module.instructions = [i for n, i in enumerate(module.instructions) if n not in gone]
    return len(gone)


def quantize_planes(module: Module) -> None:
    """Quantize images of few channels by the kernel that puts these innermost: layouts are settled."""
    for number, instruction in enumerate(module.instructions):
        found = _quantized_planes(module, instruction)
        if found is not None:
            module.instructions[number] = found


def _fused(module: Module, maker: Instruction, floats: int, last: Instruction) -> Instruction | None:
    """The maker with the quantization in it; None where it does not fit."""
    if maker.is_dynamic or len(maker.outputs) != 1 or module.registers[floats].dtype != _FLOAT:
        return None
    if not last.outputs:  # a tap
        return None
    target = module.registers[last.outputs[0]]
    if target.dims is None or target.dims != module.registers[floats].dims or not fits(target, Layout.ROWS):
        return None
    if last.kernel == "quantize_rows":
        return _rows(last, maker) if _is_norm_of_rows(module, maker) else None
    found = _quantization(last) if last.kernel == KERNEL and target.dtype in _BYTES else None
    if found is None:
        return None
    if _is_norm_of_rows(module, maker):
        ints, numbers = (*maker.ints, found.zero), (*maker.floats, found.scale)
        return _replaced(maker, f"{maker.kernel}.bytes", last, ints, numbers)
    flags = maker.ints[_FLAGS] if maker.kernel == "gemm.u8s8" else None
    if not isinstance(flags, int) or flags & _QUANTIZES_END:
        return None
    ints = (*maker.ints[:_FLAGS], flags | _QUANTIZES_END, *maker.ints[_FLAGS + 1 :], found.zero)
    return _replaced(maker, maker.kernel, last, ints, (*maker.floats, found.scale))


def _rows(last: Instruction, maker: Instruction) -> Instruction:
    return _replaced(maker, f"{maker.kernel}.rows", last, maker.ints, maker.floats)


def _replaced(
    maker: Instruction, kernel: str, last: Instruction, ints: tuple[object, ...], floats: tuple[float, ...]
) -> Instruction:
    nodes = tuple(dict.fromkeys((*maker.nodes, *last.nodes)))
    return Instruction(kernel, list(maker.inputs), list(last.outputs), ints, floats, maker.data, nodes)  # type: ignore[arg-type]


def _quantization(instruction: Instruction) -> _Bytes | None:
    """The numbers of an instruction that does nothing but quantize its one input by one scale."""
    if len(instruction.inputs) != 1 or len(instruction.outputs) != 1:
        return None
    program = decode(instruction.data, instruction.floats, instruction.ints, 1, 1)
    if len(program.steps) != 1 or program.outputs != [0]:
        return None
    (step,) = program.steps
    if step.op is not Op.QUANTIZE or step.dtype != _FLOAT or step.sources[0] != Ref(Source.INPUT, 0):
        return None
    if any(ref.source != Source.CONSTANT for ref in step.sources[1:]):
        return None
    scale, zero = (program.constants[ref.number][1] for ref in step.sources[1:])
    return _Bytes(scale, zero) if isinstance(scale, float) and isinstance(zero, int) else None


def _quantized_planes(module: Module, instruction: Instruction) -> Instruction | None:
    """One that quantizes an image of few channels and puts them innermost; None for all others."""
    if instruction.kernel != KERNEL or instruction.is_dynamic or len(instruction.inputs) != 1:
        return None
    x, *others = (module.registers[r] for r in (*instruction.inputs, *instruction.outputs))
    if len(others) != 1 or others[0].dtype not in _BYTES or x.dims is None or x.dims != others[0].dims:
        return None
    channels = x.dims[1] if len(x.dims) > 2 else None
    if type(channels) is not int or not 1 < channels <= MOST_PLANES or not x.is_dense or others[0].is_dense:
        return None
    found = _quantization(instruction) if fits(others[0], Layout.CHANNELS_LAST) else None
    if found is None:
        return None
    inputs, outputs = list(instruction.inputs), list(instruction.outputs)
    return Instruction(
        "quantize.planes", inputs, outputs, (found.zero,), (found.scale,), nodes=instruction.nodes
    )


def _sum_of_bytes(module: Module, instruction: Instruction) -> Instruction | None:
    """One that adds two tensors of bytes as the numbers that they stand for; None for all others."""
    if instruction.kernel != KERNEL or instruction.is_dynamic or len(instruction.inputs) != 2:
        return None
    first, *others = (module.registers[r] for r in (*instruction.inputs, *instruction.outputs))
    if len(others) != 2 or first.dims is None or any(r.dtype not in _BYTES for r in (first, *others)):
        return None
    if any((r.dims, r.strides, r.base) != (first.dims, first.strides, ABSENT) for r in (first, *others)):
        return None
    found = _numbers_of_sum(decode(instruction.data, instruction.floats, instruction.ints, 2, 1))
    if found is None:
        return None
    inputs, outputs = list(instruction.inputs), list(instruction.outputs)
    return Instruction("sum.bytes", inputs, outputs, *found, nodes=instruction.nodes)


def _numbers_of_sum(program: ElementwiseProgram) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """Integers and numbers of `sum.bytes`: Quantize(Relu?(Dequantize(0) + Dequantize(1)))."""
    steps = program.steps
    relu = len(steps) == 5 and steps[3].op is Op.RELU
    if [step.op for step in steps if step.op is not Op.RELU] != _SUM or len(steps) != 4 + relu:
        return None
    first, second, *chain = steps
    if any(step.dtype != _FLOAT for step in chain) or any(step.to != _FLOAT for step in (first, second)):
        return None
    sums = {Ref(Source.STEP, 0), Ref(Source.STEP, 1)}
    of_inputs = {first.sources[0], second.sources[0]} == {Ref(Source.INPUT, 0), Ref(Source.INPUT, 1)}
    follows = all(step.sources[0] == Ref(Source.STEP, k) for k, step in enumerate(chain[1:], 2))
    if set(chain[0].sources) != sums or not of_inputs or not follows:
        return None
    ordered = sorted((first, second), key=lambda step: step.sources[0])
    zeros: list[int] = []
    scales: list[float] = []
    for step in (*ordered, steps[-1]):
        if any(ref.source != Source.CONSTANT for ref in step.sources[1:]):
            return None
        scale, zero = (program.constants[ref.number][1] for ref in step.sources[1:])
        if not isinstance(scale, float) or not isinstance(zero, int):
            return None
        scales.append(scale)
        zeros.append(zero)
    return (*zeros, int(relu)), tuple(scales)


def _is_norm_of_rows(module: Module, maker: Instruction) -> bool:
    """Whether an instruction normalizes the last dim of floats that lie in rows."""
    if maker.kernel not in _NORMS:
        return False
    x, *factors = (module.registers[i] for i in maker.inputs if i != ABSENT)
    if x.dims is None or x.dtype != _FLOAT or not fits(x, Layout.ROWS):
        return False
    vectors = all(f.dtype == _FLOAT and f.dims == x.dims[-1:] and f.is_dense for f in factors)
    return vectors and maker.ints[0] in (-1, len(x.dims) - 1)
