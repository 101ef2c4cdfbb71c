"""Attention against float64: strides, masks, windows, groups, scores, long caches."""

from __future__ import annotations

from dataclasses import dataclass, field

import ml_dtypes
import numpy as np
import pytest

from graphopt.errors import ExecutionError
from tests.kernels.calling import FLOATS, ROUNDING, call, numbers


@dataclass(frozen=True)
class Case:
    """What a call is made of."""

    batch: int = 1
    heads: int = 2
    groups: int = 2
    queries: int = 5
    keys: int = 7
    size: int = 16
    value_size: int = 16
    left: int = -1
    right: int = -1
    offset: int = 0
    mode: int = -1
    scale: float = 0.25
    softcap: float = 0.0
    mask: tuple[int, ...] | None = None
    mask_dtype: np.dtype | type = np.float32
    lengths: tuple[int, ...] | None = None
    dtype: np.dtype = field(default=np.dtype(np.float32))


def seen(case: Case) -> np.ndarray:
    """[B, 1, T, S]: which keys the windows and lengths leave."""
    offset = np.full((case.batch, 1, 1, 1), case.offset)
    limit = np.full((case.batch, 1, 1, 1), case.keys)
    if case.lengths is not None:
        limit = np.array(case.lengths).reshape(-1, 1, 1, 1)
        offset = limit - case.queries
    i, j = np.arange(case.queries)[:, None] + offset, np.arange(case.keys)
    allowed = np.broadcast_to(j < limit, (case.batch, 1, case.queries, case.keys)).copy()
    if case.left >= 0:
        allowed &= j >= i - case.left
    if case.right >= 0:
        allowed &= j <= i + case.right
    if case.mask is not None:
        allowed &= j < case.mask[-1]
    return allowed


