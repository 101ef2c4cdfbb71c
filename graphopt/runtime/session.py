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
        self._input_names = program.input_names
        self._output_names = program.output_names
        self._engine = _engine_of(program, threads)
        self._reference = Reference()

    def run(
        self, output_names: Sequence[str] | None, feeds: Mapping[str, object]
    ) -> list[Result]:
        """Outputs by name (all of them where None), computed from inputs by name.

        Raises:
            ExecutionError: Inputs that do not fit the model, or an operator that can't run on them.
        """
        if missing := [name for name in self._input_names if name not in feeds]:
            raise ExecutionError(f"input {missing[0]!r} is missing; the model takes {', '.join(self._input_names)}")
        if unknown := [name for name in feeds if name not in self._input_names]:
            raise ExecutionError(f"there is no input {unknown[0]!r}; the model takes {', '.join(self._input_names)}")
        given = [to_engine(feeds[name]) for name in self._input_names]
        results = arrays_of(self._engine.run(given, self._reference, None))
        if output_names is None:
            return results
        return [results[self._output_names.index(name)] for name in output_names]


def _compiled(model: str | Path | onnx.ModelProto | ir.Model, precision: str, optimize: bool) -> Program:
    import graphopt
    from graphopt.ir.load import from_proto, load
    from graphopt.lowering.lower import lower

    if optimize:
        result = graphopt.optimize(model, target="graphopt", verify=False)
        source = result.model
    elif isinstance(model, str | Path):
        source = load(model)
    else:
        import onnx

        source = from_proto(model) if isinstance(model, onnx.ModelProto) else model.clone()
    return lower(source, precision=precision)


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
