"""What one run may do, and what is told of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from graphopt.runtime.arrays import Result

__all__ = ["RunOptions", "Tap"]

# name of the kept value, iterations of the loops around it (outermost first), its contents
Tap = Callable[[str, tuple[int, ...], Result], object]


@dataclass(frozen=True, slots=True)
class RunOptions:
    """Options of one run.

    Attributes:
        memory_limit_bytes: Of values and intermediate results, each; 0: none. Weights do not count.
        iteration_limit: Of any one loop; 0: none.
        tap: Called with each kept value as it is made. The array is read-only and valid during the call.
    """

    memory_limit_bytes: int = 0
    iteration_limit: int = 0
    tap: Tap | None = None

    @property
    def has_limits(self) -> bool:
        """Whether anything is limited."""
        return self.memory_limit_bytes > 0 or self.iteration_limit > 0
