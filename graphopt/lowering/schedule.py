"""When memory is used: a module's instructions in segments, its registers local to one or kept between them.

A segment is a run of instructions whose sizes are all known when it begins; the engine binds it once for
each set of sizes. What computes sizes while it runs, and what the engine does itself (control flow,
sequences, calls into Python), stands alone between segments.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from graphopt.ir.dims import Dim, Expr, symbols
from graphopt.lowering.program import ABSENT, Definition, Instruction, Module

__all__ = ["Schedule", "Segment", "is_boundary", "schedule", "used_symbols"]

# What the engine runs itself.
_ENGINE = ("if", "loop", "scan", "reference", "tap")


@dataclass(slots=True)
class Segment:
    """Instructions first .. first+count.

    Attributes:
        is_boundary: One instruction that computes sizes, or that the engine runs itself.
        definitions: Symbols that are told when it has run.
        dead: Registers kept between segments that nobody reads after it.
    """

    first: int
    count: int
    is_boundary: bool
    definitions: list[Definition] = field(default_factory=list)
    dead: list[int] = field(default_factory=list)


@dataclass(slots=True)
class Schedule:
    """A module in segments.

    Attributes:
        entry: Definitions from the module's inputs.
        local: Whether a register's memory is needed within one segment only.
    """

    segments: list[Segment]
    entry: list[Definition]
    local: list[bool]


def is_boundary(instruction: Instruction) -> bool:
    """Whether an instruction stands alone between segments."""
    kernel = instruction.kernel
    return instruction.is_dynamic or kernel in _ENGINE or kernel.startswith(("sequence.", "optional."))


def used_symbols(module: Module) -> set[str]:
    """The symbols in sizes and attributes of what a module and its bodies run."""
    found: set[str] = set()

    def look(dims: Iterable[Dim]) -> None:
        for dim in dims:
            if type(dim) is Expr:
                found.update(symbols(dim))

    for number in _touched(module):
        register = module.registers[number]
        look(register.dims or ())
        look(register.strides or ())
        look((register.offset,))
    for growing in module.growing:
        look((growing.length,))
    for definition in module.definitions:
        look((definition.weight, definition.rest))
    for instruction in module.instructions:
        look(instruction.ints)
        for body in instruction.bodies:
            found |= used_symbols(body)
    return found


def _touched(module: Module) -> set[int]:
    """Registers that the module reads or makes, and those whose memory they look at."""
    found = {*module.inputs, *module.outputs, *(inside for _, inside in module.captures)}
    for instruction in module.instructions:
        found.update(instruction.inputs, instruction.outputs, instruction.captured)
    found.discard(ABSENT)
    return found | {module.root(number) for number in found}


def schedule(module: Module, used: set[str]) -> Schedule:
    """Cut a module's instructions into segments."""
    told: dict[int, list[Definition]] = {}
    entry: list[Definition] = []
    inputs = {*module.inputs, *(inside for _, inside in module.captures)}
    for definition in module.definitions:
        if definition.symbol not in used:
            continue
        if module.root(definition.register) in inputs:
            entry.append(definition)
        else:
            told.setdefault(module.root(definition.register), []).append(definition)
    segments: list[Segment] = []
    is_open = False
    for i, instruction in enumerate(module.instructions):
        if is_boundary(instruction):
            segments.append(Segment(i, 1, True))
            is_open = False
        elif is_open:
            segments[-1].count += 1
        else:
            segments.append(Segment(i, 1, False))
            is_open = True
        for output in instruction.outputs:
            for definition in told.pop(module.root(output), ()) if output != ABSENT else ():
                segments[-1].definitions.append(definition)
                is_open = False
    return Schedule(segments, entry, _local(module, segments))


def _local(module: Module, segments: list[Segment]) -> list[bool]:
    """Which registers live within one segment; notes in the segments which others die there."""
    home: dict[int, int] = {}
    last: dict[int, int] = {}
    kept = {module.root(r) for r in (*module.inputs, *module.outputs) if r != ABSENT}
    kept.update(inside for _, inside in module.captures)
    shared = set(kept)
    for number, segment in enumerate(segments):
        for instruction in module.instructions[segment.first : segment.first + segment.count]:
            for register in (*instruction.inputs, *instruction.outputs, *instruction.captured):
                if register == ABSENT or module.registers[register].constant != ABSENT:
                    continue
                root = module.root(register)
                if segment.is_boundary or home.setdefault(root, number) != number:
                    shared.add(root)
                home.setdefault(root, number)
                last[root] = number
        shared.update(module.root(d.register) for d in segment.definitions)
    for root, number in last.items():
        if root in shared and root not in kept:
            segments[number].dead.append(root)
    return [module.root(r) not in shared for r in range(len(module.registers))]
