"""Inputs and outputs that stay bound from run to run: nothing is copied where types and layout fit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from graphopt.errors import ExecutionError
from graphopt.runtime.arrays import NAMES, Array, Result, number_of
from graphopt.runtime.signature import Inputs, NodeArg

__all__ = ["IOBinding"]


class IOBinding:
    """What a run reads and where it writes. Made by `InferenceSession.io_binding`."""

    def __init__(self, takes: Inputs, inputs: Sequence[NodeArg], outputs: Sequence[NodeArg]) -> None:
        self._takes = takes
        self._inputs = {arg.name: arg for arg in inputs}
        self._outputs = {arg.name: arg for arg in outputs}
        self._feeds: dict[str, object] = {}
        self._targets: dict[str, Array | None] = {}
        self._results: list[Result] = []

    def bind_input(self, name: str, value: object) -> None:
        """Read an input from this memory: an array, or anything with `__dlpack__`.

        A C-contiguous array of the input's type is looked at, not copied: what it holds when a run begins is
        what the run reads.
        """
        if name not in self._inputs:
            raise ExecutionError(f"there is no input {name!r}; the model takes {', '.join(self._inputs)}")
        self._feeds[name] = _looked_at(value)

    def bind_output(self, name: str, target: object = None) -> None:
        """Write an output to this memory; None: to memory of the engine's.

        Raises:
            ExecutionError: There is no such output, or the memory is read-only or of another type.
        """
        if name not in self._outputs:
            raise ExecutionError(f"there is no output {name!r}; the model gives {', '.join(self._outputs)}")
        self._targets[name] = (
            None if target is None else self._target(self._outputs[name], _looked_at(target))
        )

    def clear(self) -> None:
        """Forget all that is bound."""
        self._feeds.clear()
        self._targets.clear()
        self._results = []

    def get_outputs(self) -> list[Result]:
        """Bound outputs of the last run in the order of binding; memory that was given is the same array."""
        return self._results

    def values(self, defaults: dict[str, Array]) -> list[object]:
        """The inputs in the engine's form."""
        return self._takes.engine_values({**defaults, **self._feeds})

    def targets(self) -> list[Array | None]:
        """Memory for all outputs of the model, in its order."""
        return [self._targets.get(name) for name in self._outputs]

    def take(self, results: Sequence[Result]) -> None:
        """Keep what a run gave."""
        made = dict(zip(self._outputs, results, strict=True))
        self._results = []
        for name in self._targets or self._outputs:
            target = self._targets.get(name)
            self._results.append(made[name] if target is None else target)

    @staticmethod
    def _target(arg: NodeArg, target: object) -> Array:
        if not isinstance(target, np.ndarray):
            raise ExecutionError(
                f"output {arg.name!r}: only an array's memory can be written to", value=arg.name
            )
        if arg.dtype and number_of(target) != arg.dtype:
            raise ExecutionError(
                f"output {arg.name!r} is {arg}, the memory for it tensor({NAMES[number_of(target)]})",
                value=arg.name,
            )
        if not target.flags.writeable or not target.flags.c_contiguous:
            raise ExecutionError(f"output {arg.name!r}: the memory for it must be writable and C-contiguous")
        return target


def _looked_at(value: object) -> object:
    if isinstance(value, np.ndarray) or not hasattr(value, "__dlpack__"):
        return value
    return np.from_dlpack(value)
