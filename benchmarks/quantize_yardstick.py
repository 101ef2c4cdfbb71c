"""What a quantized recogniser still says: texts, error rates, logits, beside those of the float model.

A folder with `score.py` (functions `score(run, set, limit)` and `compare(a, b)`) is scored by that; any other
model is compared with its float self on random inputs.
"""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.runtime_engines import Engine

Feeds = dict[str, NDArray[Any]]
SETS = ("val", "val_hard")


@dataclass(frozen=True)
class Score:
    """Of one model on one set.

    Attributes:
        what: The set.
        errors: Character and sentence errors in percent, less those of the float model; None: not known.
        identical: Samples that are answered as the float model does.
        count: Samples.
        difference: Mean absolute difference of float outputs, up to the first other decision.
    """

    what: str
    errors: tuple[float, float] | None
    identical: int
    count: int
    difference: float


def scorer(folder: Path) -> ModuleType | None:
    """The scorer of a folder."""
    path = folder / "score.py"
    if not path.exists():
        return None
    spec = importlib.util.spec_from_file_location("recogniser_scorer", path)
    if spec is None or spec.loader is None:
        return None
    module = importlib.util.module_from_spec(spec)
    # Folders of models may be read-only, and are not ours.
    before, sys.dont_write_bytecode = sys.dont_write_bytecode, True
    try:
        spec.loader.exec_module(module)
    finally:
        sys.dont_write_bytecode = before
    return module


def unseen(folder: Path, count: int) -> list[Feeds]:
    """Inputs of the harder set of a folder.

    Raises:
        FileNotFoundError: It has no scorer.
    """
    module = scorer(folder)
    if module is None:
        raise FileNotFoundError(f"{folder}: there is no score.py")
    features, _ = module.load_set(SETS[-1])
    return [{"feats": x if x.ndim == 3 else x[None]} for x in features[:count]]


def by_scorer(module: ModuleType, engine: Engine, limit: int | None) -> dict[str, Any]:
    """What a model says of every set."""

    def run(feats: NDArray[Any]) -> Sequence[NDArray[Any]]:
        return engine({"feats": feats})

    return {name: module.score(run, name, limit) for name in SETS}


def compared(module: ModuleType, right: dict[str, Any], other: dict[str, Any]) -> list[Score]:
    """Scores of one model beside those of the float one."""
    found = []
    for name in SETS:
        a, b = other[name], right[name]
        same, _, mean = module.compare(a, b)
        errors = (a["cer"] - b["cer"], a["ser"] - b["ser"])
        found.append(Score(name, errors, same, len(b["said"]), mean))
    return found


def on_random(right: Engine, other: Engine, feeds: Sequence[Feeds]) -> Score:
    """A model beside the float one on inputs that mean nothing."""
    same, differences = 0, []
    for one in feeds:
        a, b = right(one), other(one)
        decided = [(x, y) for x, y in zip(a, b, strict=True) if x.dtype.kind != "f"]
        same += all(np.array_equal(x, y) for x, y in decided)
        differences += [
            float(np.abs(x - y).mean())
            for x, y in zip(a, b, strict=True)
            if x.dtype.kind == "f" and x.shape == y.shape and x.size
        ]
    return Score("random", None, same, len(feeds), float(np.mean(differences)) if differences else 0.0)


def cell(score: Score) -> str:
    """How a score is printed: changes of error rates, identical answers, mean difference."""
    errors = "" if score.errors is None else f"{score.errors[0]:+.2f} {score.errors[1]:+.1f}  "
    return f"{errors}{100 * score.identical / max(score.count, 1):5.1f} % {score.difference:.4f}"
