"""graphopt: an ONNX graph compiler whose output can be trusted without looking at it.

The names below are imported when first used: `import graphopt` alone costs a few milliseconds.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from graphopt.compiler import Result, optimize
    from graphopt.errors import GraphoptError, MismatchError, ModelError, OutputError, UsageError
    from graphopt.ir.load import load
    from graphopt.ir.save import save
    from graphopt.quantizer import Quantized, quantize
    from graphopt.rewriting.passes import Pass
    from graphopt.rewriting.registry import register
    from graphopt.rewriting.rule import Rule, rule

__version__ = "0.1.0"

__all__ = [
    "GraphoptError",
    "MismatchError",
    "ModelError",
    "OutputError",
    "Pass",
    "Quantized",
    "Result",
    "Rule",
    "UsageError",
    "__version__",
    "load",
    "optimize",
    "quantize",
    "register",
    "rule",
    "save",
]

_HOME = {
    "GraphoptError": "graphopt.errors",
    "MismatchError": "graphopt.errors",
    "ModelError": "graphopt.errors",
    "OutputError": "graphopt.errors",
    "Pass": "graphopt.rewriting",
    "Quantized": "graphopt.quantizer",
    "Result": "graphopt.compiler",
    "Rule": "graphopt.rewriting",
    "UsageError": "graphopt.errors",
    "load": "graphopt.ir.load",
    "optimize": "graphopt.compiler",
    "quantize": "graphopt.quantizer",
    "register": "graphopt.rewriting",
    "rule": "graphopt.rewriting",
    "save": "graphopt.ir.save",
}


def __getattr__(name: str) -> object:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOME:
        raise AttributeError(f"module 'graphopt' has no attribute {name!r}")
    from importlib import import_module

    if _HOME[name] != "graphopt.errors":
        import_module("graphopt.ir")  # before anything that imports onnx_ir: it spares a start 0.2 s
    value: object = getattr(import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
