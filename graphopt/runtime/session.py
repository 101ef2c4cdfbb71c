"""InferenceSession: a model, compiled for this machine."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from graphopt.errors import ExecutionError, ModelError, UsageError
from graphopt.runtime.arrays import Array, Result
from graphopt.runtime.binding import IOBinding
from graphopt.runtime.compiled_file import is_compiled_file, read_compiled
from graphopt.runtime.native import NativeEngine, is_built
from graphopt.runtime.options import RunOptions, Tap
from graphopt.runtime.settings import PRECISIONS, Precision
from graphopt.runtime.signature import Inputs, NodeArg

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from graphopt.runtime.interpreter import PythonEngine
    from graphopt.runtime.profile import InstructionTime

__all__ = ["InferenceSession"]


class InferenceSession:
    """Runs a model. One session may be used by several threads at once.

    Args:
        model: A file (.onnx, or what `graphopt compile` wrote), or a model in memory; it stays as it is.
        threads: How many threads work on one run.
        precision: "f32", "f16" (weights are stored so), "bf16" (dot products), "int8" (dynamic, row by row).
        optimize: Whether graphopt's passes go over the model first.
        keep: Names of values that a run's `tap` is told of, those of bodies as `loop_node:body/value`.
        mmap: Of a compiled file, whether weights stay in the file's mapping, shared between processes,
            instead of being read into memory of large pages.
        engine: "native", "python" (slow: one node at a time by the reference implementation), or "auto": the
            native one where it was built.

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
        keep: Sequence[str] = (),
        mmap: bool = False,
        engine: Literal["auto", "native", "python"] = "auto",
    ) -> None:
        if precision not in PRECISIONS:
            raise UsageError(f"there is no precision {precision!r}", hint=f"one of {', '.join(PRECISIONS)}")
        if threads < 1:
            raise UsageError(f"a run needs a thread, not {threads}")
        is_native = engine == "native" or (engine == "auto" and is_built())
        self._engine: NativeEngine | PythonEngine
        if is_native:
            self._open_native(model, threads, precision, optimize, keep, mmap)
        else:
            self._open_python(model, keep, is_wanted=engine == "python")
        self._takes = Inputs(self._inputs)

    def run(
        self,
        output_names: Sequence[str] | None,
        feeds: Mapping[str, object],
        run_options: RunOptions | None = None,
        *,
        tap: Tap | None = None,
    ) -> list[Result]:
        """Outputs by name (all of them where None), computed from inputs by name.

        Args:
            output_names: Which outputs, in which order.
            feeds: Arrays, or what numpy makes arrays of, and objects with `__dlpack__`.
            run_options: Limits of this run, and what it tells.
            tap: Short for `RunOptions(tap=...)`.

        Raises:
            ExecutionError: Inputs that do not fit the model, or an operator that can't run on them.
        """
        chosen = None if output_names is None else [self._number_of_output(name) for name in output_names]
        values = self._takes.engine_values({**self._defaults, **feeds} if self._defaults else feeds)
        results = self._engine.run(values, _options(run_options, tap))
        return results if chosen is None else [results[i] for i in chosen]

    def get_inputs(self) -> list[NodeArg]:
        """The inputs in the model's order; those that have a default among them."""
        return list(self._inputs)

    def get_outputs(self) -> list[NodeArg]:
        """The outputs in the model's order."""
        return list(self._outputs)

    def io_binding(self) -> IOBinding:
        """What inputs are read from and outputs written to, to be used by `run_with_iobinding`."""
        return IOBinding(self._takes, self._inputs, self._outputs)

    def run_with_iobinding(
        self, binding: IOBinding, run_options: RunOptions | None = None, *, tap: Tap | None = None
    ) -> None:
        """Run on bound inputs; outputs go where they are bound to, or to `binding.get_outputs()`.

        Raises:
            ExecutionError: As `run`; or an output that does not fit the memory given for it.
        """
        options = _options(run_options, tap)
        binding.take(self._engine.run(binding.values(self._defaults), options, binding.targets()))

    def times(self, feeds: Mapping[str, object], runs: int = 1) -> list[InstructionTime]:
        """What each instruction takes, summed over some runs after one that does not count.

        Raises:
            ExecutionError: As `run`; or the engine is the one in Python.
        """
        if not isinstance(self._engine, NativeEngine):
            raise ExecutionError("only the native engine measures its instructions")
        values = self._takes.engine_values({**self._defaults, **feeds})
        self._engine.run(values, RunOptions())
        self._engine.profile(True)
        try:
            for _ in range(runs):
                self._engine.run(values, RunOptions())
            return self._engine.times()
        finally:
            self._engine.profile(False)

    @property
    def input_names(self) -> tuple[str, ...]:
        """In the model's order."""
        return tuple(arg.name for arg in self._inputs)

    @property
    def output_names(self) -> tuple[str, ...]:
        """In the model's order."""
        return tuple(arg.name for arg in self._outputs)

    def _number_of_output(self, name: str) -> int:
        names = self.output_names
        if name not in names:
            raise ExecutionError(f"there is no output {name!r}; the model gives {', '.join(names)}")
        return names.index(name)

    def _open_native(
        self,
        model: str | Path | onnx.ModelProto | ir.Model,
        threads: int,
        precision: Precision,
        optimize: bool,
        keep: Sequence[str],
        mmap: bool,
    ) -> None:
        if isinstance(model, str | Path) and is_compiled_file(model):
            if keep or precision != "f32":
                raise UsageError(
                    f"{model} is compiled", hint="precision and kept values are chosen by `compile`"
                )
            made = read_compiled(model, is_mapped=mmap)
        else:
            from graphopt.runtime.compilation import compiled, program_of

            made = compiled(program_of(model, precision=precision, optimize=optimize, keep=keep))
        self._engine = NativeEngine(made, threads)
        self._inputs, self._outputs = made.inputs, made.outputs
        self._defaults: dict[str, Array] = dict(made.defaults)
        self.fallbacks = made.fallbacks

    def _open_python(
        self, model: str | Path | onnx.ModelProto | ir.Model, keep: Sequence[str], is_wanted: bool
    ) -> None:
        if isinstance(model, str | Path) and is_compiled_file(model):
            raise ModelError(f"{model}: a compiled model needs the native engine, which was not built")
        from graphopt.runtime.compilation import program_of, signature_of
        from graphopt.runtime.interpreter import PythonEngine

        if not is_wanted:
            warnings.warn(
                "graphopt was installed without its engine: models run slowly, one node at a time",
                RuntimeWarning,
                stacklevel=3,
            )
        program = program_of(model, keep=keep, is_plain=True)
        self._engine = PythonEngine(program)
        self._inputs, self._outputs = signature_of(program)
        self._defaults = dict(program.defaults)
        self.fallbacks = program.fallbacks


_DEFAULT_OPTIONS = RunOptions()


def _options(options: RunOptions | None, tap: Tap | None) -> RunOptions:
    options = options or _DEFAULT_OPTIONS
    if tap is None:
        return options
    return RunOptions(options.memory_limit_bytes, options.iteration_limit, tap)
