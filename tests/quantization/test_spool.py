"""Samples that come once are gone over as often as wanted, and nothing of them remains."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from graphopt.quantization.spool import repeatable

Sample = dict[str, np.ndarray]


def samples(asked: list[int]) -> Iterator[Sample]:
    for i in range(4):
        asked.append(i)
        yield {"file": np.full((i, 2), i, np.float32), "a/b": np.array(["text", i], object)}


def test_every_iteration_is_the_same() -> None:
    asked: list[int] = []
    data = repeatable(samples(asked))
    assert [feeds["file"].shape for feeds, _ in zip(data, range(2), strict=False)] == [(0, 2), (1, 2)]
    assert len(asked) <= 3
    for _ in range(2):
        found = list(data)
        assert [feeds["file"].tolist() for feeds in found] == [[[i, i]] * i for i in range(4)]
        assert found[3]["a/b"].tolist() == ["text", 3]
    assert asked == [0, 1, 2, 3]


def test_two_iterations_at_once() -> None:
    data = repeatable(samples([]))
    one, two = iter(data), iter(data)
    seen = [int(next(i)["file"].size) for i in (one, two, two, one, two, one)]
    assert seen == [0, 0, 2, 2, 4, 4]


def test_narrow_types_stay() -> None:
    data = repeatable(iter([{"x": np.ones(3, ml_dtypes.bfloat16)}]))
    list(data)
    assert next(iter(data))["x"].dtype == ml_dtypes.bfloat16


def test_nothing_remains(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    data = repeatable(samples([]))
    list(data)
    assert list(tmp_path.rglob("*"))
    del data
    assert not list(tmp_path.iterdir())


def test_what_can_be_gone_over_again_is_not_kept(tmp_path: Path) -> None:
    for data in (tmp_path, "folder", [{"x": np.ones(1)}]):
        assert repeatable(data) is data
