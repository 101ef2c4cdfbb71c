"""Movement operators whose sizes are inputs, against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from tests.kernels.movements import SIZES, call, numbered

INT64 = np.int64


def ints(*numbers: int, dtype: type = INT64) -> np.ndarray:
    return np.array(numbers, dtype)


def run(name: str, *inputs: np.ndarray | None, ints: tuple[int, ...] = ()) -> np.ndarray:
    assert inputs[0] is not None
    return call(name, inputs, [(inputs[0].dtype, None)], ints=ints)[0]


def strided(x: np.ndarray) -> np.ndarray:
    """The same contents, with room between the elements."""
    room = np.zeros([2 * d for d in x.shape], x.dtype)
    view = room[tuple(slice(None, None, 2) for _ in x.shape)]
    view[...] = x
    return view


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("target", [(24,), (4, -1), (0, 0, 2, 2), (-1, 1, 1), (2, 3, 4), (0, -1)])
def test_reshape(dtype: str, target: tuple[int, ...]) -> None:
    x = numbered((2, 3, 4), dtype)
    wanted = tuple(x.shape[i] if d == 0 else d for i, d in enumerate(target))
    assert np.array_equal(run("reshape", x, ints(*target)), x.reshape(wanted))
    assert np.array_equal(run("reshape", strided(x), ints(*target)), x.reshape(wanted))


def test_reshape_of_nothing() -> None:
    x = numbered((0, 3), "float32")
    assert run("reshape", x, ints(3, 0), ints=(1,)).shape == (3, 0)
    assert run("reshape", numbered((1, 1), "float32"), np.zeros(0, INT64)).shape == ()
    with pytest.raises(ExecutionError, match="inferred beside a dim of 0"):
        run("reshape", x, ints(0, -1))


def test_reshape_says_what_does_not_fit() -> None:
    with pytest.raises(ExecutionError, match=r"\[2,3\] can't be reshaped to \[4,1\]"):
        run("reshape", numbered((2, 3), "float32"), ints(4, -1))


def test_squeeze_unsqueeze_flatten() -> None:
    x = numbered((1, 3, 1, 2), "int16")
    assert run("squeeze", x).shape == (3, 2)
    assert run("squeeze", x, ints(-2)).shape == (1, 3, 2)
    assert run("unsqueeze", x, ints(-1, 0)).shape == (1, 1, 3, 1, 2, 1)
    assert [run("flatten", x, ints=(axis,)).shape for axis in (0, 2, 4, -1)] == [
        (1, 6),
        (3, 2),
        (6, 1),
        (3, 2),
    ]
    with pytest.raises(ExecutionError, match="axis 1 of"):
        run("squeeze", x, ints(1))
    with pytest.raises(ExecutionError, match="axis 9 of rank 6"):
        run("unsqueeze", x, ints(9, 0))


@pytest.mark.parametrize("dtype", SIZES)
def test_transpose_expand_tile(dtype: str) -> None:
    x = strided(numbered((2, 1, 5), dtype))
    assert np.array_equal(run("transpose", x), x.T)
    assert np.array_equal(run("transpose", x, ints=(1, 2, 0)), x.transpose(1, 2, 0))
    assert np.array_equal(run("expand", x, ints(4, 1, 3, 1)), np.broadcast_to(x, (4, 2, 3, 5)))
    assert np.array_equal(run("expand", x, ints(5)), x)
    assert np.array_equal(run("tile", x, ints(3, 2, 4)), np.tile(x, (3, 2, 4)))
    assert run("tile", x, ints(3, 0, 4)).shape == (6, 0, 20)
    with pytest.raises(ExecutionError, match=r"dim 5 of \[2,1,5\] can't be expanded to 4"):
        run("expand", x, ints(4))


@given(st.data())
def test_tile_of_any_rank(data: st.DataObject) -> None:
    dims = data.draw(st.lists(st.integers(0, 4), max_size=8))
    repeats = [data.draw(st.integers(0, 2)) for _ in dims]
    x = numbered(dims, data.draw(st.sampled_from(SIZES)))
    assert np.array_equal(run("tile", x, np.array(repeats, INT64)), np.tile(x, repeats) if dims else x)


def to_space(x: np.ndarray, n: int, mode: str) -> np.ndarray:
    b, c, h, w = x.shape
    cut = (b, c // (n * n), n, n, h, w) if mode == "CRD" else (b, n, n, c // (n * n), h, w)
    perm = (0, 1, 4, 2, 5, 3) if mode == "CRD" else (0, 3, 4, 1, 5, 2)
    return x.reshape(cut).transpose(perm).reshape(b, c // (n * n), h * n, w * n)


@pytest.mark.parametrize("dtype", SIZES)
@pytest.mark.parametrize("n", [1, 2, 3])
def test_blocks(dtype: str, n: int) -> None:
    deep = strided(numbered((2, 3 * n * n, 4, 5), dtype))
    for mode in ("DCR", "CRD"):
        wide = to_space(deep, n, mode)
        depth_first = int(mode == "CRD")
        assert np.array_equal(run("depth_to_space", deep, ints=(n, depth_first)), wide)
        assert np.array_equal(run("space_to_depth", wide, ints=(n, depth_first)), deep)


@given(st.data())
def test_slice(data: st.DataObject) -> None:
    dims = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=5))
    x = numbered(dims, data.draw(st.sampled_from(SIZES)))
    axes = data.draw(st.lists(st.integers(0, len(dims) - 1), unique=True))
    far = st.one_of(st.integers(-8, 8), st.sampled_from([2**63 - 1, -(2**63), 2**31 - 1]))
    starts, ends = ([data.draw(far) for _ in axes] for _ in range(2))
    steps = [data.draw(st.sampled_from([1, 2, 3, -1, -2, 2**63 - 1, -(2**63)])) for _ in axes]
    wanted = [slice(None)] * len(dims)
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        # Where the specification and numpy differ: backwards, a start before the first element is the first.
        first = 0 if step < 0 and start < -dims[axis] else start
        wanted[axis] = slice(first, end, step)
    spelled = [axis - data.draw(st.sampled_from([0, len(dims)])) for axis in axes]
    out = run("slice", x, *(np.array(a, INT64) for a in (starts, ends, spelled, steps)))
    assert np.array_equal(out, x[tuple(wanted)])


def test_slice_without_axes_and_steps() -> None:
    x = strided(numbered((4, 5), "float32"))
    assert np.array_equal(
        run("slice", x, ints(1, -3, dtype=np.int32), ints(9, 4, dtype=np.int32)), x[1:9, -3:4]
    )
    with pytest.raises(ExecutionError, match="step along axis 1 is 0"):
        run("slice", x, ints(0), ints(9), ints(1), ints(0))


@pytest.mark.parametrize("dtype", SIZES)
def test_split(dtype: str) -> None:
    x = strided(numbered((3, 7), dtype))
    parts = call("split", [x, ints(2, 0, 5)], [(dtype, None)] * 3, ints=[-1])
    assert all(np.array_equal(a, b) for a, b in zip(parts, (x[:, :2], x[:, 2:2], x[:, 2:]), strict=True))
    parts = call("split", [x], [(dtype, None)] * 3, ints=[1])
    assert [part.shape[1] for part in parts] == [3, 3, 1]
    with pytest.raises(ExecutionError, match=r"axis 1 of \[3,7\] is split into 6"):
        call("split", [x, ints(1, 5)], [(dtype, None)] * 2, ints=[1])
