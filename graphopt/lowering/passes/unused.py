"""Registers and constants that no instruction needs any more.

A run keeps a value for each register, and a file holds every constant: what fusion left behind costs both.
"""

from __future__ import annotations

from dataclasses import replace

from graphopt.lowering.program import ABSENT, Module, Program

__all__ = ["drop_unused"]


def drop_unused(program: Program) -> None:
    """Remove them and number the others anew, in their order. The last pass."""
    _drop_registers(program.main)
    held = [r for m in program.main.walk() for r in m.registers if r.constant != ABSENT]
    used = {register.constant for register in held}
    numbers = {old: new for new, old in enumerate(sorted(used))}
    program.constants[:] = [program.constants[old] for old in numbers]
    for register in held:
        register.constant = numbers[register.constant]


def _drop_registers(module: Module) -> None:
    used = {*module.inputs, *module.outputs, *(inside for _, inside in module.captures)}
    used.update(definition.register for definition in module.definitions)
    used.update(growing.register for growing in module.growing)
    for instruction in module.instructions:
        used.update(instruction.inputs, instruction.outputs, instruction.captured)
    used.discard(ABSENT)
    for number in list(used):
        while (number := module.registers[number].base) != ABSENT:
            used.add(number)
    to = {old: new for new, old in enumerate(sorted(used))}
    to[ABSENT] = ABSENT
    for body in {id(b): b for i in module.instructions for b in i.bodies}.values():
        body.captures = [(to[outside], inside) for outside, inside in body.captures]
        _drop_registers(body)
    module.registers = [module.registers[old] for old in sorted(used)]
    for register in module.registers:
        register.base = to[register.base]
    module.inputs = [to[r] for r in module.inputs]
    module.outputs = [to[r] for r in module.outputs]
    module.captures = [(outside, to[inside]) for outside, inside in module.captures]
    module.definitions = [replace(d, register=to[d.register]) for d in module.definitions]
    module.growing = [replace(g, register=to[g.register]) for g in module.growing]
    for instruction in module.instructions:
        instruction.inputs = [to[r] for r in instruction.inputs]
        instruction.outputs = [to[r] for r in instruction.outputs]
