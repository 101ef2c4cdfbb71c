"""How to feed a model: the recipe that lies beside it as `NAME.json`.

    {"inputs": [{"name": "ids", "dtype": "int64", "shape": ["batch", "past+seq"], "kind": "ints",
                 "low": 0, "high": 1000}, ...],
     "sizes": [{"batch": 1, "seq": 7, "past": 0}, ...],
     "tolerance": {"float32": [0.05, 0.05]}}

A dim is a number or an expression over the names of a size. Kinds of inputs:

    normal       mean (0) and std (1)
    uniform      low <= value < high
    ints         low <= value < high, whole numbers
    const        value
    prefix_mask  ones, then zeros along the last axis; the first row is all ones
    range        start (0), start + 1, ... along the last axis
"""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

Size = Mapping[str, int]
Number = int | float | str
Array = NDArray[Any]

_OPERATIONS: dict[type[ast.operator], Callable[[int, int], int]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}


@dataclass(frozen=True, slots=True)
class Recipe:
    """The inputs of one model and the sizes to feed it at.

    Attributes:
        tolerance: By element type, what replaces the default: relative to the value, relative to the
            output's largest value.
    """

    inputs: tuple[Mapping[str, Any], ...]
    sizes: tuple[Size, ...]
    tolerance: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    @staticmethod
    def read(path: Path) -> Recipe:
        """Read a recipe file."""
        content = json.loads(path.read_text(encoding="utf-8"))
        tolerance = {dtype: (float(a), float(b)) for dtype, (a, b) in content.get("tolerance", {}).items()}
        return Recipe(tuple(content["inputs"]), tuple(content["sizes"]), tolerance)

    def feeds(self, size: Size, seed: int = 0) -> dict[str, Array]:
        """Arrays for every input at one size; the same for the same seed."""
        return {
            spec["name"]: _array(spec, size, np.random.default_rng([seed, position]))
            for position, spec in enumerate(self.inputs)
        }


def evaluate(expression: Number, size: Size) -> float | int:
    """A number, or an expression of + - * // % over the names of a size.

    Raises:
        ValueError: If the expression has anything else in it.
    """
    if not isinstance(expression, str):
        return expression

    def value(node: ast.expr) -> int:
        match node:
            case ast.Constant(value=int(number)):
                return number
            case ast.Name(id=name) if name in size:
                return size[name]
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATIONS:
                return _OPERATIONS[type(op)](value(left), value(right))
        raise ValueError(f"recipe: {expression!r} can't be evaluated over {', '.join(size)}")

    return value(ast.parse(expression, mode="eval").body)


def _array(spec: Mapping[str, Any], size: Size, rng: np.random.Generator) -> Array:
    shape = tuple(int(evaluate(dim, size)) for dim in spec["shape"])
    name = spec["dtype"]
    dtype = np.dtype(getattr(ml_dtypes, name, name))

    def number(key: str, default: float = 0) -> float | int:
        return evaluate(spec.get(key, default), size)

    values: Array
    match spec["kind"]:
        case "normal":
            values = rng.standard_normal(shape) * number("std", 1) + number("mean")
        case "uniform":
            values = rng.uniform(number("low"), number("high"), shape)
        case "ints":
            values = rng.integers(int(number("low")), int(number("high")), shape)
        case "const":
            values = np.full(shape, number("value"))
        case "prefix_mask":
            values = _prefix_mask(shape)
        case "range":
            values = np.broadcast_to(np.arange(shape[-1]) + number("start"), shape)
        case kind:
            raise ValueError(f"recipe: input {spec['name']!r} is of unknown kind {kind!r}")
    return np.array(values, dtype).reshape(shape)


def _prefix_mask(shape: tuple[int, ...]) -> Array:
    width = shape[-1]
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    shorter_by = np.arange(rows) % max(1, width // 2)
    return (np.arange(width) < np.maximum(1, width - shorter_by)[:, None]).reshape(shape)
