"""The benchmark's own judge sees what is wrong with a result, and its clock what is slower."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, parser

from benchmarks.counting import contents, dims_kept
from benchmarks.judging import TOLERANCE, difference, judge
from benchmarks.latency import interleaved, median_interval
from benchmarks.peers import PeerCounts, PeerResult
from benchmarks.recipes import Recipe

GRAPH = "g (float[N,4] x) => (float[N,4] y) { a = Neg(x)  y = Neg(a) }"
RECIPE = Recipe(
    ({"name": "x", "dtype": "float32", "shape": ["n", 4], "kind": "normal"},), ({"n": 1}, {"n": 3})
)


def write(path: Path, graph: str, opset: int = 17) -> Path:
    text = f'<ir_version: 8, opset_import: ["" : {opset}]> {graph}'
    onnx.save(parser.parse_model(text), path)
    return path


@pytest.fixture
def original(tmp_path: Path) -> Path:
    return write(tmp_path / "original.onnx", GRAPH)


def test_a_good_result(original: Path, tmp_path: Path) -> None:
    result = write(tmp_path / "r.onnx", "g (float[N,4] x) => (float[N,4] y) { y = Identity(x) }")
    found = judge(original, result, RECIPE)
    assert found.works and found.standard and not found.checker and not found.why
    assert (found.operators, found.error) == (1, 0.0)


@pytest.mark.parametrize(
    ("graph", "fault"),
    [
        ("g (float[N,4] x) => (float[N,4] y) { y = Neg(x) }", "equal"),
        ("g (float[3,4] x) => (float[3,4] y) { y = Identity(x) }", "dynamic"),
        ("g (float[N,4] z) => (float[N,4] y) { y = Identity(z) }", "dynamic"),
        ("g (float[N,4] x) => (float[N,4] z) { z = Identity(x) }", "dynamic"),
        ("g (float[N,4] x) => (float[N,4] y) { y = NoSuchOperator(x) }", "loads"),
        ("g (float[N,4] x) => (float[N,4] y) { y = com.microsoft.NoSuch(x) }", "standard"),
    ],
)
def test_each_fault_is_seen(original: Path, tmp_path: Path, graph: str, fault: str) -> None:
    found = judge(original, write(tmp_path / "r.onnx", graph), RECIPE)
    assert not getattr(found, fault)


def test_an_operator_newer_than_the_opset_is_not_standard(original: Path, tmp_path: Path) -> None:
    graph = "g (float[N,4] x) => (float[N,4] y) { y = Gelu(x) }"
    found = judge(original, write(tmp_path / "r.onnx", graph, opset=13), RECIPE)
    assert found.checker and not found.standard


def test_differences() -> None:
    one = np.array([1.0, 2.0], np.float32)
    for other, same in (
        (one + np.float32(1e-5), True),
        (one + np.float32(0.01), False),
        (one.astype(np.float64), False),
        (one[:1], False),
        (np.array([1.0, np.nan], np.float32), False),
    ):
        assert difference(one, other, TOLERANCE)[0] is same
    odd = np.array([np.nan, np.inf, 1.0], np.float32)
    assert difference(odd, odd.copy(), TOLERANCE) == (True, 0.0)
    assert not difference(odd, -odd, TOLERANCE)[0]
    assert difference([one], [one], TOLERANCE)[0] and not difference([one], [], TOLERANCE)[0]
    empty = np.zeros((0, 3), np.float32)
    assert difference(empty, empty, TOLERANCE) == (True, 0.0)


def test_counts_go_into_bodies_and_functions(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in "xy")
    call = helper.make_node("Twice", ["x"], ["a"], domain="ai.graphopt")
    again = helper.make_node("Twice", ["a"], ["b"], domain="ai.graphopt")
    value = helper.make_tensor("v", TensorProto.BOOL, [], [True])
    condition = helper.make_node("Constant", [], ["c"], value=value)
    branch = helper.make_graph([helper.make_node("Neg", ["b"], ["n"])], "branch", [], [y])
    branch.output[0].name = "n"
    choice = helper.make_node("If", ["c"], ["y"], then_branch=branch, else_branch=branch)
    body = [helper.make_node("Add", ["x", "x"], ["s"]), helper.make_node("Abs", ["s"], ["o"])]
    function = helper.make_function("ai.graphopt", "Twice", ["x"], ["o"], body, [helper.make_opsetid("", 17)])
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("ai.graphopt", 1)]
    graph = helper.make_graph([call, again, condition, choice], "g", [x], [y])
    onnx.save(helper.make_model(graph, functions=[function], opset_imports=imports), tmp_path / "m.onnx")
    found = contents(tmp_path / "m.onnx")
    assert found.types == {"Add": 2, "Abs": 2, "Neg": 2, "If": 1}
    assert (found.operators, found.instructions, found.is_standard) == (7, 5, True)


def test_unused_inputs_must_stay(tmp_path: Path) -> None:
    two = write(tmp_path / "a.onnx", "g (float[N] x, float[M] z) => (float[N] y) { y = Neg(x) }")
    one = write(tmp_path / "b.onnx", "g (float[N] x) => (float[N] y) { y = Neg(x) }")
    assert dims_kept(two, two) and not dims_kept(two, one)


def test_interval_of_the_median_holds_it_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    intervals = [median_interval(list(rng.lognormal(0, 1, 30))) for _ in range(1000)]
    held = sum(low <= 1.0 <= high for low, high in intervals)
    assert 930 <= held <= 995


def test_a_slower_run_is_seen() -> None:
    def work(amount: int) -> Callable[[], object]:
        return lambda: sum(range(amount))

    assert interleaved(work(20_000), work(40_000), 0.1).is_slower
    assert not interleaved(work(40_000), work(20_000), 0.1).is_slower


def test_best_peer() -> None:
    row = PeerCounts(
        100,
        {
            "broken": PeerResult(1, standard=True, works=False),
            "own": PeerResult(40, standard=False, works=True),
            "plain": PeerResult(60, standard=True, works=True),
        },
    )
    assert row.best(standard=True) == (60, "plain")
    assert row.best(standard=False) == (40, "own")
    assert PeerCounts(5, {}).best(standard=True) == (5, "original")
