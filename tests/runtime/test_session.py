"""InferenceSession: signatures, feeds, errors, options, taps, bound memory, threads."""

from __future__ import annotations

import concurrent.futures
import warnings

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from graphopt.errors import ExecutionError, UsageError
from graphopt.runtime import InferenceSession, RunOptions
from tests.runtime import models

ENGINES = ("native", "python")


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "graph",
    [
        models.CHAIN,
        "g (float x, int64[] n, string[A,?] s) => (float y, int64[] m, string[A,?] t)"
        " { y = Neg(x) m = Identity(n) t = Identity(s) }",
        "g (bfloat16[2] x, float8e4m3fn[3] q, bool[N] b) => (bfloat16[2] y, float8e4m3fn[3] r, bool[N] c)"
        " { y = Identity(x) r = Identity(q) c = Not(b) }",
        "g (seq(float[N]) x) => (int64 n) { n = SequenceLength(x) }",
    ],
)
def test_signatures_are_as_onnxruntime_has_them(graph: str, engine: str) -> None:
    model = models.from_text(graph, opset=19)
    ours, theirs = InferenceSession(model, engine=engine), ort.InferenceSession(model.SerializeToString())
    for mine, other in ((ours.get_inputs(), theirs.get_inputs()), (ours.get_outputs(), theirs.get_outputs())):
        assert [(a.name, a.type, a.shape) for a in mine] == [(a.name, a.type, a.shape) for a in other]


@pytest.mark.parametrize("engine", ENGINES)
def test_takes_what_arrays_can_be_made_of(engine: str) -> None:
    session = InferenceSession(models.from_text(models.CHAIN), engine=engine)
    expected = np.exp(np.array([[1, 2, 3, 4]], np.float32))

    class Exporter:
        def __dlpack__(self, **kwargs: object) -> object:
            return np.array([[1, 2, 3, 4]], np.float32).__dlpack__(**kwargs)

        def __dlpack_device__(self) -> tuple[int, int]:
            return (1, 0)

    for given in (
        [[1, 2, 3, 4]],
        np.array([[1, 2, 3, 4]], np.float32),
        np.array([[1], [2], [3], [4]], np.float32).T,
        Exporter(),
    ):
        (y,) = session.run(["y"], {"x": given})
        np.testing.assert_allclose(y, expected, rtol=1e-6)


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({}, "input 'x' is missing; the model takes x"),
        ({"x": ones(1, 4), "w": 1}, "there is no input 'w'; the model takes x"),
        (
            {"x": np.ones((2, 4))},
            "input 'x': the model takes tensor(float) [N, 4], not tensor(double) [2, 4]",
        ),
        ({"x": ones(2, 5)}, "input 'x': the model takes tensor(float) [N, 4], not tensor(float) [2, 5]"),
        ({"x": ones(5)}, "input 'x': the model takes tensor(float) [N, 4], not tensor(float) [5]"),
        ({"x": None}, "input 'x': None is no tensor; the model takes tensor(float) [N, 4]"),
        ({"x": "text"}, "input 'x': could not convert string to float"),
        ({"x": [[1, 2], [3]]}, "input 'x': "),
        ({"x": np.array(["2020-01-01"], "datetime64[D]")}, "input 'x': arrays of datetime64[D] are no ONNX"),
    ],
)
def test_feeds_that_do_not_fit(feeds: dict[str, object], message: str, engine: str) -> None:
    session = InferenceSession(models.from_text(models.CHAIN), engine=engine)
    with pytest.raises(ExecutionError) as caught:
        session.run(None, feeds)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)
    # The session goes on.
    assert session.run(None, {"x": ones(0, 4)})[0].shape == (0, 4)


@pytest.mark.parametrize("engine", ENGINES)
def test_sequences_and_optionals_are_checked_inside(engine: str) -> None:
    graph = "g (seq(float[N]) x, optional(float[N]) o) => (float[M] y, bool b) { i = Constant<value_int = 1>() y = SequenceAt(x, i) b = OptionalHasElement(o) }"
    session = InferenceSession(models.from_text(graph, opset=18), engine=engine)
    y, b = session.run(None, {"x": [ones(2), ones(3)], "o": None})
    assert np.asarray(y).tolist() == [1, 1, 1]
    assert not b
    assert session.run(["b"], {"x": ([1, 2], [3]), "o": [1.5]})[0]
    for feeds, message in (
        ({"x": [ones(2), np.ones(3, np.int8)], "o": None}, "takes tensor(float), not tensor(int8) [3]"),
        ({"x": ones(2), "o": None}, "takes seq(tensor(float)), not a ndarray"),
        ({"x": [None], "o": None}, "None is no tensor"),
        ({"x": [], "o": np.ones(2)}, "takes tensor(float), not tensor(double) [2]"),
    ):
        with pytest.raises(ExecutionError) as caught:
            session.run(None, feeds)
        assert message in str(caught.value)


