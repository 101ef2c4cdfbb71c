"""Instructions write straight to where a copy would bring their result.

    before   %3 = gemm %0 @w      copy %3 -> %9[:, 4:5]
    after    %9[:, 4:5] = gemm %0 @w

Concat is brought into that form first: a copy of each operand into its part of the result. Operands that
nobody else reads are then made in their place, and the copy is gone.
"""

from __future__ import annotations

from collections.abc import Iterable

from graphopt.ir.dims import Dim, Expr, symbols
from graphopt.lowering.kernels import traits
from graphopt.lowering.passes.layouts import fits
from graphopt.lowering.passes.uses import Uses
from graphopt.lowering.program import ABSENT, Instruction, Module, Register, dense_strides

__all__ = ["write_in_place"]


def write_in_place(module: Module) -> int:
    """Do it wherever the writing kernel takes the strides; returns how many copies went away."""
    _split_concats(module)
    uses = Uses.of(module)
    gone: set[int] = set()
    for number, instruction in enumerate(module.instructions):
        if instruction.kernel != "copy" or instruction.is_dynamic:
            continue
        (source,), (target,) = instruction.inputs, instruction.outputs
        maker = uses.makers.get(source)
        if maker is None or maker in gone or not uses.is_private(source):
            continue
        if _writes(uses, maker, source, target, number):
            made = module.instructions[maker]
            made.outputs[made.outputs.index(source)] = target
            gone.add(number)
    module.instructions = [i for n, i in enumerate(module.instructions) if n not in gone]
    return len(gone)


def _writes(uses: Uses, maker: int, source: int, target: int, copy: int) -> bool:
    module = uses.module
    instruction = module.instructions[maker]
    root = module.root(target)
    if instruction.is_dynamic or module.registers[root].constant != ABSENT or instruction.bodies:
        return False
    if instruction.kernel.startswith(("sequence.", "optional.")) or instruction.kernel in ("reference", "if"):
        return False
    if module.registers[source].dims != module.registers[target].dims:
        return False
    # The place must not be read, nor the memory begin to live, between the two.
    if any(module.root(i) == root for i in instruction.inputs if i != ABSENT):
        return False
    between = module.instructions[maker + 1 : copy]
    if root in uses.kept and any(i.is_dynamic or i.bodies for i in between):
        return False
    # Nor may its size be told only after the one that now begins it.
    sizes = _symbols_of(module.registers[target]) | _symbols_of(module.registers[root])
    if not _are_told(uses, sizes, maker):
        return False
    place = instruction.outputs.index(source)
    return fits(module.registers[target], traits(instruction.kernel).output(place))


def _symbols_of(register: Register) -> set[str]:
    found: set[str] = set()
    for dim in (*(register.dims or ()), *(register.strides or ()), register.offset):
        found.update(symbols(dim) if type(dim) is Expr else ())
    return found


def _are_told(uses: Uses, names: Iterable[str], by: int) -> bool:
    """Whether a run knows these symbols when it comes to an instruction."""
    module = uses.module
    told = {d.symbol: module.root(d.register) for d in module.definitions}
    makers = (uses.makers.get(told[name]) for name in names if name in told)
    return all(maker is None or maker < by for maker in makers)


def _split_concats(module: Module) -> None:
    """Every Concat of which an operand can be made in place becomes copies into its result."""
    uses = Uses.of(module)
    done: list[Instruction] = []
    for instruction in module.instructions:
        parts = _parts(module, uses, instruction) if instruction.kernel == "concat" else None
        done.extend([instruction] if parts is None else parts)
    module.instructions = done


def _parts(module: Module, uses: Uses, instruction: Instruction) -> list[Instruction] | None:
    (result,) = instruction.outputs
    whole = module.registers[result]
    axis = instruction.ints[0]
    if instruction.is_dynamic or whole.dims is None or whole.base != ABSENT or not isinstance(axis, int):
        return None
    axis %= len(whole.dims)
    strides = whole.strides if whole.strides is not None else dense_strides(whole.dims)
    if not any(_could_write(uses, part) for part in instruction.inputs):
        return None
    at: Dim = 0
    copies: list[Instruction] = []
    for part in instruction.inputs:
        dims = module.registers[part].dims
        if dims is None:
            return None
        look = Register(whole.dtype, dims, whole.name, strides, result, at * strides[axis])
        copies.append(Instruction("copy", [part], [module.add(look)], nodes=instruction.nodes))
        at = at + dims[axis]
    return copies


def _could_write(uses: Uses, part: int) -> bool:
    maker = uses.maker(part)
    return (
        maker is not None
        and uses.is_private(part)
        and not maker.is_dynamic
        and not maker.bodies
        and traits(maker.kernel).output(maker.outputs.index(part)) is not traits("").default_output
    )
