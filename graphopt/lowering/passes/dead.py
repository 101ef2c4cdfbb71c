"""Instructions whose results nobody reads."""

from __future__ import annotations

from graphopt.lowering.program import ABSENT, Instruction, Module

__all__ = ["remove_dead"]

# They do something beside their results.
_ACTING = ("tap",)


def remove_dead(module: Module) -> None:
    """Remove instructions without a reader, captures that a body does not use, and definitions of neither."""
    live = {module.root(r) for r in module.outputs if r != ABSENT}
    live.update(module.root(d.register) for d in module.definitions)
    kept: list[Instruction] = []
    live.update(g.register for g in module.growing)
    for instruction in reversed(module.instructions):
        outputs = [o for o in instruction.outputs if o != ABSENT]
        if not any(module.root(o) in live for o in outputs) and instruction.kernel not in _ACTING:
            continue
        for body in instruction.bodies:
            remove_dead(body)
            live.update(module.root(outside) for outside, _ in body.captures)
        live.update(module.root(i) for i in instruction.inputs if i != ABSENT)
        kept.append(instruction)
    module.instructions = kept[::-1]
    module.captures = [(outside, inside) for outside, inside in module.captures if inside in live]
