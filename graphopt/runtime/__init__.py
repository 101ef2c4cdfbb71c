"""graphopt's own engine: compile a model once, run it many times."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphopt.runtime.binding import IOBinding
from graphopt.runtime.options import RunOptions
from graphopt.runtime.session import InferenceSession
from graphopt.runtime.signature import NodeArg

if TYPE_CHECKING:
    from graphopt.lowering.program import Program

__all__ = ["IOBinding", "InferenceSession", "NodeArg", "Program", "RunOptions"]


def __getattr__(name: str) -> object:
    """Program knows symbolic dims, whose import opening a compiled file does without."""
    if name != "Program":
        raise AttributeError(f"module 'graphopt.runtime' has no attribute {name!r}")
    from graphopt.lowering.program import Program

    return Program
