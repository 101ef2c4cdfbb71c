"""How a session is opened by commands and their child processes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from graphopt.runtime.session import InferenceSession

__all__ = ["PRECISIONS", "Precision", "Settings"]

Precision = Literal["f32", "f16", "bf16", "int8"]
PRECISIONS: tuple[Precision, ...] = ("f32", "f16", "bf16", "int8")


@dataclass(frozen=True, slots=True)
class Settings:
    """Arguments of a session.

    Attributes:
        mmap: Whether a compiled file's weights stay in its mapping.
    """

    threads: int = 1
    precision: Precision = "f32"
    optimize: bool = True
    mmap: bool = False

    def session(self, path: Path) -> InferenceSession:
        """A session of a file."""
        from graphopt.runtime.session import InferenceSession

        return InferenceSession(
            path, threads=self.threads, precision=self.precision, optimize=self.optimize, mmap=self.mmap
        )
