"""Merge element-wise instructions into programs that pass over memory once.

    before   %2 = elementwise %0 %1 {Add}      %3 = elementwise %2 {Sigmoid}      %4 = elementwise %2 %3 {Mul}
    after    %4 = elementwise %0 %1 {Add, Sigmoid, Mul}

A group ends in one instruction and takes in those whose results nobody reads but the group itself. All its
members have the same dims, so that nothing is computed twice; a result that is broadcast to larger dims stays
outside. The group runs where its last member stood.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from graphopt.ir.dims import Dim
from graphopt.lowering.elementwise_program import (
    KERNEL,
    ElementwiseProgram,
    Ref,
    Source,
    Step,
    decode,
    reachable,
)
from graphopt.lowering.program import ABSENT, Instruction, Module

__all__ = ["MAX_INPUTS", "MAX_SLOTS", "MAX_STEPS", "fuse_elementwise"]

# Blocks of all slots share 24 KiB of L1: with 24 slots of float32 a block still has 256 elements.
MAX_INPUTS = 8
MAX_SLOTS = 24
MAX_STEPS = 48

_OUTSIDE = -1


def fuse_elementwise(module: Module) -> int:
    """Merge what can be merged; returns how many instructions went away. Bodies are modules of their own."""
    readers = _readers(module)
    producers: dict[int, int] = {}
    for number, instruction in enumerate(module.instructions):
        if instruction.kernel == KERNEL and not instruction.is_dynamic:
            for output in instruction.outputs:
                if module.registers[output].base == ABSENT:
                    producers[output] = number
    gone: set[int] = set()
    for number in range(len(module.instructions) - 1, -1, -1):
        last = module.instructions[number]
        if number in gone or last.kernel != KERNEL or last.is_dynamic:
            continue
        group = _Group(module, [number])
        while group.grow(producers, readers):
            pass
        if len(group.members) > 1:
            module.instructions[number] = group.merged()
            gone.update(group.members[:-1])
    module.instructions = [i for n, i in enumerate(module.instructions) if n not in gone]
    return len(gone)


def _readers(module: Module) -> dict[int, set[int]]:
    """Which instructions read each register; `_OUTSIDE` where something else looks at its memory."""
    readers: dict[int, set[int]] = {}

    def look(register: int, reader: int) -> None:
        if register == ABSENT:
            return
        readers.setdefault(register, set()).add(reader)
        root = module.root(register)
        if root != register:
            readers.setdefault(root, set()).add(_OUTSIDE)

    for number, instruction in enumerate(module.instructions):
        for register in instruction.inputs:
            look(register, number)
        for register in instruction.outputs:
            if register != ABSENT and module.root(register) != register:
                look(register, _OUTSIDE)
        for outside in instruction.captured:
            look(outside, _OUTSIDE)
    for register in module.outputs:
        look(register, _OUTSIDE)
    for definition in module.definitions:
        look(definition.register, _OUTSIDE)
    return readers


@dataclass(slots=True)
class _Group:
    """Instructions that become one; `members` ascend, the last stays.

    Attributes:
        refused: Producers that do not fit.
        decoded: The members' programs.
    """

    module: Module
    members: list[int]
    refused: set[int] = field(default_factory=set)
    decoded: dict[int, ElementwiseProgram] = field(default_factory=dict)

    def grow(self, producers: dict[int, int], readers: dict[int, set[int]]) -> bool:
        """Take in the latest producer that fits."""
        instructions = self.module.instructions
        found = {
            producers[register]
            for member in self.members
            for register in instructions[member].inputs
            if register in producers
        }
        for number in sorted(found - set(self.members) - self.refused, reverse=True):
            inside = set(self.members)
            if all(readers.get(output, set()) <= inside for output in instructions[number].outputs):
                if self._has_dims_of(number) and self._fits(sorted([*self.members, number])):
                    self.members = sorted([*self.members, number])
                    return True
                self.refused.add(number)
        return False

    def _has_dims_of(self, number: int) -> bool:
        """Whether a member computes each element of a producer once."""
        registers, instructions = self.module.registers, self.module.instructions
        ours = registers[instructions[self.members[-1]].outputs[0]].dims
        theirs = registers[instructions[number].outputs[0]].dims
        if ours is None or theirs is None or len(theirs) > len(ours):
            return False
        extra = len(ours) - len(theirs)
        return ours[extra:] == theirs and all(_is_one(dim) for dim in ours[:extra])

    def _fits(self, members: Sequence[int]) -> bool:
        """Whether the merged program keeps the limits."""
        program, registers = self._program(members)
        return (
            len(registers) <= MAX_INPUTS and len(program.steps) <= MAX_STEPS and program.slots() <= MAX_SLOTS
        )

    def merged(self) -> Instruction:
        """The instruction that does all of it."""
        program, registers = self._program(self.members)
        parts = [self.module.instructions[number] for number in self.members]
        data, floats, ints = program.encode()
        return Instruction(
            KERNEL,
            registers,
            list(parts[-1].outputs),
            ints,
            floats,
            data,
            tuple(dict.fromkeys(name for part in parts for name in part.nodes)),
        )

    def _program(self, members: Sequence[int]) -> tuple[ElementwiseProgram, list[int]]:
        """The merged program and the registers that are its inputs."""
        merged = ElementwiseProgram(0)
        registers: list[int] = []
        known: dict[Step, Ref] = {}
        made: dict[int, Ref] = {}  # what a register holds that a member wrote
        results: list[Ref] = []
        for number in members:
            part = self.module.instructions[number]
            program = self.decoded.get(number)
            if program is None:
                program = decode(part.data, part.floats, part.ints, len(part.inputs), len(part.outputs))
                self.decoded[number] = program
            results = _append(merged, known, program, [_input(r, made, registers) for r in part.inputs])
            made.update(zip(part.outputs, results, strict=True))
        merged.inputs = len(registers)
        merged.outputs = [ref.number for ref in results]
        _drop_unused(merged)
        return merged, registers


def _is_one(dim: Dim) -> bool:
    return type(dim) is int and dim == 1


def _input(register: int, made: dict[int, Ref], registers: list[int]) -> Ref:
    if register in made:
        return made[register]
    if register not in registers:
        registers.append(register)
    return Ref(Source.INPUT, registers.index(register))


def _append(
    merged: ElementwiseProgram, known: dict[Step, Ref], program: ElementwiseProgram, inputs: Sequence[Ref]
) -> list[Ref]:
    """Append a program whose inputs are these values; the values of its outputs."""
    places: list[Ref] = []
    taken: set[Ref] = set()
    constants = [merged.constant(dtype, value) for dtype, value in program.constants]
    for number, step in enumerate(program.steps):
        sources = tuple(
            [
                inputs[ref.number]
                if ref.source == Source.INPUT
                else constants[ref.number]
                if ref.source == Source.CONSTANT
                else places[ref.number]
                for ref in step.sources
            ]
        )
        moved = Step(step.op, step.dtype, step.to, sources, step.immediates)
        is_output = number in program.outputs
        # Two outputs of one instruction may be equal: each keeps a step of its own.
        if moved not in known or (is_output and known[moved] in taken):
            merged.steps.append(moved)
            known[moved] = Ref(Source.STEP, len(merged.steps) - 1)
        places.append(known[moved])
        if is_output:
            taken.add(known[moved])
    return [places[number] for number in program.outputs]


def _drop_unused(program: ElementwiseProgram) -> None:
    """Remove steps that no output needs (results of a part that nobody reads)."""
    needed = sorted(reachable(program, program.outputs))
    place = {number: Ref(Source.STEP, k) for k, number in enumerate(needed)}
    program.steps = [
        Step(
            step.op,
            step.dtype,
            step.to,
            tuple([place[ref.number] if ref.source == Source.STEP else ref for ref in step.sources]),
            step.immediates,
        )
        for step in (program.steps[number] for number in needed)
    ]
    program.outputs = [place[number].number for number in program.outputs]
