"""Let onnx_ir import without sympy, which takes 0.2 s of every start and serves only arithmetic on its dims.

Our own dims (`graphopt.ir.dims`) do that arithmetic. While onnx_ir is imported for the first time, a stand-in
takes sympy's place; what onnx_ir kept of it imports the real one on first use. `sys.modules` keeps nothing.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType


class _Name:
    """A function of sympy by name, found when it is called."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __call__(self, *args: object, **kwargs: object) -> object:
        return getattr(importlib.import_module("sympy"), self._name)(*args, **kwargs)


class _StandIn(ModuleType):
    """sympy, as long as nobody needs it."""

    importing = True

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Name(name) if self.importing else getattr(importlib.import_module("sympy"), name)


def import_onnx_ir() -> None:
    """Import onnx_ir, without sympy if neither is there yet."""
    if "onnx_ir" in sys.modules or "sympy" in sys.modules:
        return
    stand_in = _StandIn("sympy")
    sys.modules["sympy"] = stand_in
    try:
        importlib.import_module("onnx_ir")
    finally:
        stand_in.importing = False
        if sys.modules.get("sympy") is stand_in:
            del sys.modules["sympy"]
