"""Registers that take over the memory of what their instruction reads for the last time.

    before   %5 = elementwise %4       two places in the arena while it runs
    after    %5 lies where %4 did      a chain of such instructions has one place

Programs are printed without it: it is settled when they become tables.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from graphopt.lowering.elementwise_program import KERNEL as ELEMENTWISE
from graphopt.lowering.kernels import traits
from graphopt.lowering.program import ABSENT, Instruction, Module, Register, dense_strides
from graphopt.lowering.schedule import is_boundary

__all__ = ["shared_memory"]


def shared_memory(module: Module, local: Sequence[bool]) -> dict[int, int]:
    """For registers whose memory is another's, though the program gives them their own: whose.

    Args:
        module: Its instructions in their final order.
        local: Whether a register's memory is needed within one segment only.
    """
    roots = [module.root(number) for number in range(len(module.registers))]
    last: dict[int, int] = {}
    for number, instruction in enumerate(module.instructions):
        for register in (*instruction.inputs, *instruction.outputs, *instruction.captured):
            if register != ABSENT:
                last[roots[register]] = number
    owner: dict[int, int] = {}
    for number, instruction in enumerate(module.instructions):
        places = traits(instruction.kernel).in_place
        if not places or is_boundary(instruction) or instruction.outputs[0] == ABSENT:
            continue
        made = instruction.outputs[0]
        if not local[made] or roots[made] != made:
            continue
        for place in places[: len(instruction.inputs)]:
            taken = instruction.inputs[place]
            if taken == ABSENT or not local[taken] or last[roots[taken]] != number:
                continue
            if _fits(module, taken, made, roots) and _is_safe(instruction, place, roots):
                owner[made] = owner.get(roots[taken], roots[taken])
                break
    if not owner:
        return {}
    return {number: owner[root] for number, root in enumerate(roots) if root in owner}


def _fits(module: Module, taken: int, made: int, roots: Sequence[int]) -> bool:
    """Whether the result lies in the memory of the operand as that did, and fills it."""
    a, b, root = module.registers[taken], module.registers[made], module.registers[roots[taken]]
    if a.dims is None or root.dims is None or not a.is_sized or not b.is_sized or root.constant != ABSENT:
        return False
    return (
        (a.dtype, a.dims, a.offset) == (b.dtype, b.dims, 0)
        and root.dtype == b.dtype
        and _strides(a) == _strides(b)
        and module.size(roots[taken]) == module.size(made)
    )


def _strides(register: Register) -> object:
    assert register.dims is not None
    return dense_strides(register.dims) if register.strides is None else register.strides


def _is_safe(instruction: Instruction, place: int, roots: Sequence[int]) -> bool:
    """Whether nothing of the operand is read after the result stands in its place."""
    taken = instruction.inputs[place]
    is_elementwise = instruction.kernel == ELEMENTWISE
    for number, other in enumerate(instruction.inputs):
        if other == ABSENT or roots[other] != roots[taken] or number == place:
            continue
        # Several looks at the same elements in the same order are one.
        if not is_elementwise or other != taken:
            return False
    if not is_elementwise:
        return True
    same = {number for number, other in enumerate(instruction.inputs) if other == taken}
    n_steps, n_constants = struct.unpack_from("2B", instruction.data)
    is_written = False
    for step in range(n_steps):
        _, _, _, out, *sources, _ = struct.unpack_from("8B", instruction.data, 4 + 4 * n_constants + 8 * step)
        if is_written and not same.isdisjoint(sources):
            return False
        is_written = is_written or out == len(instruction.inputs)
    return True
