"""The public names: one that comes or goes is a decision, made here and in the changelog."""

from __future__ import annotations

import importlib
import inspect

import pytest

import graphopt

PUBLIC = {
    "GraphoptError": "class",
    "MismatchError": "class",
    "ModelError": "class",
    "OutputError": "class",
    "Pass": "class",
    "Quantized": "class",
    "Result": "class",
    "Rule": "class",
    "UsageError": "class",
    "__version__": "str",
    "load": "function",
    "optimize": "function",
    "quantize": "function",
    "register": "function",
    "rule": "function",
    "save": "function",
}


def test_names() -> None:
    assert graphopt.__all__ == sorted(PUBLIC)
    assert dir(graphopt) == sorted(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_each_name_is_there_and_documented(name: str) -> None:
    found = getattr(graphopt, name)
    kinds = {"class": inspect.isclass, "function": inspect.isfunction, "str": lambda v: isinstance(v, str)}
    assert kinds[PUBLIC[name]](found)
    if PUBLIC[name] != "str":
        assert inspect.getdoc(found)


def test_star_import_gives_just_these() -> None:
    scope: dict[str, object] = {}
    exec("from graphopt import *", scope)
    assert set(scope) - {"__builtins__"} == set(PUBLIC)


def test_unknown_name() -> None:
    with pytest.raises(AttributeError, match="module 'graphopt' has no attribute 'optimise'"):
        _ = graphopt.optimise  # type: ignore[attr-defined]


def test_optimize_takes_the_documented_arguments() -> None:
    parameters = inspect.signature(graphopt.optimize).parameters
    assert next(iter(parameters)) == "model"
    assert {"target", "level", "passes", "skip", "opset", "shapes", "data", "verify"} <= set(parameters)
    assert all(p.kind is p.KEYWORD_ONLY for p in list(parameters.values())[1:])


def test_one_name_in_site_packages() -> None:
    assert importlib.import_module("graphopt.passes").__name__ == "graphopt.passes"
    assert importlib.import_module("graphopt.kernels").__name__ == "graphopt.kernels"
