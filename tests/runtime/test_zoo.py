"""Real models on the engine: what onnxruntime computes without optimizations, before and after `optimize`.

A slice runs in the default suite, all of it by `make conformance`; both need the folders that GRAPHOPT_ZOO and
GRAPHOPT_ASR name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest

from benchmarks.judging import TOLERANCE, difference
from benchmarks.recipes import Recipe
from benchmarks.sessions import session
from graphopt.errors import GraphoptError
from graphopt.runtime import InferenceSession

# Every so many models, from the first that is small.
SLICE = 9
FRAMES = (1, 7, 60, 131)

# Which of two candidates within rounding of each other comes first, and suppresses others, is a matter of the
# order of sums: of these the scores are compared, in descending order.
DETECTORS = {"yolo_nms_ts12": "det_scores"}

# Empty tensors that onnxruntime computes with as well.
EMPTY: Mapping[str, Sequence[Mapping[str, int]]] = {
    "gpt2_past_ts13": [{"batch": 1, "seq": 3, "past": 0}],
    "greedy_loop_ts16": [{"batch": 1, "source": 4, "steps": 0}],
    "kv_loop_ts13": [{"source": 0}],
    "llama_ts17": [{"batch": 1, "seq": 3, "past": 0}],
    "mistral_dyn23_raw": [{"batch": 1, "seq": 3, "past": 0}],
    "t5_decoder_ts17": [{"batch": 1, "past": 0, "source": 5}],
}


@pytest.fixture
def asr_model(asr: Path) -> Path:
    return asr / "asr.onnx"


def check(path: Path, recipe: Recipe, optimize: bool) -> None:
    """At the sizes of the recipe; with each of their names at 0 there is an answer or an error."""
    reference = session(path, "ORT_DISABLE_ALL")
    ours = InferenceSession(path, optimize=optimize)
    names = [output.name for output in reference.get_outputs()]
    assert list(ours.output_names) == names
    empty = EMPTY.get(path.stem, ())
    wrong: list[str] = []
    for size in [*recipe.sizes, *empty]:
        feeds = recipe.feeds(size, seed=1)
        found = ours.run(names, feeds)
        for name, a, b in zip(names, reference.run(names, feeds), found, strict=True):
            if path.stem in DETECTORS:
                if name != DETECTORS[path.stem]:
                    continue
                a, b = np.sort(a), np.sort(b)
            same, error = difference(a, b, {**TOLERANCE, **recipe.tolerance})
            if not same:
                wrong.append(f"{dict(size)}: output {name!r} differs by {error:.2g}")
    for size in without(recipe):
        # onnxruntime refuses many of these, and does not live through some.
        if size not in empty:
            with contextlib.suppress(ValueError, GraphoptError):
                ours.run(None, recipe.feeds(size, seed=1))
    assert not wrong, "\n".join(wrong)


def without(recipe: Recipe) -> Iterator[Mapping[str, int]]:
    """The first size with one of its names at 0, and with all."""
    first = recipe.sizes[0]
    for name in first:
        yield {**first, name: 0}
    yield dict.fromkeys(first, 0)


def check_models(paths: list[Path], optimize: bool) -> None:
    wrong: list[str] = []
    for path in paths:
        try:
            check(path, Recipe.read(path.with_suffix(".json")), optimize)
        except Exception as error:
            wrong.append(f"{path.stem}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


def models(folder: Path) -> list[Path]:
    found = sorted(folder.glob("*.onnx"))
    assert found, f"no models in {folder}"
    return found


@pytest.mark.parametrize("optimize", [False, True])
def test_a_slice(zoo: Path, optimize: bool) -> None:
    check_models(models(zoo)[4::SLICE], optimize)


@pytest.mark.conformance
@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("part", [part for part in range(SLICE) if part != 4])
def test_the_rest(zoo: Path, part: int, optimize: bool) -> None:
    check_models(models(zoo)[part::SLICE], optimize)


@pytest.mark.parametrize("optimize", [False, True])
def test_the_recogniser(asr_model: Path, optimize: bool) -> None:
    inputs = ({"name": "feats", "dtype": "float32", "shape": [1, "frames", 80], "kind": "normal"},)
    check(asr_model, Recipe(inputs, tuple({"frames": n} for n in FRAMES)), optimize)
