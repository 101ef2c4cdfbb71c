"""Plans for sizes that change, and the limits of a run."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from graphopt.runtime import InferenceSession, RunOptions
from tests.runtime.models import from_text

TWO_LAYERS = """g (float[B,T,8] x, float[B,T,8] r) => (float[B,T,8] y, float[B,8,T] z) {
    h = Tanh(x)
    t = Transpose<perm = [0, 2, 1]>(h)
    p = MatMul(h, t)
    s = Softmax(p)
    m = MatMul(s, h)
    y = Add(m, r)
    z = Transpose<perm = [0, 2, 1]>(y)
}"""

GROWS = """g (float[1,D] x, int64 n) => (float[T,D] y, float total) {
    zero = Constant<value = float {0.0}>()
    y, total = Loop(n, , x, zero) <body = b (int64 i, bool k, float[T,D] a, float s) => (bool ko, float[U,D] ao, float so) {
        ko = Identity(k)
        e = Exp(x)
        ao = Concat<axis = 0>(a, e)
        at = Transpose(ao)
        square = MatMul(ao, at)
        p = Softmax(square)
        mixed = MatMul(p, ao)
        m = ReduceMean<keepdims = 0>(mixed)
        so = Add(s, m)
    }>
}"""


def floats(*dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


def layers(x: np.ndarray, r: np.ndarray) -> np.ndarray:
    h = np.tanh(x.astype(np.float64))
    p = h @ h.transpose(0, 2, 1)
    e = np.exp(p - p.max(axis=-1, keepdims=True, initial=-np.inf))
    return e / e.sum(axis=-1, keepdims=True) @ h + r


def check_layers(session: InferenceSession, batch: int, length: int) -> None:
    x, r = floats(batch, length, 8, seed=batch), floats(batch, length, 8, seed=length)
    y, z = session.run(None, {"x": x, "r": r})
    np.testing.assert_allclose(y, layers(x, r), rtol=1e-5, atol=1e-5)
    assert isinstance(y, np.ndarray)
    np.testing.assert_array_equal(z, y.transpose(0, 2, 1))


@pytest.mark.parametrize("threads", [1, 2])
def test_sizes_change_back_and_forth(threads: int) -> None:
    session = InferenceSession(from_text(TWO_LAYERS), optimize=False, threads=threads)
    for batch, length in ((1, 3), (2, 70), (1, 3), (2, 3), (2, 70), (0, 5), (1, 0), (1, 1), (3, 128), (1, 3)):
        check_layers(session, batch, length)


def test_more_sizes_than_plans_are_kept() -> None:
    session = InferenceSession(from_text(TWO_LAYERS), optimize=False)
    for length in (*range(1, 40), *range(40, 0, -3), 1, 39, 1):
        check_layers(session, 1, length)


def test_a_plan_that_fails_leaves_the_others() -> None:
    graph = "g (float[A] x, float[B] w) => (float[C] y) { e = Exp(x) y = Add(e, w) }"
    session = InferenceSession(from_text(graph), optimize=False)
    for _ in range(3):
        (y,) = session.run(None, {"x": floats(3), "w": floats(3)})
        np.testing.assert_allclose(y, np.exp(floats(3)) + floats(3), rtol=1e-6)
        with pytest.raises(ExecutionError, match="3 and 2 do not broadcast"):
            session.run(None, {"x": floats(3), "w": floats(2)})
        (y,) = session.run(None, {"x": floats(1), "w": floats(2)})
        np.testing.assert_allclose(y, np.exp(floats(1)) + floats(2), rtol=1e-6)


def test_many_values_of_many_lives_keep_apart() -> None:
    """A thousand values, each read by some that come much later: none stands where another still lives."""
    draw = np.random.default_rng(2)
    n_nodes, weights = 1000, [(draw.standard_normal((4, 4)) / 3).astype(np.float32) for _ in range(3)]
    nodes, reads = [], []
    for i in range(n_nodes):
        a, b = (int(i - min(i, d)) for d in draw.geometric((0.5, 0.02)))
        reads.append((a, b, i % 3))
        nodes.append(f"m{i} = MatMul(v{a}, w{i % 3}) v{i + 1} = Max(m{i}, v{b})")
    wanted = [0, 500, 990, n_nodes]
    model = from_text(
        "g (float[N,4] v0, float[4,4] w0, float[4,4] w1, float[4,4] w2) => (float[N,4] y) {"
        + " ".join(nodes)
        + f" y = Sum({', '.join(f'v{i}' for i in wanted)}) }}"
    )
    session = InferenceSession(model, optimize=False)
    for rows in (3, 70, 1):
        values = [floats(rows, 4, seed=rows)]
        for a, b, w in reads:
            values.append(np.maximum(values[a] @ weights[w], values[b]))
        feeds = {"v0": values[0], **{f"w{i}": w for i, w in enumerate(weights)}}
        (y,) = session.run(None, feeds)
        np.testing.assert_allclose(y, sum(values[i] for i in wanted), rtol=1e-3, atol=1e-5)


def grown(x: np.ndarray, n: int) -> tuple[np.ndarray, float]:
    a, total = x.astype(np.float64), 0.0
    for _ in range(n):
        a = np.concatenate([a, np.exp(x.astype(np.float64))])
        square = a @ a.T
        e = np.exp(square - square.max(axis=-1, keepdims=True))
        total += float((e / e.sum(axis=-1, keepdims=True) @ a).mean())
    return a, total


@pytest.mark.parametrize("threads", [1, 2])
def test_plans_of_bodies_are_bound_again(threads: int) -> None:
    session = InferenceSession(from_text(GROWS), optimize=False, threads=threads)
    for width, n in ((4, 3), (4, 40), (4, 2), (9, 40), (4, 0), (1, 17), (4, 40)):
        x = floats(1, width) / 2
        y, total = session.run(None, {"x": x, "n": np.array(n)})
        expected, sum_ = grown(x, n)
        np.testing.assert_allclose(y, expected, rtol=1e-5)
        np.testing.assert_allclose(total, sum_, rtol=1e-4, atol=1e-5)


def test_iteration_limit() -> None:
    endless = """g (float x) => (float y) {
        y = Loop( , , x) <body = b (int64 i, bool k, float a) => (bool ko, float ao) { ko = Identity(k) ao = Neg(a) }> }"""
    session = InferenceSession(from_text(endless), optimize=False)
    for _ in range(2):
        with pytest.raises(ExecutionError, match=r"\(Loop\) does not end within 1000 iterations"):
            session.run(None, {"x": np.float32(1)}, RunOptions(iteration_limit=1000))
    session = InferenceSession(from_text(GROWS), optimize=False)
    feeds = {"x": floats(1, 2), "n": np.array(5)}
    assert np.shape(session.run(["y"], feeds, RunOptions(iteration_limit=5))[0]) == (6, 2)
    with pytest.raises(ExecutionError, match="within 4 iterations"):
        session.run(["y"], feeds, RunOptions(iteration_limit=4))
    assert np.shape(session.run(["y"], feeds)[0]) == (6, 2), "the limit was of that run alone"


def test_memory_limit_of_intermediate_results() -> None:
    session = InferenceSession(from_text(TWO_LAYERS), optimize=False)
    small, large = ({"x": floats(1, n, 8), "r": floats(1, n, 8)} for n in (4, 1024))
    limit = RunOptions(memory_limit_bytes=1 << 20)
    session.run(None, small, limit)
    for _ in range(2):
        with pytest.raises(ExecutionError, match="over the limit of 1048576"):
            session.run(None, large, limit)
    session.run(None, large)
    with pytest.raises(ExecutionError, match="over the limit of 1048576"):
        session.run(None, large, limit)
    check_layers(session, 1, 3)


def test_memory_limit_of_values() -> None:
    session = InferenceSession(from_text(GROWS), optimize=False)
    feeds = {"x": floats(1, 64), "n": np.array(300)}
    limit = RunOptions(memory_limit_bytes=1 << 16)
    with pytest.raises(ExecutionError, match="over the limit of 65536"):
        session.run(None, feeds, limit)
    session.run(None, {"x": floats(1, 2), "n": np.array(20)}, limit)
    assert np.shape(session.run(None, feeds)[0]) == (301, 64)
