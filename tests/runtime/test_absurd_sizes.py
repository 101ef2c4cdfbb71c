"""Sizes that no memory holds, from data and from the inputs' own dims: an answer without elements, or one line that
says which node can't be run on what; never a crash, never a loop over dims that hold nothing."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from onnx import parser

from graphopt.errors import ExecutionError
from graphopt.runtime import InferenceSession, RunOptions

LIMITS = RunOptions(memory_limit_bytes=1 << 28)
LARGE = 2**40
# Pairs of sizes of a tensor of rank 2.
PAIRS = [
    (LARGE, LARGE),
    (2**62, 2**62),
    (2**63 - 1, 2**63 - 1),
    (1, 2**62),
    (2**31, 2**31),
    (-1, -5),
    (-(2**63), 1),
]


def session(graph: str, *, optimize: bool = False) -> InferenceSession:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {graph}')
    return InferenceSession(model, optimize=optimize)


def empty(*dims: int) -> np.ndarray:
    return np.zeros(dims, np.float32)


def refused(graph: str, feeds: dict[str, object], options: RunOptions = LIMITS) -> str:
    """What is said of node `n`; twice the same, since a session goes on after an error."""
    made = session(graph)
    said = []
    for _ in range(2):
        with pytest.raises(ExecutionError) as caught:
            made.run(None, feeds, options)
        said.append(str(caught.value))
    assert said[0] == said[1]
    assert "\n" not in said[0]
    assert said[0].startswith("node 'n")
    assert "inputs" in said[0], "the real shapes are named"
    return said[0]


@pytest.mark.parametrize("sizes", PAIRS, ids=str)
@pytest.mark.parametrize(
    "graph",
    [
        "(float[1,1] x, int64[2] s) => (float[A,B] y) { [n] y = Expand(x,s) }",
        "(float[1,1] x, int64[2] s) => (float[A,B] y) { [n] y = Tile(x,s) }",
        "(float[1,1] x, int64[2] s) => (float[A,B] y) { [n] y = Reshape(x,s) }",
        "(int64[2] s) => (float[A,B] y) { [n] y = ConstantOfShape(s) }",
        "(float[1,1] x, int64[2] s) => (float[A,B] y) { p = Concat<axis=0>(s,s) [n] y = Pad(x,p) }",
        '(float[1,1] x, int64[2] s) => (float[A,B] y) { p = Concat<axis=0>(s,s) [n] y = Pad<mode="edge">(x,p) }',
        "(float[1,1] x, int64[2] s) => (float[A,B,C,D] y) { o = Constant<value_ints=[1,1]>()"
        " r = Concat<axis=0>(o,s) o2 = Constant<value_ints=[1,1,1,1]>() x4 = Reshape(x,o2) [n] y = Resize(x4,,,r) }",
    ],
    ids=lambda graph: graph.split(" y = ")[1].split("(")[0],
)
def test_sizes_from_data(graph: str, sizes: tuple[int, int]) -> None:
    feeds: dict[str, object] = {"s": np.array(sizes)}
    if " x," in graph:
        feeds["x"] = np.ones((1, 1), np.float32)
    refused(graph, feeds)


@pytest.mark.parametrize(
    ("graph", "size"),
    [
        (graph, size)
        for graph in (
            "(int64 k) => (int64[N] y) { z = Constant<value_int=0>() o = Constant<value_int=1>() [n] y = Range(z,k,o) }",
            "(int64 k) => (float[A,D] y) { i = Constant<value_ints=[0,1]>() v = Constant<value_floats=[0.0,1.0]>()"
            " [n] y = OneHot(i,k,v) }",
            "(int64 k) => (float[A] y) { o = Constant<value_ints=[1]>() j = Reshape(k,o) [n] y = ConstantOfShape(j) }",
        )
        for size in (LARGE, 2**57, 2**62, 2**63 - 1)
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [LIMITS, RunOptions()], ids=["limit", "no limit"])
def test_one_size_from_data(graph: str, size: int, options: RunOptions) -> None:
    refused(graph, {"k": np.array(size)}, options)


@pytest.mark.parametrize(
    ("graph", "dims"),
    [
        ("(float[N,K] x, float[K,M] z) => (float[N,M] y) { [n] y = MatMul(x,z) }", [(LARGE, 0), (0, LARGE)]),
        ("(float[N,K] x, float[K,M] z) => (float[N,M] y) { [n] y = Gemm(x,z) }", [(2**31, 0), (0, 2**31)]),
        (
            "(float[N,K,M] x) => (float[A,B] y) <int64[1] a={1}> { [n] y = ReduceSum<keepdims=0>(x,a) }",
            [(2**29, 0, 2**30)],
        ),
        (
            "(float[N,K] x) => (float[N] y) <int64[1] a={1}> { [n] y = ReduceMax<keepdims=0>(x,a) }",
            [(LARGE, 0)],
        ),
        ("(float[N,K] x, int64[4] p) => (float[A,B] y) { [n] y = Pad(x,p) }", [(LARGE, 0)]),
        (
            "(float[N,K] x) => (float[A,A] y) { s = Shape<end=1>(x) d = Concat<axis=0>(s,s) [n] y = ConstantOfShape(d) }",
            [(LARGE, 0)],
        ),
        (
            "(float[N,K] x) => (float[A] y) { s = Shape<end=1>(x) d = Mul(s,s) [n] y = ConstantOfShape(d) }",
            [(LARGE, 0)],
        ),
        (
            "(float[N,C,L] x, float[F,C,3] z) => (float[N,F,M] y) { [n] y = Conv(x,z) }",
            [(LARGE, 0, 8), (4, 0, 3)],
        ),
    ],
    ids=str,
)
@pytest.mark.parametrize("options", [LIMITS, RunOptions()], ids=["limit", "no limit"])
def test_sizes_from_symbols(graph: str, dims: Sequence[tuple[int, ...]], options: RunOptions) -> None:
    feeds: dict[str, object] = {name: empty(*shape) for name, shape in zip("xz", dims, strict=False)}
    if " p)" in graph:
        feeds["p"] = np.array([0, 1, 0, 1])
    refused(graph, feeds, options)


@pytest.mark.parametrize("optimize", [False, True])
@pytest.mark.parametrize("dims", [(LARGE, 0), (0, LARGE), (2**29, 2**30, 0)], ids=str)
@pytest.mark.parametrize(
    "op", ["Relu", "Softmax", "Softmax<axis=0>", "LogSoftmax", "Transpose", "Hardmax", "Gelu"]
)
def test_nothing_beside_a_large_dim(op: str, dims: tuple[int, ...], optimize: bool) -> None:
    names, turned = "NMK"[: len(dims)], "NMK"[: len(dims)][:: -1 if op == "Transpose" else 1]
    graph = f"(float[{','.join(names)}] x) => (float[{','.join(turned)}] y) {{ [n] y = {op}(x) }}"
    (found,) = session(graph, optimize=optimize).run(None, {"x": empty(*dims)}, LIMITS)
    assert np.asarray(found).shape == (dims[::-1] if op == "Transpose" else dims)


def test_an_output_that_numpy_has_no_array_for() -> None:
    graph = "(float[N,M,K] x, float[A,B,C] z) => (float[N,B,K] y) { [n] y = Add(x,z) }"
    with pytest.raises(ExecutionError, match=r"^output 'y': .*float32\[1099511627776,1099511627776,0\]$"):
        session(graph).run(None, {"x": empty(LARGE, 1, 0), "z": empty(1, LARGE, 0)}, LIMITS)


def test_a_limit_names_the_largest_result() -> None:
    graph = "(float[N] x) => (float[M] y) { a = Neg(x) [n] b = Concat<axis=0>(a,x,a) y = ReduceSum(b) }"
    said = refused(graph, {"x": np.ones(1000, np.float32)}, RunOptions(memory_limit_bytes=8000))
    assert "over the limit of 8000" in said
    assert "float32[3000]" in said
