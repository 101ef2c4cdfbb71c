"""Operators without a kernel: the reference implementation runs them, wherever they stand."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from onnx.reference import ReferenceEvaluator

from graphopt.errors import ExecutionError
from graphopt.runtime import InferenceSession
from tests.lowering.comparing import Feeds, assert_same, instructions, parsed, program
from tests.lowering.running import node_model

# onnxruntime needs a locale of the machine for it: the standard's evaluator is asked instead.
UPPER = 'StringNormalizer <case_change_action = "UPPER">'


def check(graph: str, *feeds: Feeds) -> None:
    model = parsed(graph)
    ours, theirs = InferenceSession(model, optimize=False), ReferenceEvaluator(model)
    for given in feeds:
        for a, b in zip(theirs.run(None, dict(given)), ours.run(None, given), strict=True):
            assert np.asarray(a).tolist() == np.asarray(b).tolist()


def test_what_has_no_kernel_is_named() -> None:
    made = program(f"g (string[N] x) => (string[M] y) {{ y = {UPPER} (x) }}")
    assert made.fallbacks == (("StringNormalizer", "there is no kernel"),)
    assert [i.kernel for i in instructions(made)] == ["reference"]


def test_between_kernels() -> None:
    graph = f"""g (string[N] x, float[N] w) => (string[p] y, float[N] z) {{
        a = {UPPER} (x) y = Concat<axis = 0>(a, x) z = Abs(w) }}"""
    check(graph, *({"x": np.array(x, object), "w": np.ones(len(x), np.float32)} for x in (["a", "ß"], ["x"])))


def test_in_a_loop_that_captures_and_carries() -> None:
    graph = f"""g (string[N] x, int64 n) => (string[p] y, string[s,N] all) {{
        y, all = Loop(n, , x) <body = b (int64 i, bool k, string[p] a) => (bool ko, string[q] ao, string[N] u) {{
            ko = Identity(k) u = {UPPER} (x) ao = Concat<axis = 0>(a, u) }}>
    }}"""
    session = InferenceSession(parsed(graph), optimize=False)
    for n in (1, 3, 0, 2):
        y, stacked = session.run(None, {"x": np.array(["ab", "c"], object), "n": np.array(n)})
        assert np.asarray(y).tolist() == ["ab", "c"] + ["AB", "C"] * n
        assert np.asarray(stacked).tolist() == [["AB", "C"]] * n


def test_in_a_branch() -> None:
    graph = f"""g (string[N] x, bool c) => (string[p] y) {{
        y = If(c) <then_branch = t () => (string[p] a) {{ a = {UPPER} (x) }},
                   else_branch = e () => (string[p] b) {{ b = Identity(x) }}> }}"""
    check(graph, *({"x": np.array(["ab"], object), "c": np.array(c)} for c in (True, False)))


def test_four_callers() -> None:
    session = InferenceSession(
        parsed(f"g (string[N] x) => (string[p] y) {{ y = {UPPER} (x) }}"), optimize=False
    )

    def call(caller: int) -> None:
        for i in range(20):
            texts = [f"a{caller}", *("b" * i)]
            (y,) = session.run(None, {"x": np.array(texts, object)})
            assert isinstance(y, np.ndarray) and y.tolist() == [t.upper() for t in texts]

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(4)))


@pytest.mark.parametrize("shape", [(2, 20), (2, 20, 1)])
@pytest.mark.parametrize("is_declared", [True, False])
def test_a_spectrum_of_signals_with_and_without_parts(shape: tuple[int, ...], is_declared: bool) -> None:
    rng = np.random.default_rng(0)
    x, window = (rng.standard_normal(dims).astype(np.float32) for dims in (shape, (8,)))
    feeds = {"x": x, "step": np.array(3), "w": window}
    model = node_model("STFT", feeds, opset=17, dims={} if is_declared else {"x": None})
    assert_same(model, feeds, rtol=1e-5, atol=1e-5)


def test_its_error_names_it() -> None:
    graph = f"g (string[A,B,C] x) => (string[p] y) {{ y = {UPPER} (x) }}"
    session = InferenceSession(parsed(graph), optimize=False)
    for _ in range(2):
        with pytest.raises(ExecutionError, match="reference implementation"):
            session.run(None, {"x": np.full((2, 2, 2), "a", object)})


def test_operators_that_nothing_runs_are_told() -> None:
    model = parsed("g (float[N] x) => (float[M] y) { y = other.Unheard (x) }")
    model.opset_import.add(domain="other", version=1)
    with pytest.raises(Exception, match="Unheard") as error:
        InferenceSession(model, optimize=False).run(None, {"x": np.ones(2, np.float32)})
    assert type(error.value).__module__ == "graphopt.errors"


def test_ranks_that_grow_in_a_loop() -> None:
    """Nothing is known of such a value before it is there."""
    graph = """g (float[N] x, int64 n) => (float y) {
        z = Constant<value = int64[1] {0}>()
        a = Loop(n, , x) <body = b (int64 i, bool k, float[N] a) => (bool ko, float[1,N] ao) { ko = Identity(k) ao = Unsqueeze(a, z) }>
        y = Neg(a)
    }"""
    model = parsed(graph)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    body = model.graph.node[1].attribute[0].g
    for value in (body.input[2], body.output[1]):
        value.type.tensor_type.ClearField("shape")
    assert_same(model, *({"x": np.ones(2, np.float32), "n": np.array(n)} for n in (0, 1, 2, 4)))
