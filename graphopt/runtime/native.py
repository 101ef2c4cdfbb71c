"""The native engine with its callbacks in Python's terms."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from graphopt.runtime.arrays import STRING, Array, Result, carried, from_engine, number_of, typed
from graphopt.runtime.compiled import Compiled
from graphopt.runtime.options import RunOptions, Tap
from graphopt.runtime.reference import Reference

if TYPE_CHECKING:
    from graphopt.runtime.profile import InstructionTime

__all__ = ["NativeEngine", "is_built"]


def is_built() -> bool:
    """Whether graphopt was installed with its engine."""
    try:
        from graphopt.kernels import _engine  # noqa: F401
    except ImportError:
        return False
    return True


class NativeEngine:
    """Runs a compiled program; several threads may do so at once."""

    def __init__(self, compiled: Compiled, threads: int) -> None:
        from graphopt.kernels import _engine

        constants = [constant.for_engine() for constant in compiled.constants]
        self._engine = _engine.Engine(
            compiled.words, compiled.texts, compiled.blobs, constants, threads, 0, 0
        )
        self._reference = Reference()

    def run(
        self, values: list[object], options: RunOptions, targets: Sequence[Array | None] | None = None
    ) -> list[Result]:
        """All outputs of values in the engine's form; None in place of those that went to a target."""
        tap = None if options.tap is None else _shown(options.tap)
        if targets is None and not options.has_limits:
            results = self._engine.run(values, self._reference, tap)
        else:
            results = self._engine.run(
                values,
                self._reference,
                tap,
                targets=None if targets is None else [None if t is None else _target(t) for t in targets],
                limit_bytes=options.memory_limit_bytes,
                limit_iterations=options.iteration_limit,
            )
        return [from_engine(result) for result in results]

    def profile(self, is_on: bool) -> None:
        """Begin to measure anew, or stop."""
        self._engine.profile(is_on)

    def times(self) -> list[InstructionTime]:
        """What each instruction took since measuring began."""
        from graphopt.runtime.profile import InstructionTime

        return [InstructionTime(*row) for module in self._engine.times() for row in module]

    @property
    def packed_bytes(self) -> int:
        """Memory of packed constants."""
        return int(self._engine.packed_bytes)

    @property
    def arena_bytes(self) -> int:
        """Memory of intermediate results, of all runs at a time that there were."""
        return int(self._engine.arena_bytes)


def _target(array: Array) -> object:
    number = number_of(array)
    return carried(array, number), number


def _shown(tap: Tap) -> Callable[[str, Sequence[int], object, int], None]:
    """The engine's call of a tap: the view is read-only."""

    def call(name: str, iteration: Sequence[int], value: object, number: int) -> None:
        if number in (0, STRING):
            shown = from_engine(value)
        else:
            assert hasattr(value, "view")
            array: Array = typed(value, number)  # type: ignore[arg-type]
            array.flags.writeable = False
            shown = array
        tap(name, tuple(iteration), shown)

    return call
