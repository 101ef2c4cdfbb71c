"""Is a result right: checked, loaded, run beside the original at every size of its recipe.

    python -m benchmarks.judging ORIGINAL RESULT RECIPE      prints the judgement as JSON

Run as a process of its own: what a result does to the engine must not end the benchmark.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from benchmarks.counting import contents, dims_kept
from benchmarks.recipes import Recipe
from benchmarks.sessions import session

# By element type: relative to the value, and relative to the output's largest value. Rounding in a sum
# of thousands of terms reaches 1e-5 of the largest value in float32 and 1e-2 in float16.
TOLERANCE: Mapping[str, tuple[float, float]] = {
    "float16": (1e-2, 1e-2),
    "float32": (1e-3, 1e-4),
    "float64": (1e-6, 1e-7),
}


@dataclass(frozen=True, slots=True)
class Judgement:
    """Of one result.

    Attributes:
        operators: See `benchmarks.counting`.
        instructions: See `benchmarks.counting`.
        standard: Only standard operators, as the declared opset defines them.
        checker: What onnx.checker objects to, or "".
        why: Why it is not equal, or "".
        error: Largest difference, relative to the output's largest value.
    """

    operators: int
    instructions: int
    standard: bool
    checker: str
    loads: bool
    equal: bool
    dynamic: bool
    error: float
    why: str

    @property
    def works(self) -> bool:
        """Whether somebody could use it in place of the original."""
        return self.loads and self.equal and self.dynamic


def judge(original: Path, result: Path, recipe: Recipe) -> Judgement:
    """Compare a result with its original."""
    found = contents(result)
    try:
        onnx.checker.check_model(str(result))
        objection = ""
    except Exception as error:
        objection = _first_line(error)
    loads, error_size, why = _compare(original, result, recipe)
    return Judgement(
        operators=found.operators,
        instructions=found.instructions,
        standard=found.is_standard and not objection,
        checker=objection,
        loads=loads,
        equal=not why,
        dynamic=dims_kept(original, result),
        error=error_size,
        why=why,
    )


def _compare(original: Path, result: Path, recipe: Recipe) -> tuple[bool, float, str]:
    """(loads, largest error, why not equal)."""
    reference = session(original, "ORT_DISABLE_ALL")
    names = [o.name for o in reference.get_outputs()]
    try:
        candidate = session(result, "ORT_DISABLE_ALL")
    except Exception as error:
        return False, float("inf"), _first_line(error)
    largest, why = 0.0, ""
    for size in recipe.sizes:
        feeds = recipe.feeds(size, seed=1)
        wanted = reference.run(names, feeds)
        try:
            got = candidate.run(names, feeds)
        except Exception as error:
            why = why or f"{dict(size)}: {_first_line(error)}"
            continue
        for name, a, b in zip(names, wanted, got, strict=True):
            same, error_size = difference(a, b, {**TOLERANCE, **recipe.tolerance})
            largest = max(largest, error_size)
            if not same:
                why = why or f"{dict(size)}: output {name!r} differs by {error_size:.2g}"
    return True, largest, why


def difference(wanted: Any, got: Any, tolerance: Mapping[str, tuple[float, float]]) -> tuple[bool, float]:
    """Whether two answers are equal within tolerance, and their error relative to the largest value."""
    if isinstance(wanted, list):
        if not isinstance(got, list) or len(wanted) != len(got):
            return False, float("inf")
        parts = [difference(a, b, tolerance) for a, b in zip(wanted, got, strict=True)]
        return all(same for same, _ in parts), max((error for _, error in parts), default=0.0)
    a, b = np.asarray(wanted), np.asarray(got)
    if a.shape != b.shape or a.dtype != b.dtype:
        return False, float("inf")
    if a.dtype.kind != "f":
        return bool(np.array_equal(a, b)), float(np.mean(a != b)) if a.size else 0.0
    x, y = a.astype(np.float64), b.astype(np.float64)
    special = ~np.isfinite(x) | ~np.isfinite(y)
    if not np.array_equal(x[special], y[special], equal_nan=True):
        return False, float("inf")
    x, y = x[~special], y[~special]
    scale = float(np.abs(x).max(initial=0.0))
    relative, scaled = tolerance[str(a.dtype)]
    off = np.abs(x - y)
    return bool((off <= relative * np.abs(x) + scaled * scale).all()), float(off.max(initial=0.0)) / max(
        scale, 1e-12
    )


def _first_line(error: Exception) -> str:
    return next(iter(str(error).strip().splitlines()), type(error).__name__)[:300]


if __name__ == "__main__":
    before, after, how = (Path(argument) for argument in sys.argv[1:])
    print(json.dumps(asdict(judge(before, after, Recipe.read(how)))))
