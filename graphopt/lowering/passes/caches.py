"""Caches that a loop grows by Concat are appended to in place.

    before   body(%4 [1,t,256]) { %24 = concat %4 %23 }  -> %24
    after    body(%4 [1,t,256], grows) { copy %23 -> %4[:, t:t+1] }  -> %4 [1,t+1,256]

The memory behind such an input holds more than its dims say; the loop sees to it that there is room for
what the body appends, doubling it when it is full. What was there before does not move, so other readers of
the old value stay right. All dims before the axis must be 1: then the rows of the longer value lie where
those of the shorter one did.
"""

from __future__ import annotations

from graphopt.ir.dims import Dim
from graphopt.lowering.passes.uses import Uses
from graphopt.lowering.program import ABSENT, Growing, Instruction, Module, dense_strides

__all__ = ["append_in_place"]


def append_in_place(loop: Instruction) -> int:
    """Do it in the body of a Loop; returns for how many values."""
    (body,) = loop.bodies
    carried = loop.ints[0]
    assert isinstance(carried, int), "the number of carried values is known"
    uses = Uses.of(body)
    done = 0
    for slot in range(carried):
        given, made = body.inputs[2 + slot], body.outputs[1 + slot]
        number = uses.makers.get(made)
        if number is None or body.outputs.count(made) != 1 or given in body.outputs:
            continue
        if _append(body, uses, number, given, made):
            done += 1
    return done


def _append(body: Module, uses: Uses, number: int, given: int, made: int) -> bool:
    instruction = body.instructions[number]
    if instruction.kernel != "concat" or instruction.inputs[0] != given or instruction.is_dynamic:
        return False
    old, new = body.registers[given], body.registers[made]
    axis = instruction.ints[0]
    if not isinstance(axis, int) or old.dims is None or new.dims is None or not old.is_sized:
        return False
    axis %= len(new.dims)
    if any(dim != 1 for dim in new.dims[:axis]) or not new.is_dense or new.base != ABSENT:
        return False
    if any(body.root(part) == given for part in instruction.inputs[1:]):
        return False
    strides = dense_strides(new.dims)
    at: Dim = old.dims[axis]
    copies: list[Instruction] = []
    for part in instruction.inputs[1:]:
        dims = body.registers[part].dims
        if dims is None:
            return False
        look = body.registers[part]
        place = body.add(
            type(look)(look.dtype, dims, new.name, strides, base=given, offset=at * strides[axis])
        )
        copies.append(Instruction("copy", [part], [place], nodes=instruction.nodes))
        at = at + dims[axis]
    new.base, new.strides = given, strides
    for number_of_look in uses.looks.get(made, ()):
        body.registers[number_of_look].base = given
    body.growing.append(Growing(given, axis, new.dims[axis]))
    body.instructions[number : number + 1] = copies
    fresh = Uses.of(body)
    uses.makers, uses.readers, uses.looks = fresh.makers, fresh.readers, fresh.looks
    uses.makers[made] = -1
    return True
