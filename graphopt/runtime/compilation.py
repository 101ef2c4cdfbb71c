"""A model becomes what an engine runs: all that knows graphs is imported here, when a model is compiled."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from graphopt.runtime.arrays import Array
from graphopt.runtime.compiled import Compiled, CompiledConstant
from graphopt.runtime.settings import Precision
from graphopt.runtime.signature import NodeArg

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from graphopt.lowering.program import Program

__all__ = ["compiled", "optimized_model", "program_of", "signature_of"]

# Older operators are run, not rewritten.
OLDEST_OPTIMIZED = 7


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
    from graphopt.lowering.lower import lower

    made = optimized_model(model, optimize=optimize and not is_plain, keep=keep)
    return lower(made.clone() if made is model else made, precision=precision, is_plain=is_plain)


def optimized_model(
    model: str | Path | onnx.ModelProto | ir.Model, *, optimize: bool = True, keep: Sequence[str] = ()
) -> ir.Model:
    """The model as it is lowered: with a reader of each value to keep, and optimized for our engine.

    It is the model itself where nothing is changed.
    """
    from graphopt import optimize as optimized  # the public face hands it down
    from graphopt.lowering.taps import insert_taps

    source = _loaded(model)
    if keep:
        source = source.clone() if source is model else source
        insert_taps(source, keep)
    if optimize and source.graph.opset_imports.get("", 0) >= OLDEST_OPTIMIZED:
        return optimized(source, target="graphopt", verify=False).model
    return source


def compiled(program: Program) -> Compiled:
    """A program in the engine's form."""
    from graphopt.lowering.encode import encode

    tables = encode(program)
    return Compiled(
        tables.words,
        tables.texts,
        tables.blobs,
        [
            CompiledConstant(c.arrays if c.packer else _owned(c.arrays), c.dtypes, c.packer, c.ints)
            for c in program.constants
        ],
        *signature_of(program),
        defaults=program.defaults,
        fallbacks=program.fallbacks,
    )


def _owned(arrays: tuple[Array, ...]) -> tuple[Array, ...]:
    """Arrays that do not keep a whole file in memory."""
    return tuple([array if array.base is None else array.copy() for array in arrays])


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
