"""Passes over the instructions of a program, in their order."""

from __future__ import annotations

from graphopt.lowering.elementwise_fusion import fuse_elementwise
from graphopt.lowering.passes.caches import append_in_place
from graphopt.lowering.passes.dead import remove_dead
from graphopt.lowering.passes.epilogues import fuse_epilogues
from graphopt.lowering.passes.layouts import settle_layouts
from graphopt.lowering.passes.quantization import fuse_quantization, quantize_planes
from graphopt.lowering.passes.repeated import merge_repeated
from graphopt.lowering.passes.rows import pad_rows
from graphopt.lowering.passes.slices import write_in_place
from graphopt.lowering.passes.unused import drop_unused
from graphopt.lowering.program import Program

__all__ = ["finish"]


def finish(program: Program) -> None:
    """Bring a program into the form that the engine runs."""
    remove_dead(program.main)
    modules = list(program.main.walk())
    for module in modules:
        merge_repeated(module)
        # Before, so that products take what follows them; after, for what was two instructions (Silu).
        fuse_epilogues(module)
        fuse_elementwise(module)
        fuse_epilogues(module)
        fuse_quantization(module)
    loops = 0
    for module in modules:
        for instruction in module.instructions:
            if instruction.kernel == "loop":
                loops += 1
                append_in_place(instruction, f"room#{loops}.")
    for module in modules:
        settle_layouts(module)
        write_in_place(module)
        quantize_planes(module)
        pad_rows(module)
    remove_dead(program.main)
    drop_unused(program)
