"""Which function makes instructions of which operator."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import onnx_ir as ir

if TYPE_CHECKING:
    from graphopt.lowering.builder import Builder

__all__ = ["NotLowered", "find", "lowers"]


@dataclass(frozen=True, slots=True)
class NotLowered:
    """There is no kernel for this use of the operator; its function body or the reference runs it."""

    reason: str


Lowering = Callable[["Builder", ir.Node], NotLowered | None]

_LOWERINGS: dict[tuple[str, str], Lowering] = {}


def lowers(*op_types: str, domain: str = "") -> Callable[[Lowering], Lowering]:
    """The decorated function makes instructions of nodes of these operators."""

    def register(function: Lowering) -> Lowering:
        for op_type in op_types:
            assert (domain, op_type) not in _LOWERINGS, f"{op_type} is lowered twice"
            _LOWERINGS[domain, op_type] = function
        return function

    return register


def find(domain: str, op_type: str) -> Lowering | None:
    """The function for an operator; None where there is none."""
    _import_families()
    return _LOWERINGS.get((domain, op_type))


@cache
def _import_families() -> None:
    from graphopt.lowering import operators

    for module in pkgutil.iter_modules(operators.__path__):
        importlib.import_module(f"{operators.__name__}.{module.name}")
