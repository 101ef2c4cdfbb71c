"""Files that take the place of others, and what none may take the place of."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from graphopt.ir.replacing import Replacement, write_whole


def test_a_file_takes_the_place_of_another(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_bytes(b"old")
    write_whole(str(path), b"new")
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["a.json"]


@pytest.mark.parametrize("by_link", [False, True])
def test_a_pipe_stays_what_it_is(tmp_path: Path, by_link: bool) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    target = pipe
    if by_link:
        target = tmp_path / "link"
        target.symlink_to(pipe)
    with pytest.raises(OSError, match="is not a regular file"):
        write_whole(str(target), b"content")
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert target.is_symlink() == by_link
    assert len(os.listdir(tmp_path)) == 1 + by_link


def test_what_is_not_committed_leaves_nothing(tmp_path: Path) -> None:
    with Replacement() as files:
        files.create(str(tmp_path / "a"))
    assert os.listdir(tmp_path) == []
