"""One session in several threads, and runs of several threads."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest

from graphopt.errors import ExecutionError
from graphopt.runtime import InferenceSession
from graphopt.runtime.compilation import compiled, program_of
from graphopt.runtime.compiled_file import write_compiled
from tests.runtime.models import from_text, loop, perceptron
from tests.runtime.test_plans import GROWS, TWO_LAYERS, check_layers, floats, grown


@pytest.mark.parametrize("threads", [1, 2])
def test_four_callers_with_sizes_of_their_own(threads: int) -> None:
    session = InferenceSession(from_text(TWO_LAYERS), optimize=False, threads=threads)

    def call(caller: int) -> None:
        for i in range(25):
            check_layers(session, 1 + caller % 2, 1 + (7 * caller + 5 * i) % 33)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))


def test_four_callers_open_sessions_of_their_own(tmp_path: Path) -> None:
    path = tmp_path / "perceptron.gopt"
    write_compiled(compiled(program_of(perceptron())), path)
    x = floats(9, 64)
    (expected,) = InferenceSession(path).run(None, {"x": x})

    def call(caller: int) -> None:
        for i in range(5):
            session = InferenceSession(path, mmap=i % 2 == 0, threads=1 + caller % 2)
            for rows in (9, 1 + caller):
                (y,) = session.run(None, {"x": x[:rows]})
                np.testing.assert_allclose(y, expected[:rows], rtol=1e-4, atol=1e-4)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))


def test_four_callers_of_a_loop() -> None:
    session = InferenceSession(from_text(GROWS), optimize=False)

    def call(caller: int) -> None:
        for i in range(10):
            n = (3 * caller + i) % 12
            x = floats(1, caller + 1, seed=i) / 2
            y, _ = session.run(None, {"x": x, "n": np.array(n)})
            np.testing.assert_allclose(y, grown(x, n)[0], rtol=1e-5)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))


def test_an_error_of_one_caller_is_not_that_of_another() -> None:
    graph = "g (float[A] x, int64[B] i) => (float[B] y) { e = Exp(x) y = Gather(e, i) }"
    session = InferenceSession(from_text(graph), optimize=False)

    def call(caller: int) -> None:
        for _ in range(20):
            if caller % 2:
                with pytest.raises(ExecutionError, match="9"):
                    session.run(None, {"x": floats(3), "i": np.array([0, 9])})
            else:
                (y,) = session.run(None, {"x": floats(3), "i": np.array([2, 0])})
                np.testing.assert_allclose(y, np.exp(floats(3))[[2, 0]], rtol=1e-6)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))


def test_results_live_on_when_the_session_is_gone() -> None:
    session = InferenceSession(from_text(TWO_LAYERS), optimize=False)
    feeds = {"x": floats(2, 9, 8), "r": floats(2, 9, 8, seed=1)}
    results = [session.run(None, feeds) for _ in range(3)]
    copies = [[np.array(y) for y in result] for result in results]
    del session
    for result, copied in zip(results, copies, strict=True):
        for y, kept in zip(result, copied, strict=True):
            np.testing.assert_array_equal(y, kept)


OPERATORS = {
    "elementwise": "y = Tanh(x) z = Exp(y)",
    "movement": "y = Transpose<perm = [0, 2, 1]>(x) z = Concat<axis = 1>(x, x)",
    "rows": "y = Softmax(x) z = LayerNormalization<axis = -1>(x, w)",
    "reduction": "a = Constant<value = int64[1] {2}>() y = ReduceSum(x, a) b = Constant<value = int64[1] {1}>() z = ReduceMax(x, b)",
    "product": "y = MatMul(x, m) t = Transpose<perm = [0, 2, 1]>(x) z = MatMul(x, t)",
    "pooling": "y = MaxPool<kernel_shape = [3]>(x) z = AveragePool<kernel_shape = [2]>(x)",
    "choice": "k = Constant<value = int64[1] {3}>() y, i = TopK(x, k) z = CumSum(x, c)",
}


@pytest.mark.parametrize("kind", OPERATORS)
def test_two_threads_compute_what_one_does(kind: str) -> None:
    """Bit for bit: how work is parted does not change how it is summed."""
    model = from_text(
        f"g (float[B,T,64] x) => (float y, float z) <int64 c = {{1}}, float[64] w = {{{_numbers(64)}}}> {{ {OPERATORS[kind]} }}",
        opset=18,
    )
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    model.graph.initializer.append(onnx.numpy_helper.from_array(floats(64, 48, seed=2), "m"))
    one, two = (InferenceSession(model, optimize=False, threads=n) for n in (1, 2))
    for dims in ((2, 300, 64), (1, 3, 64), (5, 41, 64), (1, 1031, 64)):
        feeds = {"x": floats(*dims)}
        for a, b in zip(one.run(None, feeds), two.run(None, feeds), strict=True):
            np.testing.assert_array_equal(a, b)


def _numbers(n: int) -> str:
    return ", ".join(f"{v:.4f}" for v in floats(n, seed=1))


@pytest.mark.parametrize("optimize", [True, False])
def test_whole_models_in_two_threads(optimize: bool) -> None:
    for model, feeds in (
        (perceptron(), {"x": floats(200, 64)}),
        (loop(), {"x": floats(5000), "n": np.array(4)}),
    ):
        one, two = (InferenceSession(model, optimize=optimize, threads=n) for n in (1, 2))
        for a, b in zip(one.run(None, feeds), two.run(None, feeds), strict=True):
            np.testing.assert_array_equal(a, b)


def test_an_error_in_a_thread_is_told() -> None:
    graph = "g (float[A,64] x, int64[B] i) => (float[B,64] y) { y = Gather(x, i) }"
    session = InferenceSession(from_text(graph), optimize=False, threads=2)
    indices = np.zeros(5000, np.int64)
    for place in (0, 4999):
        wrong = indices.copy()
        wrong[place] = 77
        with pytest.raises(ExecutionError, match="77"):
            session.run(None, {"x": floats(3, 64), "i": wrong})
        assert np.shape(session.run(None, {"x": floats(3, 64), "i": indices})[0]) == (5000, 64)