def exact(
    case: Case, q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None
) -> list[np.ndarray]:
    """The result, and the scores of the case's mode."""
    q, k, v = (x.astype(np.float64) for x in (q, k, v))
    k, v = (np.repeat(x, case.heads // max(case.groups, 1), 1) for x in (k, v))
    stages = [q @ k.swapaxes(2, 3) * case.scale]
    stages.append(case.softcap * np.tanh(stages[0] / case.softcap) if case.softcap else stages[0])
    scores = np.where(seen(case), stages[1], -np.inf)
    if mask is not None:
        padding = [(0, 0)] * (mask.ndim - 1) + [(0, case.keys - mask.shape[-1])]
        added = np.where(mask, 0, -np.inf) if mask.dtype == np.bool_ else mask.astype(np.float64)
        scores = scores + np.pad(added, padding)
    stages.append(scores)
    top = np.maximum(scores.max(-1, keepdims=True, initial=-np.inf), -1e300)
    weights = np.exp(scores - top)
    total = weights.sum(-1, keepdims=True)
    stages.append(np.divide(weights, total, out=np.zeros_like(weights), where=total != 0))
    return [stages[3] @ v, stages[case.mode]]


def heads_inside(x: np.ndarray) -> np.ndarray:
    """The same tensor, its memory [B, T, H * d] with 3 more columns."""
    b, h, t, d = x.shape
    buffer = np.zeros((b, t, h * d + 3), x.dtype)
    view = buffer[:, :, : h * d].reshape(b, t, h, d) if h * d == 0 else None
    if view is None:
        view = np.lib.stride_tricks.as_strided(
            buffer, (b, t, h, d), (*buffer.strides[:2], d * x.itemsize, x.itemsize)
        )
    view[...] = x.transpose(0, 2, 1, 3)
    return view.transpose(0, 2, 1, 3)


def assert_attends(case: Case, threads: int = 1, seed: int = 0) -> None:
    """Dense operands, and heads inside rows as linear layers write them."""
    rng = np.random.default_rng(seed)
    q = numbers(rng, (case.batch, case.heads, case.queries, case.size), case.dtype)
    k = numbers(rng, (case.batch, case.groups, case.keys, case.size), case.dtype)
    v = numbers(rng, (case.batch, case.groups, case.keys, case.value_size), case.dtype)
    mask = None if case.mask is None else numbers(rng, case.mask, case.mask_dtype)
    if mask is not None and mask.size > 3 and mask.dtype != np.bool_:
        mask.reshape(-1)[1::3] = -np.inf
    lengths = None if case.lengths is None else np.array(case.lengths)
    want, want_scores = exact(case, q, k, v, mask)
    dims = [case.batch, case.heads, case.queries, case.value_size]
    rounding = ROUNDING[case.dtype]
    width = case.heads * case.value_size + 5
    strides = [case.queries * width, case.value_size, width, 1]
    for inside in [False, True]:
        operands = [heads_inside(x) for x in (q, k, v)] if inside else [q, k, v]
        outputs = [(case.dtype, dims, strides) if inside else (case.dtype, dims)]
        if case.mode >= 0:
            outputs.append((case.dtype, [*dims[:3], case.keys]))
        ints = [case.left, case.right, case.offset, case.mode]
        got = call(
            "attention", [*operands, mask, lengths], outputs, ints, [case.scale, case.softcap], threads
        )
        largest = np.abs(v.astype(np.float64)).max(initial=0)
        np.testing.assert_allclose(got[0].astype(np.float64), want, rtol=0, atol=16 * rounding * largest)
        if case.mode >= 0:
            scores = got[1].astype(np.float64)
            np.testing.assert_allclose(scores, want_scores, rtol=16 * rounding, atol=32 * rounding)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_sizes(dtype: np.dtype, threads: int) -> None:
    for queries, keys in [
        (1, 1),
        (1, 9),
        (2, 40),
        (3, 3),
        (10, 10),
        (17, 33),
        (33, 31),
        (70, 100),
        (5, 300),
        (40, 600),
    ]:
        for size, value_size in [(64, 64), (16, 16), (1, 1), (20, 7), (33, 49), (8, 80)]:
            case = Case(2, 3, 3, queries, keys, size, value_size, dtype=dtype, scale=size**-0.5)
            assert_attends(case, threads)


@pytest.mark.parametrize("queries", [1, 2, 6, 35])
def test_groups(queries: int) -> None:
    for heads, groups in [(6, 2), (4, 1), (3, 3)]:
        assert_attends(Case(2, heads, groups, queries, 21))


@pytest.mark.parametrize("queries", [1, 2, 6, 35])
@pytest.mark.parametrize(
    "dtype", [np.float32, np.bool_, np.float16, ml_dtypes.bfloat16], ids=lambda d: np.dtype(d).name
)
def test_masks(queries: int, dtype: type) -> None:
    for keys in [3, 37, 300]:
        for outer in [
            (),
            (1,),
            (queries,),
            (1, 1, 1),
            (2, 1, queries),
            (1, 4, 1),
            (4, queries),
            (2, 4, queries),
        ]:
            assert_attends(Case(2, 4, 2, queries, keys, mask=(*outer, keys), mask_dtype=dtype))
        assert_attends(Case(2, 4, 4, queries, keys, mask=(queries, keys - 2), mask_dtype=dtype))


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_masks_of_the_same_type(dtype: np.dtype) -> None:
    for queries in [1, 8]:
        assert_attends(Case(2, 4, 4, queries, 30, mask=(queries, 30), mask_dtype=dtype, dtype=dtype))
        assert_attends(Case(2, 4, 4, queries, 30, mask=(queries, 30), mask_dtype=np.bool_, dtype=dtype))


@pytest.mark.parametrize("queries", [1, 2, 19, 70])
@pytest.mark.parametrize("dtype", [FLOATS[0], FLOATS[1]], ids=str)
def test_windows(queries: int, dtype: np.dtype) -> None:
    for keys in [queries, queries + 13, 300]:
        for left, right in [(-1, 0), (3, 0), (3, 2), (0, 0), (-1, 5), (40, -1)]:
            for offset in [0, keys - queries, 4, -3]:
                assert_attends(
                    Case(1, 2, 2, queries, keys, left=left, right=right, offset=offset, dtype=dtype)
                )
            for mode in [0, 2, 3]:
                assert_attends(Case(1, 2, 2, queries, keys, left=left, right=right, mode=mode, dtype=dtype))


@pytest.mark.parametrize("queries", [1, 2, 6, 35])
def test_lengths(queries: int) -> None:
    for right in [-1, 0]:
        for lengths in [(5, 40, 17), (40, 1, 0), (2, 3, 4)]:
            assert_attends(Case(3, 2, 2, queries, 40, right=right, lengths=lengths))
            assert_attends(
                Case(3, 2, 2, queries, 40, right=right, lengths=lengths, mode=3, mask=(queries, 40))
            )


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("mode", [0, 1, 2, 3])
def test_scores(mode: int, dtype: np.dtype) -> None:
    for queries in [1, 7, 37]:
        for mask in [None, (queries, 300)]:
            assert_attends(
                Case(
                    2, 2, 1, queries, 300, mask=mask, mode=mode, softcap=2.0, dtype=dtype, mask_dtype=np.bool_
                )
            )


@pytest.mark.parametrize("queries", [1, 9])
def test_softcap(queries: int) -> None:
    for softcap in [0.5, 20.0]:
        assert_attends(Case(1, 2, 2, queries, 50, softcap=softcap, right=0, offset=41))


@pytest.mark.parametrize("queries", [1, 3, 20])
def test_rows_without_keys_are_zero(queries: int) -> None:
    rng = np.random.default_rng(0)
    q, k = numbers(rng, (1, 1, queries, 8)), numbers(rng, (1, 1, 300, 8))
    for hidden in [np.zeros((queries, 300), np.bool_), np.full((queries, 300), -np.inf, np.float32)]:
        hidden[0, 299] = 1
        got = call("attention", [q, k, k, hidden, None], [(np.float32, None)], [-1, -1, 0, -1], [1.0, 0.0])[0]
        np.testing.assert_allclose(got[0, 0, 0], k[0, 0, 299], rtol=1e-6)
        assert (got[0, 0, 1:] == 0).all()
    # The lowest finite number hides no key from a query that has no other.
    lowest = np.full((1, 300), np.finfo(np.float32).min)
    got = call("attention", [q, k, k, lowest, None], [(np.float32, None)], [-1, -1, 0, -1], [1.0, 0.0])[0]
    np.testing.assert_allclose(got[0, 0], np.broadcast_to(k[0, 0].mean(0), (queries, 8)), atol=1e-6)


def test_large_scores_do_not_overflow() -> None:
    rng = np.random.default_rng(0)
    for queries in [1, 20]:
        q, k = 1e4 * numbers(rng, (1, 1, queries, 8)), 1e4 * numbers(rng, (1, 1, 500, 8))
        got = call("attention", [q, k, k], [(np.float32, None)], [-1, -1, 0, -1], [1.0, 0.0])[0]
        best = (q[0, 0].astype(np.float64) @ k[0, 0].T.astype(np.float64)).argmax(-1)
        np.testing.assert_allclose(got[0, 0], k[0, 0, best], rtol=1e-5)


def test_zero_sizes() -> None:
    for field_name in ["batch", "queries", "keys", "value_size", "size"]:
        for queries in [1, 6]:
            case = Case(**{"queries": queries, field_name: 0})
            assert_attends(case)
    assert_attends(Case(heads=0, groups=0))


def test_wrong_operands() -> None:
    q, k = np.zeros((1, 3, 4, 8), np.float32), np.zeros((1, 2, 4, 8), np.float32)
    with pytest.raises(ExecutionError, match=r"Q \[1, 3, 4, 8\], K \[1, 2, 4, 8\]"):
        call("attention", [q, k, k], [(np.float32, None)], [-1, -1, 0, -1], [1.0, 0.0])
    with pytest.raises(ExecutionError, match="mask"):
        call(
            "attention",
            [q, q, q, np.zeros((3, 4), np.float32)],
            [(np.float32, None)],
            [-1, -1, 0, -1],
            [1.0, 0.0],
        )
    with pytest.raises(ExecutionError, match="mask of 5 keys on 4"):
        call(
            "attention",
            [q, q, q, np.zeros((4, 5), np.float32)],
            [(np.float32, None)],
            [-1, -1, 0, -1],
            [1.0, 0.0],
        )
