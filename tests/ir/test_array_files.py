from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.ir.array_files import read_arrays


def test_arrays_come_by_name(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    np.savez(path, x=np.arange(3), y=np.array("text"))
    found = read_arrays(path)
    assert sorted(found) == ["x", "y"]
    np.testing.assert_array_equal(found["x"], np.arange(3))
    assert found["y"] == "text"


def test_an_array_without_a_name_takes_the_one_that_goes_without_saying(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.arange(3))
    np.testing.assert_array_equal(read_arrays(path, ["x"])["x"], np.arange(3))
    with pytest.raises(UsageError, match="one array without a name"):
        read_arrays(path)
    with pytest.raises(UsageError, match="one array, and the model has 2 inputs"):
        read_arrays(path, ["x", "y"])


def _of_objects(path: Path) -> None:
    np.savez(path, x=np.array([{}]))


def _cut_short(path: Path) -> None:
    np.savez(path, x=np.arange(1000))
    path.write_bytes(path.read_bytes()[:500])


def _corrupt(path: Path) -> None:
    np.savez_compressed(path, x=np.random.default_rng(0).integers(0, 1 << 60, 1000))
    content = bytearray(path.read_bytes())
    content[200:300] = bytes(100)
    path.write_bytes(content)


def _empty(path: Path) -> None:
    path.touch()


def _missing(path: Path) -> None:
    path.unlink(missing_ok=True)


def test_a_text_is_not_called_a_pickle(tmp_path: Path) -> None:
    path = tmp_path / "x.npz"
    path.write_text("hello")
    with pytest.raises(UsageError, match=r"not a file of arrays \(neither \.npz nor \.npy\)"):
        read_arrays(path)


@pytest.mark.parametrize("make", [_of_objects, _cut_short, _corrupt, _empty, _missing])
def test_what_is_no_file_of_arrays_is_said_in_one_line(tmp_path: Path, make: Callable[[Path], None]) -> None:
    path = tmp_path / "x.npz"
    make(path)
    with pytest.raises(UsageError, match=r"x\.npz: not a file of arrays"):
        read_arrays(path)
