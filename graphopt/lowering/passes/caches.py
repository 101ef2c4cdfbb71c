"""Caches that a loop grows by Concat are appended to in place.

    before   body(%4 [b,4,t,64]) { %24 = concat %4 %23 {axis 2} }  -> %24
    after    body(%4 [b,4,t,64], grows) { copy %23 -> %4[:, :, t:t+1] }  -> %4 [b,4,t+1,64]

The memory behind such an input has room for more than its dims say; the loop sees to it that what the body
appends finds room, doubling it when it is full. Where a dim before the axis is not 1, the strides before it
count the room: it is a symbol that the engine defines. What was there before does not move, so other
readers of the old value stay right. What is appended has a length that is known when the iteration begins.
"""

from __future__ import annotations

from graphopt.ir.dims import Dim, symbol, symbols
from graphopt.lowering.passes.uses import Uses
from graphopt.lowering.program import ABSENT, Growing, Instruction, Module, Register, dense_strides

__all__ = ["append_in_place"]

Dims = tuple[Dim, ...]


def append_in_place(loop: Instruction, prefix: str) -> int:
    """Do it in the body of a Loop; returns for how many values.

    Args:
        loop: The instruction.
        prefix: Makes the names of symbols different from those of other loops.
    """
    (body,) = loop.bodies
    carried = loop.ints[0]
    assert isinstance(carried, int), "the number of carried values is known"
    done = 0
    for slot in range(carried):
        given, made = body.inputs[2 + slot], body.outputs[1 + slot]
        uses = Uses.of(body)
        number = uses.makers.get(made)
        if number is None or body.outputs.count(made) != 1 or given in body.outputs:
            continue
        if _append(body, uses, number, given, made, f"{prefix}{slot}"):
            done += 1
    return done


def _append(body: Module, uses: Uses, number: int, given: int, made: int, name: str) -> bool:
    instruction = body.instructions[number]
    if instruction.kernel != "concat" or instruction.inputs[0] != given or instruction.is_dynamic:
        return False
    old, new = body.registers[given], body.registers[made]
    axis = instruction.ints[0]
    if not isinstance(axis, int) or old.dims is None or new.dims is None or not old.is_sized:
        return False
    axis %= len(new.dims)
    parts = instruction.inputs[1:]
    if not new.is_dense or new.base != ABSENT or any(body.root(part) == given for part in parts):
        return False
    if any(body.registers[part].dims is None for part in parts):
        return False
    if _told_later(body) & set(symbols(new.dims[axis])):
        return False
    is_outermost = all(dim == 1 for dim in new.dims[:axis])
    # A body in the body takes what it captures for row-major.
    if not is_outermost and _captured(body) & {given, made}:
        return False
    room = "" if is_outermost else name
    roomy = (*new.dims[:axis], symbol(room) if room else new.dims[axis], *new.dims[axis + 1 :])
    strides = dense_strides(roomy)
    looks = {
        look: _moved(body.registers[look], of.dims, strides)
        for root, of in ((given, old), (made, new))
        for look in uses.looks.get(root, ())
        if of.dims is not None
    }
    if not is_outermost and not all(looks.values()):
        return False
    copies: list[Instruction] = []
    at: Dim = old.dims[axis]
    for part in parts:
        dims = body.registers[part].dims
        assert dims is not None, "looked at above"
        place = Register(new.dtype, dims, new.name, strides, given, at * strides[axis])
        copies.append(Instruction("copy", [part], [body.add(place)], nodes=instruction.nodes))
        at = at + dims[axis]
    old.strides = None if is_outermost else strides
    new.base, new.strides = given, strides
    for look, moved in looks.items():
        body.registers[look].base = given
        if moved and not is_outermost:
            body.registers[look].strides = moved
    body.growing.append(Growing(given, axis, new.dims[axis], room))
    body.instructions[number : number + 1] = copies
    return True


def _told_later(body: Module) -> set[str]:
    """Symbols that are not known yet when an iteration begins."""
    entry = {*body.inputs, *(inside for _, inside in body.captures)}
    return {d.symbol for d in body.definitions if body.root(d.register) not in entry}


def _captured(body: Module) -> set[int]:
    """Roots that bodies in the body read."""
    return {body.root(outside) for instruction in body.instructions for outside in instruction.captured}


def _moved(look: Register, dims: Dims, strides: Dims) -> Dims | None:
    """A look's strides where those of the memory become `strides`; None where that is not simply said.

    Each dim of the look must be one of the memory's, whole.
    """
    if look.offset != 0 or look.dims is None or look.strides is None:
        return None
    dense = dense_strides(dims)
    moved: list[Dim] = []
    for dim, stride in zip(look.dims, look.strides, strict=True):
        if dim == 1:
            moved.append(1)
            continue
        same = [i for i, d in enumerate(dims) if d == dim and dense[i] == stride and d != 1]
        if len(same) != 1:
            return None
        moved.append(strides[same[0]])
    return tuple(moved)
