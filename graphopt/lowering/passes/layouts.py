"""Copies where an operand does not lie as its kernel wants it.

before   %2 = transpose-view %1        %3 = softmax %2
after    %2 = transpose-view %1        %4 = copy %2        %3 = softmax %4
"""

from __future__ import annotations

from graphopt.ir.dims import Dim
from graphopt.lowering.kernels import Layout, traits
from graphopt.lowering.program import ABSENT, Instruction, Module, Register, dense_strides

__all__ = ["fits", "settle_layouts"]


def settle_layouts(module: Module) -> None:
    """Insert copies before (and after) instructions whose operands lie otherwise than they want."""
    done: list[Instruction] = []
    copies: dict[tuple[int, Layout], int] = {}
    for instruction in module.instructions:
        wanted = traits(instruction.kernel)
        for place, register in enumerate(instruction.inputs):
            if register != ABSENT:
                instruction.inputs[place] = _fitting(module, register, wanted.input(place), done, copies)
        after: list[Instruction] = []
        for place, register in enumerate(instruction.outputs):
            if register == ABSENT or fits(module.registers[register], wanted.output(place)):
                continue
            of = module.registers[register]
            inner = module.add(Register(of.dtype, of.dims, of.name, _strides(of, wanted.output(place))))
            instruction.outputs[place] = inner
            after.append(Instruction("copy", [inner], [register], nodes=instruction.nodes))
        done.append(instruction)
        done.extend(after)
    own = {module.root(r) for r in module.inputs} | {inside for _, inside in module.captures}
    growing = {g.register for g in module.growing}
    for place, register in enumerate(module.outputs):
        if register == ABSENT:
            continue
        of = module.registers[register]
        handed_on = module.root(register) in own or of.constant != ABSENT
        # A loop hands a grown value on as it lies; other looks at its memory are copied like all others.
        grows = 0 < place < len(module.inputs) - 1 and module.inputs[place + 1] in growing
        if not grows and (not of.is_dense or of.base != ABSENT or (module.name == "main" and handed_on)):
            module.outputs[place] = _copied(module, register, Layout.DENSE, done)
    seen: set[int] = set()
    for place, register in enumerate(module.outputs):
        if register in seen and module.name == "main":
            module.outputs[place] = _copied(module, register, Layout.DENSE, done)
        seen.add(module.outputs[place])
    module.instructions = done


def fits(register: Register, layout: Layout) -> bool:
    """Whether a register lies as a kernel wants it."""
    if register.dims is None or layout is Layout.ANY:
        return True
    if layout is Layout.DENSE:
        return register.is_dense
    strides = register.strides if register.strides is not None else dense_strides(register.dims)
    if layout is Layout.ROWS:
        return not register.dims or strides[-1] == 1 or register.dims[-1] == 1
    wanted = dense_strides(register.dims, _channels_last(len(register.dims)))
    return all(d == 1 or a == b for d, a, b in zip(register.dims, strides, wanted, strict=True))


def _channels_last(rank: int) -> tuple[int, ...]:
    return (0, *range(2, rank), 1) if rank > 2 else tuple(range(rank))


def _strides(register: Register, layout: Layout) -> tuple[Dim, ...] | None:
    if layout is Layout.CHANNELS_LAST and register.dims is not None:
        return dense_strides(register.dims, _channels_last(len(register.dims)))
    return None


def _fitting(
    module: Module,
    register: int,
    layout: Layout,
    done: list[Instruction],
    copies: dict[tuple[int, Layout], int],
) -> int:
    if fits(module.registers[register], layout):
        return register
    layout = Layout.DENSE if layout is Layout.ROWS else layout
    found = copies.get((register, layout))
    if found is None:
        found = copies[register, layout] = _copied(module, register, layout, done)
    return found


def _copied(module: Module, register: int, layout: Layout, done: list[Instruction]) -> int:
    of = module.registers[register]
    made = module.add(Register(of.dtype, of.dims, of.name, _strides(of, layout), is_sized=of.is_sized))
    # Where only the run knows the rank, the kernel that finds sizes while it runs does it.
    unranked = of.dims is None
    done.append(Instruction("identity" if unranked else "copy", [register], [made], is_dynamic=unranked))
    return made
