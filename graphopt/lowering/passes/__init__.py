"""Passes over the instructions of a program, in their order."""

from __future__ import annotations

from collections.abc import Iterator

from graphopt.lowering.elementwise_fusion import fuse_elementwise
from graphopt.lowering.elementwise_fusion import fuse_elementwise
from graphopt.lowering.passes.caches import append_in_place
from graphopt.lowering.passes.dead import remove_dead
from graphopt.lowering.passes.layouts import settle_layouts
from graphopt.lowering.passes.residuals import fuse_residuals
from graphopt.lowering.passes.slices import write_in_place
from graphopt.lowering.program import Module, Program

__all__ = ["finish", "modules_of"]


def finish(program: Program) -> None:
    """Bring a program into the form that the engine runs."""
    remove_dead(program.main)
    for module in modules_of(program.main):
        fuse_elementwise(module)
        settle_layouts(module)
    remove_dead(program.main)


def modules_of(module: Module) -> Iterator[Module]:
    """A module and all bodies in it, outermost first."""
    yield module
    for instruction in module.instructions:
        for body in instruction.bodies:
            yield from modules_of(body)
