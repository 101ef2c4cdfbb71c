"""Padding against numpy."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from tests.kernels.movements import SIZES, call, numbered

MODES = ("constant", "reflect", "edge", "wrap")


def padded(
    x: np.ndarray, begins: list[int], ends: list[int], mode: str, value: np.ndarray | None
) -> np.ndarray:
    """numpy's pad, after a crop where pads are negative."""
    kept = x[tuple(slice(max(-b, 0), d + min(e, 0)) for b, e, d in zip(begins, ends, x.shape, strict=True))]
    room = [(max(b, 0), max(e, 0)) for b, e in zip(begins, ends, strict=True)]
    if not room:
        return x
    return np.pad(kept, room, mode, **({"constant_values": value} if mode == "constant" else {}))  # type: ignore[call-overload]


@given(st.data())
def test_pad(data: st.DataObject) -> None:
    mode = data.draw(st.sampled_from(MODES))
    dims = data.draw(st.lists(st.integers(0 if mode == "constant" else 2, 7), max_size=5))
    x = numbered(dims, data.draw(st.sampled_from(SIZES)))
    begins = [data.draw(st.integers(-min(d // 2, 1), 9)) for d in dims]
    ends = [data.draw(st.integers(-((d - 1) // 2) if d else 0, 9)) for d in dims]
    if mode != "constant":
        # One element is reflected and wrapped as it is copied.
        begins = [
            b if d + min(b, 0) + min(e, 0) > 0 else 0 for b, e, d in zip(begins, ends, dims, strict=True)
        ]
    value = np.array(7, x.dtype)
    wanted = padded(x, begins, ends, mode, value)
    number, threads = MODES.index(mode), data.draw(st.sampled_from([1, 2]))
    known = [number, *begins, *ends]
    (out,) = call("pad", [x, None, value], [(x.dtype, wanted.shape)], ints=known, threads=threads)
    assert np.array_equal(out, wanted)
    (turned,) = call("pad", [x.T.copy().T, None, value], [(x.dtype, wanted.shape)], ints=known)
    assert np.array_equal(turned, wanted)
    axes = data.draw(st.permutations(range(len(dims))))
    pads = np.array([begins[a] for a in axes] + [ends[a] for a in axes], np.int64)
    (out,) = call("pad", [x, pads, value, np.array(axes, np.int64)], [(x.dtype, None)], ints=[number])
    assert np.array_equal(out, wanted)


def test_large_pad_is_shared_by_threads() -> None:
    x = numbered((64, 56, 56), "float32")
    for mode in MODES:
        wanted = np.pad(x, [(0, 0), (1, 1), (3, 2)], mode)  # type: ignore[call-overload]
        (out,) = call(
            "pad", [x], [("float32", wanted.shape)], [MODES.index(mode), 0, 1, 3, 0, 1, 2], threads=2
        )
        assert np.array_equal(out, wanted)


def test_without_a_value_it_is_zero() -> None:
    (out,) = call("pad", [numbered((2,), "int64"), np.array([1, 2])], [("int64", None)], ints=[0])
    assert out.tolist() == [0, 0, 1, 0, 0]


def test_pad_says_what_does_not_fit() -> None:
    x = numbered((2, 3), "float32")
    with pytest.raises(ExecutionError, match=r"axis 0 of \[2,3\] is padded by -2 and -1"):
        call("pad", [x, np.array([-2, 0, -1, 0])], [("float32", None)], ints=[0])
    with pytest.raises(ExecutionError, match="3 pads for 2 axes"):
        call("pad", [x, np.array([1, 0, 1])], [("float32", None)], ints=[0])
    with pytest.raises(ExecutionError, match="nothing to pad with"):
        call("pad", [x[:0], np.array([1, 0, 1, 0])], [("float32", None)], ints=[1])
