"""Caches that grow in loops: where they are appended to in place, and that answers are right everywhere."""

from __future__ import annotations

import numpy as np
import pytest

from tests.lowering.comparing import assert_same, instructions, program

ON = "ko = Identity(k)"


def floats(*dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


def trips(n: int) -> np.ndarray:
    return np.array(n, np.int64)


def cache(dims: str, axis: int, more: str = "", out: str = "ao", append: str = "step") -> str:
    """A loop that appends tanh of x + i; `more` stands in its body."""
    return f"""g (float[{dims}] x, float[{dims}] start, int64 n) => (float y) {{
        y = Loop(n, , start) <body = b (int64 i, bool k, float a) => (bool ko, float {out}) {{
            {ON} f = Cast<to = 1>(i) s = Add(x, f) step = Tanh(s)
            ao = Concat<axis = {axis}>(a, {append})
            {more}
        }}>
    }}"""


def typed(graph: str, rank: int) -> str:
    """The graph with ranks in the places of `float a` and its like."""
    dims = ",".join("?" * rank)
    for name in ("y", "a", "ao", "out"):
        graph = graph.replace(f"float {name}", f"float[{dims}] {name}")
    return graph


def grown(graph: str) -> int:
    """How many values grow in place."""
    return sum(len(m.growing) for m in program(graph).main.walk())


@pytest.mark.parametrize(
    ("dims", "axis"),
    [
        ("t,4", 0),
        ("1,t,4", 1),
        ("1,t,4", -2),
        ("t", 0),
        ("1,1,t", 2),
        ("2,t,4", 1),
        ("B,2,t,4", 2),
        ("3,t", -1),
    ],
)
def test_cache_is_appended_to_in_place(dims: str, axis: int) -> None:
    graph = typed(cache(dims, axis), dims.count(",") + 1)
    assert grown(graph) == 1
    assert not instructions(program(graph), "concat")
    for t in (1, 0, 3):
        shape = [{"t": t, "B": 2}.get(d) or (0 if d == "t" else int(d)) for d in dims.split(",")]
        x = floats(*[1 if d == "t" else n for d, n in zip(dims.split(","), shape, strict=True)])
        start = floats(*shape, seed=1)
        model = typed(cache(dims, axis), dims.count(",") + 1).replace(
            f"float[{dims}] start", f"float[{dims.replace('t', 'u')}] start"
        )
        assert grown(model) == 1
        assert_same(model, *({"x": x, "start": start, "n": trips(n)} for n in (0, 1, 3, 50, 1, 7)))


def test_cache_of_several_parts_an_iteration() -> None:
    graph = typed(cache("t,4", 0, append="step, x, step"), 2)
    assert grown(graph) == 1
    assert_same(
        graph, *({"x": floats(2, 4), "start": floats(2, 4, seed=1), "n": trips(n)} for n in (0, 1, 9))
    )


def test_cache_that_is_handed_out_twice_is_copied() -> None:
    graph = typed(cache("t,4", 0, out="ao, float[?,4] ao"), 2)
    graph = graph.replace("=> (float[?,?] y)", "=> (float[?,?] y, float[?,4] z)").replace(
        "y = Loop(n, , start)", "y, z = Loop(n, , start, x)"
    )
    graph = graph.replace("float[?,?] a)", "float[?,?] a, float[?,4] d)")
    assert grown(graph) == 0
    assert_same(
        graph, *({"x": floats(2, 4), "start": floats(2, 4, seed=1), "n": trips(n)} for n in (0, 1, 5))
    )


@pytest.mark.parametrize("append", ["a", "step, a", "half"])
def test_cache_that_is_appended_to_itself(append: str) -> None:
    """What is appended reads the memory that it is written to."""
    more = (
        ""
        if append != "half"
        else "one = Constant<value = int64[1] {1}>() zero = Constant<value = int64[1] {0}>() half = Slice(a, zero, one)"
    )
    graph = typed(cache("t,4", 0, append=append), 2).replace("ao = Concat", more + " ao = Concat")
    assert grown(graph) == 0
    assert_same(
        graph, *({"x": floats(2, 4), "start": floats(2, 4, seed=1), "n": trips(n)} for n in (0, 1, 4))
    )


def test_cache_that_goes_before_what_is_appended_is_copied() -> None:
    graph = typed(cache("t,4", 0), 2).replace("(a, step)", "(step, a)")
    assert grown(graph) == 0
    assert_same(
        graph, *({"x": floats(2, 4), "start": floats(2, 4, seed=1), "n": trips(n)} for n in (0, 1, 5))
    )


@pytest.mark.parametrize("dims", ["1,t,4", "2,t,4"])
def test_old_value_is_read_beside_the_new_one(dims: str) -> None:
    """Sums and products of both, and a scan output of the last row."""
    b = dims[0]
    graph = f"""g (float[{b},1,4] x, float[{b},t,4] start, int64 n) => (float[{b},u,4] y, float[s] sums) {{
        y, sums = Loop(n, , start) <body = b (int64 i, bool k, float[{b},u,4] a) => (bool ko, float[{b},v,4] ao, float s) {{
            {ON} f = Cast<to = 1>(i) moved = Add(x, f) step = Tanh(moved)
            before = ReduceSum<keepdims = 0>(a)
            ao = Concat<axis = 1>(a, step)
            after = ReduceSum<keepdims = 0>(ao)
            again = ReduceMin<keepdims = 0>(a)
            t = Transpose<perm = [0, 2, 1]>(ao)
            square = MatMul(ao, t)
            most = ReduceMax<keepdims = 0>(square)
            ba = Sub(after, before) c = Add(ba, again) s = Add(c, most)
        }}>
    }}"""
    feeds = [
        {"x": floats(int(b), 1, 4), "start": floats(int(b), t, 4, seed=1), "n": trips(n)}
        for t, n in ((1, 3), (5, 40), (1, 0), (1, 50))
    ]
    assert_same(graph, *feeds, rtol=2e-5, atol=2e-5)


def test_caches_that_start_from_one_value() -> None:
    graph = f"""g (float[1,t,4] x, int64 n) => (float[1,u,4] y, float[1,v,4] z, float[1,t,4] w) {{
        start = Exp(x)
        y, z = Loop(n, , start, start) <body = b (int64 i, bool k, float[1,u,4] a, float[1,v,4] d)
            => (bool ko, float[1,p,4] ao, float[1,q,4] dd) {{
            {ON} one = Neg(x) two = Abs(x) ao = Concat<axis = 1>(a, one) dd = Concat<axis = 1>(d, two) }}>
        w = Neg(start)
    }}"""
    assert grown(graph) == 2
    assert_same(graph, *({"x": floats(1, 3, 4), "n": trips(n)} for n in (0, 1, 3, 50)))


@pytest.mark.parametrize("dims", ["1,t,4", "2,t,4"])
def test_grown_value_is_used_after_the_loop(dims: str) -> None:
    b = dims[0]
    graph = f"""g (float[{dims}] x, int64 n) => (float[{b},u,4] y, float[{b},4,u] z, float[{b},u,4] w) {{
        y = Loop(n, , x) <body = b (int64 i, bool k, float[{b},u,4] a) => (bool ko, float[{b},p,4] ao) {{
            {ON} one = Neg(x) ao = Concat<axis = 1>(a, one) }}>
        z = Transpose<perm = [0, 2, 1]>(y)
        w = Exp(y)
    }}"""
    assert grown(graph) == 1
    assert_same(graph, *({"x": floats(int(b), 3, 4), "n": trips(n)} for n in (0, 1, 3, 50)))


def test_length_of_what_is_appended_is_only_known_within_the_iteration() -> None:
    """Room can't be made for it when the iteration begins."""
    graph = f"""g (float[t] x, int64 n) => (float[u] y) {{
        zero = Constant<value = float {{0.0}}>()
        y = Loop(n, , x) <body = b (int64 i, bool k, float[u] a) => (bool ko, float[v] ao) {{
            {ON} f = Cast<to = 1>(i) s = Add(x, f) m = Greater(s, zero) part = Compress<axis = 0>(s, m)
            ao = Concat<axis = 0>(a, part) }}>
    }}"""
    assert grown(graph) == 0
    assert_same(graph, *({"x": floats(t), "n": trips(n)} for t, n in ((3, 3), (0, 2), (500, 20), (7, 0))))


@pytest.mark.parametrize("b", [1, 2])
def test_turned_look_at_the_cache_is_carried_too(b: int) -> None:
    graph = f"""g (float[{b},1,4] x, int64 n) => (float[{b},u,4] y, float[{b},4,v] z, float[{b},4] total) {{
        xt = Transpose<perm = [0, 2, 1]>(x)
        ax = Constant<value = int64[1] {{2}}>()
        first = ReduceSum<keepdims = 0>(xt, ax)
        y, z, total = Loop(n, , x, xt, first) <body = b (int64 i, bool k, float[{b},u,4] a, float[{b},4,v] d, float[{b},4] e)
            => (bool ko, float[{b},p,4] ao, float[{b},4,q] dd, float[{b},4] eo) {{
            {ON} step = Neg(x) ao = Concat<axis = 1>(a, step) dd = Transpose<perm = [0, 2, 1]>(ao)
            w = Softmax<axis = 1>(d) sum = ReduceSum<keepdims = 0>(w, ax) eo = Add(e, sum) }}>
    }}"""
    assert_same(graph, *({"x": floats(b, 1, 4), "n": trips(n)} for n in (0, 1, 2, 20)), rtol=1e-5)


@pytest.mark.parametrize("b", [1, 2])
@pytest.mark.parametrize("captured", ["a", "ao", "turned"])
def test_body_in_the_body_captures_the_cache(b: int, captured: str) -> None:
    graph = f"""g (float[{b},1,4] x, int64 n) => (float[{b},u,4] y, float[s] sums) {{
        y, sums = Loop(n, , x) <body = b (int64 i, bool k, float[{b},u,4] a) => (bool ko, float[{b},v,4] ao, float s) {{
            {ON} f = Cast<to = 1>(i) moved = Add(x, f) step = Tanh(moved)
            ao = Concat<axis = 1>(a, step)
            turned = Transpose<perm = [0, 2, 1]>(ao)
            w = Constant<value = float[4] {{1.0, 10.0, 100.0, 1000.0}}>()
            two = Constant<value = int64 {{2}}>() late = Greater(i, two)
            s = If(late) <
                then_branch = t () => (float ts) {{ sm = Softmax<axis = 1>({captured}) sq = Mul(sm, sm) ts = ReduceSum<keepdims = 0>(sq) }},
                else_branch = e () => (float es) {{ es = ReduceSum<keepdims = 0>({captured}) }}>
        }}>
    }}"""
    assert_same(graph, *({"x": floats(b, 1, 4), "n": trips(n)} for n in (0, 1, 7)), rtol=1e-5, atol=1e-5)


def test_cache_of_a_loop_in_a_loop() -> None:
    graph = """g (float[2,1,4] x, int64 n, int64 m) => (float[2,u,4] y, float[s] sizes) {
        y, sizes = Loop(n, , x) <body = outer (int64 i, bool k, float[2,u,4] a) => (bool ko, float[2,v,4] ao, float s) {
            ko = Identity(k)
            z = Loop(m, , a) <body = inner (int64 j, bool h, float[2,p,4] e) => (bool ho, float[2,q,4] eo) {
                ho = Identity(h) f = Cast<to = 1>(j) moved = Add(x, f) step = Tanh(moved) eo = Concat<axis = 1>(e, step) }>
            ao = Concat<axis = 1>(a, x)
            s = ReduceSum<keepdims = 0>(z)
        }>
    }"""
    assert grown(graph) == 2
    feeds = [
        {"x": floats(2, 1, 4), "n": trips(n), "m": trips(m)} for n, m in ((2, 3), (0, 3), (3, 0), (20, 20))
    ]
    assert_same(graph, *feeds, rtol=1e-4, atol=1e-4)
