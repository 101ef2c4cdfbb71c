"""Who makes and who reads the registers of a module."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from graphopt.lowering.program import ABSENT, Instruction, Module

__all__ = ["Uses"]


@dataclass(slots=True)
class Uses:
    """A module's registers by instruction.

    Attributes:
        makers: The instruction that writes a register, by register.
        readers: Numbers of the instructions that read its memory, by root.
        kept: Roots that live beyond the module's instructions: its inputs, outputs, what bodies capture.
        looks: Registers that look at a root's memory, by root.
    """

    module: Module
    makers: dict[int, int] = field(default_factory=dict)
    readers: dict[int, list[int]] = field(default_factory=dict)
    kept: set[int] = field(default_factory=set)
    looks: dict[int, list[int]] = field(default_factory=dict)

    @staticmethod
    def of(module: Module) -> Uses:
        """The uses of a module as it is."""
        uses = Uses(module)
        for number, register in enumerate(module.registers):
            if register.base != ABSENT:
                uses.looks.setdefault(module.root(number), []).append(number)
        for number, instruction in enumerate(module.instructions):
            for given in instruction.inputs:
                if given != ABSENT:
                    uses.readers.setdefault(module.root(given), []).append(number)
            for made in instruction.outputs:
                if made != ABSENT:
                    uses.makers[made] = number
            uses.kept.update(map(module.root, instruction.captured))
        uses.kept.update(module.root(r) for r in (*module.inputs, *module.outputs) if r != ABSENT)
        uses.kept.update(inside for _, inside in module.captures)
        uses.kept.update(module.root(d.register) for d in module.definitions)
        return uses

    def maker(self, register: int) -> Instruction | None:
        """The instruction that writes a register."""
        number = self.makers.get(register)
        return None if number is None else self.module.instructions[number]

    def is_private(self, register: int) -> bool:
        """Whether a register has memory of its own that nothing but one instruction reads, directly."""
        of = self.module.registers[register]
        return (
            of.base == ABSENT
            and of.constant == ABSENT
            and register not in self.kept
            and len(self.readers.get(register, ())) == 1
            and not any(True for _ in self._read_looks(register))
        )

    def _read_looks(self, register: int) -> Iterator[int]:
        looks = self.looks.get(register, ())
        for number in self.readers.get(register, ()):
            yield from (i for i in self.module.instructions[number].inputs if i in looks)
