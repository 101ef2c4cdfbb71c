"""Sums that follow a matrix product become part of it.

    before   %2 = gemm %0 @w      %3 = elementwise %2 %1 {Add}
    after    %3 = gemm %0 @w ... %1

The sum is made while a tile of the product is in registers. The instruction moves to where the sum stood.
"""

from __future__ import annotations

import onnx_ir as ir

from graphopt.lowering.elementwise_program import KERNEL, Op, Ref, Source, decode
from graphopt.lowering.passes.uses import Uses
from graphopt.lowering.program import ABSENT, Instruction, Module

__all__ = ["fuse_residuals"]

_FLOAT = int(ir.DataType.FLOAT)

# Number of the flags among a product's ints; its residual is input 3 (kernels/ops/gemm_end.h).
_FLAGS = {"gemm": 3, "gemm.f16": 3, "gemm.bf16": 3, "matmul": 1}
_RESIDUAL = 3
_RESIDUAL_FIRST = 1


def fuse_residuals(module: Module) -> int:
    """Fuse what can be fused; returns how many sums went away."""
    uses = Uses.of(module)
    gone: set[int] = set()
    for number, instruction in enumerate(module.instructions):
        terms = _terms(module, instruction)
        if terms is None:
            continue
        for product, other in (terms, terms[::-1]):
            maker = uses.makers.get(product)
            if maker is None or maker in gone or not _takes(module, uses, maker, product, other):
                continue
            module.instructions[number] = _fused(module.instructions[maker], other, instruction)
            uses.makers[instruction.outputs[0]] = number
            gone.add(maker)
            break
    module.instructions = [i for n, i in enumerate(module.instructions) if n not in gone]
    return len(gone)


def _terms(module: Module, instruction: Instruction) -> tuple[int, int] | None:
    """The operands of an instruction that adds two float32 tensors and does nothing else."""
    if instruction.kernel != KERNEL or len(instruction.inputs) != 2 or instruction.is_dynamic:
        return None
    if len(instruction.outputs) != 1:
        return None
    program = decode(instruction.data, instruction.floats, instruction.ints, 2, 1)
    if len(program.steps) != 1 or program.steps[0].op is not Op.ADD or program.steps[0].dtype != _FLOAT:
        return None
    if set(program.steps[0].sources) != {Ref(Source.INPUT, 0), Ref(Source.INPUT, 1)}:
        return None
    a, b = instruction.inputs
    out = module.registers[instruction.outputs[0]]
    same = module.registers[a].dims == module.registers[b].dims == out.dims and out.dims is not None
    return (a, b) if same and out.is_dense and out.base == ABSENT else None


def _takes(module: Module, uses: Uses, maker: int, product: int, other: int) -> bool:
    instruction = module.instructions[maker]
    return (
        instruction.kernel in _FLAGS
        and not instruction.is_dynamic
        and instruction.inputs[_RESIDUAL] == ABSENT
        and module.registers[product].dtype == _FLOAT
        and uses.is_private(product)
        and other != product
    )


def _fused(product: Instruction, other: int, total: Instruction) -> Instruction:
    place = _FLAGS[product.kernel]
    ints = list(product.ints)
    flags = ints[place]
    assert isinstance(flags, int), "flags are a number"
    # The sum comes after the activation, if there is one.
    ints[place] = flags & ~_RESIDUAL_FIRST
    inputs = list(product.inputs)
    inputs[_RESIDUAL] = other
    floats = (*product.floats[:3], 1.0)
    return Instruction(
        product.kernel,
        inputs,
        list(total.outputs),
        tuple(ints),
        floats,
        product.data,
        (*product.nodes, *total.nodes),
    )
