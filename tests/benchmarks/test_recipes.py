"""Recipes feed what they describe."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.recipes import Recipe, evaluate


def fed(size: dict[str, int] | None = None, seed: int = 0, **spec: Any) -> np.ndarray[Any, Any]:
    given = {"name": "x", "dtype": "float32", "shape": ["n"]} | spec
    return Recipe((given,), ()).feeds(size or {"n": 1000}, seed)["x"]


def test_normal() -> None:
    x = fed(kind="normal", mean=3, std=0.1)
    assert x.dtype == np.float32 and abs(x.mean() - 3) < 0.02 and abs(x.std() - 0.1) < 0.02


def test_uniform_and_ints_stay_within_their_bounds() -> None:
    x = fed(kind="uniform", low=-1, high=2)
    assert -1 <= x.min() < -0.9 and 1.9 < x.max() < 2
    ids = fed(kind="ints", low=2, high="n", dtype="int64", size={"n": 5})
    assert ids.dtype == np.int64 and set(ids) <= {2, 3, 4}


def test_const_is_a_scalar_of_any_type() -> None:
    assert fed(kind="const", shape=[], value="n", dtype="int32", size={"n": 7}) == np.int32(7)
    flag = fed(kind="const", shape=[], value="n", dtype="bool", size={"n": 1})
    assert flag.dtype == np.bool_ and flag.shape == () and flag


def test_prefix_mask() -> None:
    mask = fed(kind="prefix_mask", shape=["b", "n"], dtype="int64", size={"b": 4, "n": 6})
    assert mask[0].tolist() == [1] * 6
    assert all((np.diff(row) <= 0).all() and row[0] == 1 for row in mask)
    assert len({tuple(row) for row in mask}) > 1


def test_range_starts_where_it_is_told() -> None:
    x = fed(kind="range", shape=[2, "n"], start="past", dtype="int64", size={"n": 3, "past": 10})
    assert x.tolist() == [[10, 11, 12]] * 2


def test_zero_sized() -> None:
    for kind in ("normal", "prefix_mask", "range"):
        assert fed(kind=kind, shape=["n", 0], size={"n": 2}).shape == (2, 0)


def test_seeds_and_inputs_differ_and_repeat() -> None:
    assert (fed(kind="normal") == fed(kind="normal")).all()
    assert (fed(kind="normal") != fed(kind="normal", seed=1)).any()
    recipe = Recipe(tuple({"name": n, "dtype": "float32", "shape": [9], "kind": "normal"} for n in "ab"), ())
    feeds = recipe.feeds({})
    assert (feeds["a"] != feeds["b"]).any()


def test_half_precision() -> None:
    assert fed(kind="normal", dtype="float16").dtype == np.float16
    assert fed(kind="normal", dtype="bfloat16").dtype.name == "bfloat16"


def test_unknown_kind() -> None:
    with pytest.raises(ValueError, match="input 'x' is of unknown kind 'noise'"):
        fed(kind="noise")


def test_expressions() -> None:
    assert evaluate("past+seq*2", {"past": 3, "seq": 4}) == 11
    assert evaluate(0.5, {}) == 0.5
    for bad in ("unknown", "seq.bit_length()", "__import__('os')", "-seq"):
        with pytest.raises(ValueError, match="can't be evaluated over seq"):
            evaluate(bad, {"seq": 1})


def test_read(tmp_path: Path) -> None:
    path = tmp_path / "m.json"
    path.write_text(
        json.dumps({"inputs": [], "sizes": [{"n": 1}], "tolerance": {"float32": [0.5, 1]}, "more": 1})
    )
    recipe = Recipe.read(path)
    assert recipe.sizes == ({"n": 1},) and recipe.tolerance == {"float32": (0.5, 1.0)}