def test_dims_of_one_name_are_equal() -> None:
    session = InferenceSession(
        models.from_text("g (float[N] a, float[N] b) => (float[N] c) { c = Add(a, b) }")
    )
    message = r"input 'b': the model takes tensor\(float\) \[N\], not tensor\(float\) \[3\], where N is 2 by input 'a'"
    with pytest.raises(ExecutionError, match=message):
        session.run(None, {"a": ones(2), "b": ones(3)})


def test_unknown_output_and_bad_arguments() -> None:
    model = models.from_text(models.CHAIN)
    with pytest.raises(ExecutionError, match="there is no output 'z'; the model gives y"):
        InferenceSession(model).run(["z"], {"x": ones(1, 4)})
    with pytest.raises(UsageError, match="there is no precision 'f8'"):
        InferenceSession(model, precision="f8")  # type: ignore[arg-type]
    with pytest.raises(UsageError, match="a run needs a thread"):
        InferenceSession(model, threads=0)
    with pytest.raises(UsageError, match="there is no value 'nowhere' to keep"):
        InferenceSession(model, keep=["nowhere"])


@pytest.mark.parametrize("engine", ENGINES)
def test_an_input_with_a_default_may_be_left_out(engine: str) -> None:
    graph = "g (float[2] x, float[2] w) => (float[2] y) <float[2] w = {3, 4}> { y = Add(x, w) }"
    session = InferenceSession(models.from_text(graph), engine=engine)
    assert session.run(None, {"x": ones(2)})[0].tolist() == [4, 5]
    assert session.run(None, {"x": ones(2), "w": ones(2)})[0].tolist() == [2, 2]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("optimize", [True, False])
def test_taps_show_values_of_all_scopes(engine: str, optimize: bool) -> None:
    model = models.loop()
    session = InferenceSession(model, keep=["repeat:body/negative", "y"], optimize=optimize, engine=engine)
    seen: list[tuple[str, tuple[int, ...], list[float]]] = []

    def tap(name: str, iteration: tuple[int, ...], value: object) -> None:
        assert isinstance(value, np.ndarray)
        assert not value.flags.writeable
        seen.append((name, iteration, value.tolist()))

    y, ys = session.run(None, {"x": ones(2), "n": 2}, tap=tap)
    assert seen == [
        ("repeat:body/negative", (0,), [-2, -2]),
        ("repeat:body/negative", (1,), [-3, -3]),
        ("y", (), [3, 3]),
    ]
    seen.clear()
    session.run(None, {"x": ones(2), "n": 0}, RunOptions(tap=tap))
    assert seen == [("y", (), [1, 1])]
    # Without a tap, and without anything kept, the answers are the same.
    plain = InferenceSession(model, engine=engine).run(None, {"x": ones(2), "n": 2})
    for result in (session.run(None, {"x": ones(2), "n": 2}), plain):
        np.testing.assert_allclose(result[0], y)
        np.testing.assert_allclose(result[1], ys)


def test_a_kept_value_survives_fusion() -> None:
    model = models.perceptron()
    x = np.random.default_rng(1).standard_normal((3, 64)).astype(np.float32)
    names = ["h", "hb", "hr", "x"]
    seen: dict[str, np.ndarray] = {}
    session = InferenceSession(model, keep=names)
    session.run(None, {"x": x}, tap=lambda name, _, value: seen.update({name: np.array(value)}))
    for name in names[:-1]:
        model.graph.output.append(onnx.ValueInfoProto(name=name))
    expected = ort.InferenceSession(model.SerializeToString()).run(names[:-1], {"x": x})
    assert list(seen) == ["x", "h", "hb", "hr"]
    for name, value in zip(names, expected, strict=False):
        np.testing.assert_allclose(seen[name], value, rtol=1e-5, atol=1e-4)


