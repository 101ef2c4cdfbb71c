"""If, Loop and Scan: bodies with sizes, captures and outputs of all kinds."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.errors import ExecutionError
from graphopt.runtime import InferenceSession
from tests.lowering.comparing import assert_same, parsed


def floats(*dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


def trips(n: int) -> np.ndarray:
    return np.array(n, np.int64)


HEAD = "int64 i, bool k"
ON = "ko = Identity(k)"


def test_if_whose_branches_have_other_shapes() -> None:
    graph = """g (bool c, float[N,3] x, float[M] w) => (float[p,q] y, float[r] z) {
        y, z = If(c) <
            then_branch = t () => (float[a,b] ty, float[e] tz) { ty = Neg(x) tz = Exp(w) },
            else_branch = f () => (float[d,h] fy, float[e] fz) { xt = Transpose(x) fy = Concat<axis=1>(xt, xt) fz = Identity(w) }>
    }"""
    x, w = floats(2, 3), floats(4)
    assert_same(graph, *({"c": np.array(c), "x": x, "w": w} for c in (True, False, True)))


def test_if_whose_branches_have_other_ranks() -> None:
    graph = """g (bool c, float[N] x) => (float y) {
        v = If(c) <then_branch = t () => (float[N] ty) { ty = Neg(x) },
                   else_branch = f () => (float[1,N] fy) { ax = Constant<value = int64[1] {0}>() fy = Unsqueeze(x, ax) }>
        y = Abs(v)
    }"""
    model = parsed(graph)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    assert_same(model, {"c": np.array(True), "x": floats(3)}, {"c": np.array(False), "x": floats(2)})


def test_if_that_hands_on_captures_views_and_constants() -> None:
    graph = """g (bool c, float[2,3] x) => (float[p,q] y, float[p,q] z, float[a] v)
        <float[2] w = {1.5, 2.5}> {
        t = Transpose(x)
        e = Exp(x)
        y, z, v = If(c) <
            then_branch = b1 () => (float[3,2] y1, float[2,3] z1, float[2] v1) { y1 = Identity(t) z1 = Identity(x) v1 = Identity(w) },
            else_branch = b2 () => (float[2,3] y2, float[2,3] z2, float[1] v2) { y2 = Identity(e) z2 = Identity(e) v2 = Constant<value = float[1] {7.0}>() }>
    }"""
    assert_same(graph, *({"c": np.array(c), "x": floats(2, 3)} for c in (True, False)))


@pytest.mark.parametrize("returned", ["c", "x", "t", "w", "a", "d"])
def test_loop_body_that_returns_an_input_or_a_capture(returned: str) -> None:
    graph = f"""g (float[2,2] x, int64 n) => (float[2,2] y, float[2,2] z, float[s,2,2] u)
        <float[2,2] w = {{1.0, 2.0, 3.0, 4.0}}> {{
        c = Neg(x)
        t = Transpose(x)
        y, z, u = Loop(n, , x, c) <body = b ({HEAD}, float[2,2] a, float[2,2] d)
            => (bool ko, float[2,2] ao, float[2,2] dd, float[2,2] s) {{
            {ON}
            ct = Add(c, t)
            ctw = Mul(ct, w)
            ao = Sub(a, ctw)
            dd = Identity({returned})
            s = Add(a, d)
        }}>
    }}"""
    assert_same(graph, *({"x": floats(2, 2), "n": trips(n)} for n in (3, 0, 1)))


def test_loop_body_whose_scan_output_is_a_capture() -> None:
    graph = f"""g (float[N] x, int64 n) => (float[s,N] u, float[s,N] v) {{
        c = Neg(x)
        u, v = Loop(n, ) <body = b ({HEAD}) => (bool ko, float[N] s1, float[N] s2) {{ {ON} s1 = Identity(c) s2 = Identity(x) }}>
    }}"""
    model = parsed(graph)
    model.graph.node[1].input.append("")
    del model.graph.node[1].input[2:]
    assert_same(model, {"x": floats(3), "n": trips(4)}, {"x": floats(2), "n": trips(1)})


def test_loop_that_swaps_its_values() -> None:
    graph = f"""g (float[N] x, float[N] w, int64 n) => (float[N] y, float[N] z) {{
        y, z = Loop(n, , x, w) <body = b ({HEAD}, float[N] a, float[N] d) => (bool ko, float[N] o1, float[N] o2)
            {{ {ON} o1 = Identity(d) o2 = Identity(a) }}>
    }}"""
    assert_same(graph, *({"x": floats(3), "w": floats(3, seed=1), "n": trips(n)} for n in (0, 1, 2, 5)))


def test_loop_that_returns_one_value_twice() -> None:
    graph = f"""g (float[N] x, int64 n) => (float[N] y, float[N] z) {{
        y, z = Loop(n, , x, x) <body = b ({HEAD}, float[N] a, float[N] d) => (bool ko, float[N] s, float[N] s)
            {{ {ON} s = Add(a, d) }}>
    }}"""
    assert_same(graph, *({"x": floats(3), "n": trips(n)} for n in (0, 1, 5)))


def test_loop_that_its_condition_ends() -> None:
    graph = """g (float x, bool go, int64 n) => (float y, float[s] ys) {
        y, ys = Loop(n, go, x) <body = b (int64 i, bool k, float a) => (bool ko, float ao, float s) {
            two = Constant<value = float {2.0}>() hundred = Constant<value = float {100.0}>()
            ao = Mul(a, two) ko = Less(ao, hundred) s = Identity(ao) }>
    }"""
    feeds = [
        {"x": np.array(x, np.float32), "go": np.array(go), "n": trips(n)}
        for x, go, n in ((1, True, 50), (1, True, 3), (70, True, 9), (1, False, 9), (1, True, 0))
    ]
    assert_same(graph, *feeds)


def test_loop_without_a_trip_count() -> None:
    graph = """g (float[N] x) => (float[N] y) {
        y = Loop( , , x) <body = b (int64 i, bool k, float[N] a) => (bool ko, float[N] ao) {
            six = Constant<value = int64 {6}>() ko = Less(i, six) ao = Add(a, x) }>
    }"""
    assert_same(graph, {"x": floats(4)}, {"x": floats(0)})


def test_loop_in_a_loop_with_captures_of_both() -> None:
    graph = """g (float[N,2] x, int64 n, int64 m) => (float[N,2] y, float[s,r,N,2] ys) {
        c = Exp(x)
        y, ys = Loop(n, , x) <body = outer (int64 i, bool k, float[N,2] a) => (bool ko, float[N,2] ao, float[r,N,2] stacked) {
            ko = Identity(k)
            d = Tanh(a)
            ao, stacked = Loop(m, , a) <body = inner (int64 j, bool h, float[N,2] e) => (bool ho, float[N,2] eo, float[N,2] so) {
                ho = Identity(h)
                ij = Add(i, j)
                f = Cast<to = 1>(ij)
                cd = Mul(c, d)
                p = Mul(cd, f)
                eo = Add(e, p)
                so = Sub(eo, x)
            }>
        }>
    }"""
    x = floats(3, 2) / 4
    assert_same(graph, *({"x": x, "n": trips(n), "m": trips(m)} for n, m in ((2, 3), (1, 1), (3, 2))))


def test_loop_without_iterations_whose_scan_output_has_known_dims() -> None:
    graph = f"""g (float[N,3] x, int64 n) => (float[N,3] y, float[s,3,N] ys) {{
        y, ys = Loop(n, , x) <body = b ({HEAD}, float[N,3] a) => (bool ko, float[N,3] ao, float[3,N] t)
            {{ {ON} ao = Neg(a) t = Transpose(a) }}>
    }}"""
    assert_same(graph, *({"x": floats(2, 3), "n": trips(n)} for n in (2, 0, 3, -1)))


def test_loop_without_iterations_whose_scan_output_has_unknown_dims_is_empty_every_time() -> None:
    graph = f"""g (float[N] x, int64 n) => (float[N] y, float[s,q] ys) {{
        y, ys = Loop(n, , x) <body = b ({HEAD}, float[N] a) => (bool ko, float[N] ao, float[q] t) {{
            {ON} ao = Identity(a)
            zero = Constant<value = float {{0.0}}>() m = Greater(x, zero) t = Compress<axis = 0>(x, m) }}>
    }}"""
    session = InferenceSession(parsed(graph), optimize=False)
    x = np.array([1, -1, 2], np.float32)
    assert session.run(["ys"], {"x": x, "n": trips(0)})[0].shape == (0, 0)
    assert session.run(["ys"], {"x": x, "n": trips(2)})[0].shape == (2, 2)
    assert session.run(["ys"], {"x": x, "n": trips(0)})[0].shape == (0, 0)


def test_slices_of_other_dims_are_refused() -> None:
    graph = f"""g (float[N] x, int64 n) => (float[s,q] ys) {{
        y, ys = Loop(n, , x) <body = b ({HEAD}, float[p] a) => (bool ko, float[r] ao, float[p] t)
            {{ {ON} ao = Concat<axis = 0>(a, x) t = Neg(a) }}>
    }}"""
    session = InferenceSession(parsed(graph), optimize=False)
    with pytest.raises(ExecutionError, match="slices of dims 2 and 4 are stacked"):
        session.run(None, {"x": floats(2), "n": trips(2)})


@pytest.mark.parametrize("axis", [0, 1, -1])
@pytest.mark.parametrize("direction", [0, 1])
def test_scan(axis: int, direction: int) -> None:
    graph = f"""g (float[2] s, float[A,B] x, float[A,B] w) => (float[2] so, float[p,q] ys, float[p,q] zs) {{
        so, ys, zs = Scan<num_scan_inputs = 2, scan_input_axes = [{axis}, {axis}],
            scan_input_directions = [{direction}, 0], scan_output_axes = [0, {axis}],
            scan_output_directions = [{direction}, {1 - direction}],
            body = b (float[2] a, float[h] xi, float[h] wi) => (float[2] ao, float[h] y, float[h] z) {{
                total = ReduceSum<keepdims = 0>(xi)
                ao = Add(a, total)
                y = Mul(xi, wi)
                last = ReduceMax<keepdims = 0>(ao)
                z = Sub(xi, last)
            }}>(s, x, w)
    }}"""
    dims = ((3, 4), (1, 5), (4, 1))
    assert_same(graph, *({"s": floats(2), "x": floats(*d), "w": floats(*d, seed=1)} for d in dims), rtol=1e-5)


def test_scan_of_inputs_of_other_lengths_is_refused() -> None:
    graph = """g (float[A] x, float[B] w) => (float[p] ys) {
        ys = Scan<num_scan_inputs = 2, body = b (float xi, float wi) => (float y) { y = Add(xi, wi) }>(x, w)
    }"""
    assert_same(graph, {"x": floats(3), "w": floats(3)})
    session = InferenceSession(parsed(graph), optimize=False)
    assert session.run(None, {"x": floats(0), "w": floats(0)})[0].shape == (0,)
    with pytest.raises(ExecutionError, match="inputs of 3 and 2 slices"):
        session.run(None, {"x": floats(3), "w": floats(2)})


def test_sequences_that_loops_carry() -> None:
    graph = f"""g (float[N] x, int64 n) => (float[p] y, int64 size, seq(float[r]) parts) {{
        empty = SequenceConstruct(x)
        last, parts = Loop(n, , x, empty) <body = b ({HEAD}, float[p] a, seq(float[r]) s)
            => (bool ko, float[q] ao, seq(float[r]) so) {{ {ON} ao = Concat<axis = 0>(a, x) so = SequenceInsert(s, a) }}>
        size = SequenceLength(parts)
        y = ConcatFromSequence<axis = 0>(parts)
    }}"""
    assert_same(graph, *({"x": floats(2), "n": trips(n)} for n in (0, 1, 3)))


def test_loop_in_a_branch_and_a_branch_in_a_loop() -> None:
    graph = f"""g (float[N] x, int64 n, bool c) => (float[p] y) {{
        y = If(c) <then_branch = t () => (float[p] ty) {{
            ty = Loop(n, , x) <body = b ({HEAD}, float[p] a) => (bool ko, float[q] ao) {{
                {ON}
                one = Constant<value = int64 {{1}}>()
                is_late = Greater(i, one)
                ao = If(is_late) <then_branch = late () => (float[q] l) {{ l = Concat<axis = 0>(a, x) }},
                                  else_branch = early () => (float[q] e) {{ e = Add(a, a) }}>
            }}>
        }}, else_branch = f () => (float[p] fy) {{ fy = Neg(x) }}>
    }}"""
    cases = ((3, True), (0, True), (5, True), (2, False), (4, True))
    assert_same(graph, *({"x": floats(2), "n": trips(n), "c": np.array(c)} for n, c in cases))


def test_conditions_and_counts_that_are_vectors_of_one() -> None:
    graph = """g (float[N] v, int64[1] n, bool[1] c) => (float[N] z) {
        z = Loop(n, c, v) <body = b (int64 i, bool[1] k, float[N] a) => (bool[1] ko, float[N] ao)
            { ko = Identity(k) ao = Neg(a) }>
    }"""
    assert_same(graph, *({"v": floats(3), "n": np.array([3]), "c": np.array([c])} for c in (True, False)))


def test_loop_around_a_value_that_turns() -> None:
    graph = f"""g (float[A,B] x, int64 n) => (float[p,q] y) {{
        y = Loop(n, , x) <body = b ({HEAD}, float[p,q] a) => (bool ko, float[q,p] ao) {{ {ON} e = Transpose(a) ao = Neg(e) }}>
    }}"""
    assert_same(graph, *({"x": floats(2, 3), "n": trips(n)} for n in (0, 1, 2, 3)))
    graph = graph.replace("e = Transpose(a) ao = Neg(e)", "ao = Transpose(a)")
    assert_same(graph, *({"x": floats(2, 3), "n": trips(n)} for n in (0, 1, 2, 3)))
