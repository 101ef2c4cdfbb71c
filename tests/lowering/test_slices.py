"""Results that are made where a copy would bring them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.lowering.comparing import assert_same, instructions, parsed, program


def floats(*dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


def kernels(graph: str) -> list[str]:
    return [i.kernel for i in instructions(program(graph))]


def written_to(graph: str) -> set[int]:
    """Roots that instructions write parts of."""
    main = program(graph).main
    outputs = [o for i in main.instructions for o in i.outputs]
    return {main.root(o) for o in outputs if main.registers[o].base >= 0}


@pytest.mark.parametrize("axis", [0, 1, 2, -1])
def test_operands_of_concat_are_made_in_their_place(axis: int) -> None:
    graph = f"""g (float[A,B,C] x, float[A,B,C] w) => (float[p,q,r] y) {{
        a = Tanh(x) d = Exp(w) y = Concat<axis = {axis}>(a, d, x) }}"""
    assert sorted(kernels(graph)) == ["copy", "elementwise", "elementwise"]
    assert len(written_to(graph)) == 1
    dims = ((2, 3, 4), (1, 1, 1), (0, 3, 2), (2, 0, 3))
    assert_same(graph, *({"x": floats(*d), "w": floats(*d, seed=1)} for d in dims))


def test_operand_that_others_read_is_copied() -> None:
    graph = """g (float[A,B] x) => (float[A,q] y, float[A,B] z) {
        a = Tanh(x) z = Sin(a) y = Concat<axis = 1>(a, x) }"""
    assert kernels(graph).count("copy") + kernels(graph).count("concat") > 0
    assert_same(graph, {"x": floats(2, 3)}, {"x": floats(1, 1)})


def test_operand_that_is_an_output_is_copied() -> None:
    graph = "g (float[A,B] x) => (float[A,q] y, float[A,B] a) { a = Tanh(x) y = Concat<axis = 1>(a, x) }"
    assert "concat" in kernels(graph)
    assert_same(graph, {"x": floats(2, 3)})


def test_operand_twice() -> None:
    graph = "g (float[A,B] x) => (float[A,q] y) { a = Tanh(x) y = Concat<axis = 1>(a, a) }"
    assert_same(graph, {"x": floats(2, 3)}, {"x": floats(3, 1)})


def test_concat_of_inputs_stays() -> None:
    graph = "g (float[A,B] x, float[A,C] w) => (float[A,q] y) { y = Concat<axis = 1>(x, w, x) }"
    assert kernels(graph) == ["concat"]
    assert_same(graph, {"x": floats(2, 3), "w": floats(2, 1)}, {"x": floats(2, 0), "w": floats(2, 0)})


def test_concat_in_concat() -> None:
    graph = """g (float[A,B] x) => (float[p,q] y) {
        a = Tanh(x) d = Exp(x) e = Concat<axis = 1>(a, d) f = Neg(e) h = Sin(e) y = Concat<axis = 0>(f, e, h) }"""
    assert_same(graph, {"x": floats(2, 3)}, {"x": floats(1, 1)}, {"x": floats(0, 2)})


def test_place_is_not_made_before_its_size_is_known() -> None:
    """The first operand is there before the second one tells how long the result is."""
    graph = """g (float[N] x, float[M] w) => (float[r] y, float t) {
        zero = Constant<value = float {0.0}>()
        a = Tanh(x) m = Greater(w, zero) d = Compress<axis = 0>(w, m) e = Sin(d)
        c = Concat<axis = 0>(a, e)
        s = Softmax<axis = 0>(c) y = Sub(c, s) t = ReduceMax<keepdims = 0>(c)
    }"""
    feeds = [
        {"x": floats(n), "w": np.float32(w)}
        for n, w in ((3, [1, 2, -1]), (3, [-1] * 9), (3, [1] * 500), (4, [2]))
    ]
    assert_same(graph, *feeds)


def test_product_into_a_part() -> None:
    graph = """g (float[A,8] x, float[A,4] z) => (float[A,12] y) { a = MatMul(x, w) y = Concat<axis = 1>(z, a) }"""
    graph = graph.replace(
        "(float[A,12] y)", f"(float[A,12] y) <float[8,8] w = {{{', '.join(f'{v:.3f}' for v in floats(64))}}}>"
    )
    assert_same(graph, *({"x": floats(n, 8), "z": floats(n, 4, seed=1)} for n in (1, 5, 0)), rtol=1e-5)


def joined(*parts: str) -> onnx.ModelProto:
    """The image x [N, 4, H, W] is convolved to a; the parts are joined along the channels and convolved."""
    made = parsed(
        f"""g (float[N,4,H,W] x) => (float[p,q,r,s] y) {{
        a = Conv<pads = [1,1,1,1]>(x, w)
        m = MaxPool<kernel_shape = [3,3], pads = [1,1,1,1]>(a) t = Relu(a)
        c = Concat<axis = 1>({", ".join(parts)}) y = Conv(c, v) }}"""
    )
    channels = sum(4 if part == "x" else 6 for part in parts)
    for name, dims in (("w", (6, 4, 3, 3)), ("v", (5, channels, 1, 1))):
        made.graph.initializer.append(onnx.numpy_helper.from_array(floats(*dims), name))
    return made


def test_channels_stay_innermost() -> None:
    """Who makes the parts writes them side by side, whatever their order in memory; nothing is copied."""
    made = joined("m", "t")
    assert [i.kernel for i in instructions(program(made))] == [
        "conv.direct",
        "pool",
        "elementwise",
        "conv.direct",
    ]
    assert [i.kernel for i in instructions(program(joined("m", "a")))].count(
        "copy"
    ) == 1  # which the pool reads too
    feeds = [{"x": floats(*d)} for d in ((2, 4, 7, 5), (1, 4, 1, 1), (1, 4, 30, 1))]
    assert_same(made, *feeds, rtol=1e-4, atol=1e-4)


def test_parts_that_lie_otherwise_are_joined_row_major() -> None:
    assert_same(joined("a", "x", "m"), {"x": floats(2, 4, 7, 5)}, rtol=1e-4, atol=1e-4)


def test_sequence_and_branch_results_are_copied() -> None:
    graph = """g (float[A] x, bool c) => (float[p] y) {
        s = SequenceConstruct(x, x) i = Constant<value = int64 {1}>() a = SequenceAt(s, i)
        d = If(c) <then_branch = t () => (float[A] ty) { ty = Neg(x) }, else_branch = e () => (float[A] ey) { ey = Exp(x) }>
        f = Tanh(x)
        y = Concat<axis = 0>(a, d, f) }"""
    assert_same(graph, *({"x": floats(n), "c": np.array(c)} for n, c in ((2, True), (3, False), (0, True))))