def test_a_kept_value_that_nothing_else_reads() -> None:
    model = models.from_text("g (float[N] x) => (int64[1] y) { a = Neg(x) y = Shape(a) }")
    session = InferenceSession(model, keep=["a"], optimize=False)
    seen: list[list[float]] = []
    session.run(None, {"x": ones(2)}, tap=lambda name, _, value: seen.append(np.asarray(value).tolist()))
    assert seen == [[-1.0, -1.0]]


def test_what_a_tap_raises_ends_the_run() -> None:
    session = InferenceSession(models.from_text(models.CHAIN), keep=["b"])

    def tap(*_: object) -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        session.run(None, {"x": ones(1, 4)}, tap=tap)
    assert session.run(None, {"x": ones(1, 4)})[0].shape == (1, 4)


@pytest.mark.parametrize("engine", ENGINES)
def test_iterations_have_a_limit(engine: str) -> None:
    session = InferenceSession(models.loop(), engine=engine)
    feeds = {"x": ones(2), "n": 50}
    with pytest.raises(ExecutionError, match=r"node 'repeat'.*Loop.* does not end within 10 iterations"):
        session.run(None, feeds, RunOptions(iteration_limit=10))
    assert session.run(None, feeds, RunOptions(iteration_limit=50))[0].tolist() == [51, 51]
    assert session.run(None, feeds)[0].tolist() == [51, 51]


@pytest.mark.parametrize("engine", ENGINES)
def test_memory_has_a_limit(engine: str) -> None:
    graph = "g (int64[1] n) => (float[M] y) { c = ConstantOfShape(n)  d = Exp(c)  y = Neg(d) }"
    session = InferenceSession(models.from_text(graph), engine=engine)
    with pytest.raises(ExecutionError, match="over the limit of 1000000"):
        session.run(None, {"n": [1 << 20]}, RunOptions(memory_limit_bytes=1_000_000))
    assert session.run(None, {"n": [1 << 10]}, RunOptions(memory_limit_bytes=1_000_000))[0].shape == (1024,)
    assert session.run(None, {"n": [1 << 20]})[0].shape == (1 << 20,)
    with pytest.raises(ExecutionError, match="over the limit of 1000000"):
        session.run(None, {"n": [1 << 20]}, RunOptions(memory_limit_bytes=1_000_000))


@pytest.mark.parametrize("engine", ENGINES)
def test_outputs_go_to_the_memory_given(engine: str) -> None:
    session = InferenceSession(models.from_text(models.CHAIN), engine=engine)
    x, y = np.zeros((3, 4), np.float32), np.full((3, 4), 7, np.float32)
    binding = session.io_binding()
    binding.bind_input("x", x)
    binding.bind_output("y", y)
    session.run_with_iobinding(binding)
    np.testing.assert_allclose(y, 1)
    assert binding.get_outputs()[0] is y
    # What is bound is looked at when the run begins.
    x[...] = np.arange(12, dtype=np.float32).reshape(3, 4) / 8
    session.run_with_iobinding(binding)
    np.testing.assert_allclose(y, np.exp(x), rtol=1e-6)
    binding.bind_output("y")
    session.run_with_iobinding(binding)
    np.testing.assert_allclose(binding.get_outputs()[0], y)


@pytest.mark.parametrize("engine", ENGINES)
def test_output_memory_may_be_an_inputs(engine: str) -> None:
    graph = "g (float[N] x) => (float[N] y, float[N] z) { a = Exp(x) y = Add(a, x) z = Sub(x, a) }"
    session = InferenceSession(models.from_text(graph), engine=engine)
    x = np.linspace(0, 1, 33, dtype=np.float32)
    y, z = session.run(None, {"x": x})
    memory, other = x.copy(), np.empty_like(x)
    binding = session.io_binding()
    binding.bind_input("x", memory)
    binding.bind_output("y", memory)
    binding.bind_output("z", other)
    session.run_with_iobinding(binding)
    np.testing.assert_array_equal(memory, y)
    np.testing.assert_array_equal(other, z)


