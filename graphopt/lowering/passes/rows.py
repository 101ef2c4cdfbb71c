"""Rows that would lie a multiple of 4 KiB apart are padded.

    before   %3 [N, 1024] = gemm %0 @w      %4 = gemm %3 @v
    after    %5 [N, 1040]      %3 in %5 = gemm %0 @w      %4 = gemm %3 @v

Such rows fall into the same few sets of the caches, and a tile of twelve of them pushes its own lines out.
"""

from __future__ import annotations

from graphopt.ir.dims import Dim, product
from graphopt.lowering.kernels import Layout, traits
from graphopt.lowering.passes.uses import Uses
from graphopt.lowering.program import ABSENT, Instruction, Module, Register, dense_strides

__all__ = ["pad_rows"]

_CONFLICT, _LINE = 4096, 64  # bytes
_SIZES = {1: 4, 10: 2, 16: 2}  # of floats, by ONNX's numbers of types
_STRIDED = (Layout.ROWS, Layout.ANY)


def pad_rows(module: Module) -> int:
    """Pad results that products read, where all who touch them take rows apart; returns how many."""
    uses = Uses.of(module)
    padded = 0
    for maker in module.instructions:
        if maker.is_dynamic or maker.bodies:
            continue
        for place, register in enumerate(maker.outputs):
            if register == ABSENT or traits(maker.kernel).output(place) not in _STRIDED:
                continue
            padding = _padding(module.registers[register])
            if padding and register not in uses.kept and _is_read_as_rows(uses, register):
                _pad(module, register, padding)
                padded += 1
    return padded


def _padding(register: Register) -> int:
    """Elements that a row lacks; 0: none."""
    size = _SIZES.get(register.dtype)
    if size is None or not register.dims or not register.is_dense or register.base != ABSENT:
        return 0
    row, rows = register.dims[-1], product(register.dims[:-1])
    if not isinstance(row, int) or row == 0 or row * size % _CONFLICT or rows == 1:
        return 0
    return _LINE // size


def _is_read_as_rows(uses: Uses, register: int) -> bool:
    """Whether a product takes it apart into rows, and nobody minds the gaps."""
    if uses.looks.get(register) or register in uses.kept:
        return False
    readers = [uses.module.instructions[number] for number in uses.readers.get(register, ())]
    if any(reader.is_dynamic or reader.bodies for reader in readers):
        return False
    places = [(reader, place) for reader in readers for place, r in enumerate(reader.inputs) if r == register]
    return all(traits(reader.kernel).input(place) in _STRIDED for reader, place in places) and any(
        _is_product(reader) and place == 0 for reader, place in places
    )


def _is_product(instruction: Instruction) -> bool:
    return instruction.kernel == "matmul" or instruction.kernel.startswith("gemm")


def _pad(module: Module, register: int, padding: int) -> None:
    of = module.registers[register]
    assert of.dims is not None, "a register whose rows are padded has dims"
    wide: tuple[Dim, ...] = (*of.dims[:-1], of.dims[-1] + padding)
    of.base = module.add(Register(of.dtype, wide, of.name))
    of.strides = dense_strides(wide)
