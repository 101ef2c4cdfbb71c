"""Instructions that compute what another one did.

    before   %3 %4 %5 = quantize_rows %1     %8 %9 %10 = quantize_rows %1
    after    %3 %4 %5 = quantize_rows %1

Lowerings write some instructions for each node that needs their result: three products of one input each have
its rows in 8 bits, or quantize it.
"""

from __future__ import annotations

from graphopt.lowering.elementwise_program import KERNEL
from graphopt.lowering.program import Instruction, Module

__all__ = ["merge_repeated"]

# What lowerings write beside a node's own instruction; nodes themselves were merged in the graph.
_REPEATED = ("quantize_rows",)
# What is also a node's own instruction: its registers then have the names of values.
_ALSO_NODES = ("dynamic_quantize",)


def merge_repeated(module: Module) -> int:
    """Merge what is the same, before anything is written in place; returns how many went away."""
    kept: list[Instruction] = []
    first: dict[tuple[object, ...], list[int]] = {}
    same: dict[int, int] = {}
    for instruction in module.instructions:
        instruction.inputs = [same.get(register, register) for register in instruction.inputs]
        if not _is_beside(module, instruction) or instruction.is_dynamic:
            kept.append(instruction)
            continue
        numbers = (instruction.ints, instruction.floats, instruction.data)
        key = (instruction.kernel, *instruction.inputs, *numbers)
        known = first.setdefault(key, instruction.outputs)
        if known is instruction.outputs:
            kept.append(instruction)
        else:
            same.update(zip(instruction.outputs, known, strict=True))
    gone = len(module.instructions) - len(kept)
    module.instructions = kept
    return gone


def _is_beside(module: Module, instruction: Instruction) -> bool:
    """Whether a lowering wrote it beside a node's own instruction; such registers have no name or view."""
    if instruction.kernel in (KERNEL, *_ALSO_NODES):
        return not any(module.registers[register].name for register in instruction.outputs)
    return instruction.kernel in _REPEATED
