"""A model becomes what an engine runs: all that knows graphs is imported here, when a model is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graphopt.runtime.compiled import Compiled, CompiledConstant
from graphopt.runtime.signature import NodeArg

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from graphopt.lowering.program import Program

__all__ = ["Precision", "compiled", "program_of", "signature_of"]

# Older operators are run, not rewritten.
OLDEST_OPTIMIZED = 7

Precision = Literal["f32", "f16", "bf16", "int8"]


def program_of(
    model: str | Path | onnx.ModelProto | ir.Model,
    *,
    precision: Precision = "f32",
    optimize: bool = True,
    keep: Sequence[str] = (),
    is_plain: bool = False,
) -> Program:
    """The Program of a model, which stays as it is.

    Args:
        model: A file, or a model in memory.
        precision: The form of constant weights.
        optimize: Whether graphopt's passes go over it first.
        keep: Values that taps are told of.
        is_plain: Every node as an instruction of the reference implementation.

    Raises:
        ModelError: It can't be taken.
    """
    from graphopt import optimize as optimized  # the public face hands it down
    from graphopt.lowering.lower import lower
    from graphopt.lowering.taps import insert_taps

    source = _loaded(model)
    is_ours = isinstance(model, str | Path)
    if keep:
        source, is_ours = (source if is_ours else source.clone()), True
        insert_taps(source, keep)
    if optimize and not is_plain and source.graph.opset_imports.get("", 0) >= OLDEST_OPTIMIZED:
        source, is_ours = optimized(source, target="graphopt", verify=False).model, True
    return lower(source if is_ours else source.clone(), precision=precision, is_plain=is_plain)


def compiled(program: Program) -> Compiled:
    """A program in the engine's form."""
    from graphopt.lowering.encode import encode

    tables = encode(program)
    return Compiled(
        tables.words,
        tables.texts,
        tables.blobs,
        [CompiledConstant(c.arrays, c.dtypes, c.packer, c.ints) for c in program.constants],
        *signature_of(program),
        defaults=program.defaults,
        fallbacks=program.fallbacks,
    )


def signature_of(program: Program) -> tuple[tuple[NodeArg, ...], tuple[NodeArg, ...]]:
    """The inputs and the outputs of a program."""
    return tuple(
        tuple(NodeArg(*arg) for arg in zip(names, types, dims, strict=True))
        for names, types, dims in (
            (program.input_names, program.input_types, program.input_dims),
            (program.output_names, program.output_types, program.output_dims),
        )
    )  # type: ignore[return-value]


def _loaded(model: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    """The model; the engine takes opsets that no pass knows."""
    from graphopt.ir.load import from_proto, load

    if isinstance(model, str | Path):
        return load(model, oldest_opset=1)
    import onnx

    return from_proto(model, oldest_opset=1) if isinstance(model, onnx.ModelProto) else model
