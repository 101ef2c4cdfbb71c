"""InferenceSession: a model, compiled for this machine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np

from graphopt.errors import ExecutionError
from graphopt.runtime.arrays import Result, arrays_of, to_engine
from graphopt.runtime.reference import Reference

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from graphopt.lowering.program import Program

__all__ = ["InferenceSession"]

# Older operators are run, not rewritten.
OLDEST_OPTIMIZED = 7

Precision = Literal["f32", "f16", "bf16", "int8"]


class InferenceSession:
    """Runs a model.

    Args:
        model: A file, or a model in memory.
        threads: How many threads work on one run.
        precision: "f32", "f16" (weights are stored so), "bf16" (dot products), "int8" (dynamic, row by row).
        optimize: Whether graphopt's passes go over the model first.

    Raises:
        ModelError: The model can't be taken.
    """

    def __init__(
        self,
        model: str | Path | onnx.ModelProto | ir.Model,
        *,
        threads: int = 1,
        precision: Precision = "f32",
        optimize: bool = True,
    ) -> None:
        program = _compiled(model, precision, optimize)
        self.input_names = program.input_names
        self.output_names = program.output_names
        self.fallbacks = program.fallbacks
        self._engine = _engine_of(program, threads)
        self._reference = Reference()
        self._defaults: dict[str, object] = dict(program.defaults)

    def run(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, object]
    ) -> list[Result]:
        """Outputs by name (all of them where None), computed from inputs by name.

        Raises:
            ExecutionError: Inputs that do not fit the model, or an operator that can't run on them.
        """
        feeds = {**self._defaults, **feeds}
        if missing := [name for name in self.input_names if name not in feeds]:
            raise ExecutionError(f"input {missing[0]!r} is missing; the model takes {', '.join(self.input_names)}")
        if unknown := [name for name in feeds if name not in self.input_names]:
            raise ExecutionError(f"there is no input {unknown[0]!r}; the model takes {', '.join(self.input_names)}")
        given = [to_engine(feeds[name]) for name in self.input_names]
        results = arrays_of(self._engine.run(given, self._reference, None))
        if output_names is None:
            return results
        return [results[self.output_names.index(name)] for name in output_names]


def _compiled(model: str | Path | onnx.ModelProto | ir.Model, precision: str, optimize: bool) -> Program:
    from graphopt.compiler import optimize as optimized
    from graphopt.lowering.lower import lower

    source = _loaded(model)
    if optimize and source.graph.opset_imports.get("", 0) >= OLDEST_OPTIMIZED:
        return lower(optimized(source, target="graphopt", verify=False).model, precision=precision)
    return lower(source.clone(), precision=precision)


def _loaded(model: str | Path | onnx.ModelProto | ir.Model) -> ir.Model:
    """The model; the engine takes opsets that no pass knows."""
    from graphopt.ir.load import from_proto, load

    if isinstance(model, str | Path):
        return load(model, oldest_opset=1)
    import onnx

    return from_proto(model, oldest_opset=1) if isinstance(model, onnx.ModelProto) else model


def _engine_of(program: Program, threads: int) -> object:
    from graphopt.kernels import _engine
    from graphopt.lowering.encode import encode

    tables = encode(program)
    constants = [
        ([_plain(a, d) for a, d in zip(c.arrays, c.dtypes, strict=True)], list(c.dtypes), c.packer, list(c.ints))
        for c in program.constants
    ]
    return _engine.Engine(tables.words, tables.texts, tables.blobs, constants, threads, 0, 0)


def _plain(array: np.ndarray, dtype: int) -> object:
    given = to_engine(array)
    assert isinstance(given, tuple)
    return given if dtype == 8 else given[0]