@pytest.mark.parametrize("engine", ENGINES)
def test_bound_outputs_of_every_making(engine: str) -> None:
    """An output that is an input, a view, a constant, another output, a loop's."""
    graph = (
        "g (float[2,3] x, int64[2] s) => (float[2,3] same, float[3,2] turned, float[2] c, float[2,3] again, float[M] r)"
        " <float[2] c = {1, 2}> { same = Identity(x) turned = Transpose<perm = [1, 0]>(x)"
        " again = Identity(same) r = ConstantOfShape(s) }"
    ).replace("float[M] r", "float[A,B] r")
    session = InferenceSession(models.from_text(graph), engine=engine)
    x = np.arange(6, dtype=np.float32).reshape(2, 3)
    expected = session.run(None, {"x": x, "s": [2, 5]})
    binding = session.io_binding()
    binding.bind_input("x", x)
    binding.bind_input("s", [2, 5])
    memory = [np.full(np.shape(value), -1, np.float32) for value in expected]
    for arg, target in zip(session.get_outputs(), memory, strict=True):
        binding.bind_output(arg.name, target)
    session.run_with_iobinding(binding)
    for target, value in zip(memory, expected, strict=True):
        np.testing.assert_array_equal(target, value)


def test_memory_that_can_take_no_output() -> None:
    session = InferenceSession(models.from_text(models.CHAIN))
    binding = session.io_binding()
    binding.bind_input("x", ones(3, 4))
    for target, message in (
        (np.zeros((3, 4)), r"output 'y' is tensor\(float\) \[N, 4\], the memory for it tensor\(double\)"),
        (np.zeros((4, 3), np.float32).T, "must be writable and C-contiguous"),
        ([1, 2], "only an array's memory"),
    ):
        with pytest.raises(ExecutionError, match=message):
            binding.bind_output("y", target)
    with pytest.raises(ExecutionError, match="there is no output 'z'"):
        binding.bind_output("z")
    binding.bind_output("y", np.zeros((2, 4), np.float32))
    with pytest.raises(
        ExecutionError, match=r"output 'y' is float32\[3,4\], the memory for it float32\[2,4\]"
    ):
        session.run_with_iobinding(binding)


def test_threads_share_a_session() -> None:
    model = models.perceptron()
    session = InferenceSession(model)
    judge = ort.InferenceSession(model.SerializeToString())
    rng = np.random.default_rng(0)
    feeds = [rng.standard_normal((1 + i % 7, 64)).astype(np.float32) for i in range(24)]
    expected = [judge.run(None, {"x": x})[0] for x in feeds]

    def work(number: int) -> None:
        for i in range(len(feeds)):
            k = (i * 5 + number) % len(feeds)
            (y,) = session.run(None, {"x": feeds[k]})
            np.testing.assert_allclose(y, expected[k], rtol=1e-4, atol=1e-3)

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, n) for n in range(8)]:
            done.result()


def test_the_python_engine_warns_once_where_it_is_not_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.runtime.session.is_built", lambda: False)
    with pytest.warns(RuntimeWarning, match="installed without its engine") as caught:
        session = InferenceSession(models.from_text(models.CHAIN))
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.run(None, {"x": ones(1, 4)})
        InferenceSession(models.from_text(models.CHAIN), engine="python")


def test_taps_of_several_threads_do_not_mix() -> None:
    session = InferenceSession(models.loop(), keep=["repeat:body/sum"], threads=2)

    def work(number: int) -> None:
        seen: list[float] = []
        for _ in range(20):
            session.run(
                None,
                {"x": ones(3) * number, "n": 4},
                tap=lambda name, iteration, value: seen.append(float(np.asarray(value)[iteration[0] % 3])),
            )
        assert seen == [number * k for k in (2, 3, 4, 5)] * 20

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        for done in [pool.submit(work, n) for n in range(1, 7)]:
            done.result()


def test_the_reference_implementation_is_called_from_several_threads() -> None:
    graph = "g (float[N,2,2] x) => (float[N] y) { a = Exp(x) d = Det(a) y = Neg(d) }"
    session = InferenceSession(models.from_text(graph))
    x = np.random.default_rng(0).standard_normal((6, 2, 2)).astype(np.float32)
    expected = -np.linalg.det(np.exp(x))

    def work() -> None:
        for _ in range(20):
            (y,) = session.run(None, {"x": x})
            np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)

    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        for done in [pool.submit(work) for _ in range(6)]:
            done.result()
