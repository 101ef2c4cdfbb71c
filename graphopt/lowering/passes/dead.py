"""Instructions whose results nobody reads.

    before   %2, where U = %2 dim 0 = compress %0 %1      %3 [U] = exp %2      %4 = neg %0      -> %4
    after    %4 = neg %0      -> %4

What tells a size is kept for the size alone, where something that is kept has it.
"""

from __future__ import annotations

from dataclasses import replace

from graphopt.lowering.program import ABSENT, Instruction, Module
from graphopt.lowering.schedule import used_symbols

__all__ = ["remove_dead"]

# They do something beside their results.
_ACTING = ("tap",)


def remove_dead(module: Module) -> None:
    """Remove instructions without a reader, captures that a body does not use, and definitions of neither."""
    for instruction in module.instructions:
        for body in instruction.bodies:
            remove_dead(body)
    wanted: set[str] = set()
    while True:
        kept = _kept(module, wanted)
        found = used_symbols(kept)
        if found <= wanted:
            break
        wanted |= found
    module.instructions, module.captures, module.definitions = (
        kept.instructions,
        kept.captures,
        kept.definitions,
    )


def _kept(module: Module, wanted: set[str]) -> Module:
    """The module without what neither its outputs nor the symbols wanted need."""
    definitions = [d for d in module.definitions if d.symbol in wanted]
    live = {module.root(r) for r in module.outputs if r != ABSENT}
    live.update(module.root(d.register) for d in definitions)
    live.update(g.register for g in module.growing)
    instructions: list[Instruction] = []
    for instruction in reversed(module.instructions):
        outputs = [o for o in instruction.outputs if o != ABSENT]
        if not any(module.root(o) in live for o in outputs) and instruction.kernel not in _ACTING:
            continue
        live.update(map(module.root, instruction.captured))
        live.update(module.root(i) for i in instruction.inputs if i != ABSENT)
        instructions.append(instruction)
    captures = [(outside, inside) for outside, inside in module.captures if inside in live]
    return replace(module, instructions=instructions[::-1], captures=captures, definitions=definitions)
