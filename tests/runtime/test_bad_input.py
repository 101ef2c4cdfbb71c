"""What does not fit is an exception that names the node, its operator and the real shapes; never a crash."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import parser

from graphopt.errors import ExecutionError, ModelError
from graphopt.runtime import InferenceSession, RunOptions

LIMITS = RunOptions(memory_limit_bytes=1 << 30, iteration_limit=1000)

Feeds = dict[str, object]


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


def ints(*numbers: int) -> np.ndarray:
    return np.array(numbers, np.int64)


# Name of the node, what of the message is checked, graph, inputs.
REFUSED: list[tuple[str, str, str, Feeds]] = [
    # Indices from data and from constants.
    (
        "pick",
        r"gather.*index 3 .*float32\[3,4\]",
        "g (float[N,4] x, int64[M] i) => (float[M,4] y) { [pick] y = Gather(x,i) }",
        {"x": ones(3, 4), "i": ints(0, 3)},
    ),
    (
        "pick",
        r"gather.*index 0 .*float32\[0,4\]",
        "g (float[N,4] x) => (float[4] y) <int64 i = {0}> { [pick] y = Gather(x,i) }",
        {"x": ones(0, 4)},
    ),
    (
        "pick",
        r"gather.*index -1 .*float32\[2,0\]",
        "g (float[N,M] x) => (float[N] y) <int64 i = {-1}> { [pick] y = Gather<axis=1>(x,i) }",
        {"x": ones(2, 0)},
    ),
    (
        "pick",
        r"index 9 .*float32\[3,4\]",
        "g (float[N,4] x, int64[M,4] i) => (float[M,4] y) { [pick] y = GatherElements(x,i) }",
        {"x": ones(3, 4), "i": np.full((1, 4), 9)},
    ),
    (
        "pick",
        r"index 7 .*float32\[3,4\]",
        "g (float[N,4] x, int64[M,1] i) => (float[M,4] y) { [pick] y = GatherND(x,i) }",
        {"x": ones(3, 4), "i": ints(7).reshape(1, 1)},
    ),
    (
        "put",
        r"index 7 .*float32\[3,4\]",
        "g (float[N,4] x, int64[M,1] i, float[M,4] u) => (float[N,4] y) { [put] y = ScatterND(x,i,u) }",
        {"x": ones(3, 4), "i": ints(7).reshape(1, 1), "u": ones(1, 4)},
    ),
    (
        "put",
        r"index -9 .*float32\[3,4\]",
        "g (float[N,4] x, int64[M,4] i, float[M,4] u) => (float[N,4] y) { [put] y = ScatterElements(x,i,u) }",
        {"x": ones(3, 4), "i": np.full((1, 4), -9), "u": ones(1, 4)},
    ),
    (
        "put",
        r"updates \[1,4\]",
        "g (float[N,4] x, int64[M,1] i, float[K,4] u) => (float[N,4] y) { [put] y = ScatterND(x,i,u) }",
        {"x": ones(3, 4), "i": ints(1, 2).reshape(2, 1), "u": ones(1, 4)},
    ),
    (
        "turn",
        "length 9 of 2",
        "g (float[T,N] x, int64[N] l) => (float[T,N] y) { [turn] y = ReverseSequence(x,l) }",
        {"x": ones(2, 3), "l": ints(9, 2, 1)},
    ),
    # Sizes from data: negative, too large, not fitting.
    *[
        (
            "shape",
            message,
            "g (float[N,4] x, int64[2] s) => (float[A,B] y) { [shape] y = Reshape(x,s) }",
            {"x": ones(3, 4), "s": ints(*sizes)},
        )
        for sizes, message in (
            ((5, -1), r"\[3,4\] can't be reshaped"),
            ((-1, -1), "dim 1 is -1"),
            ((-3, -4), "dim 0 is -3"),
            ((2**62, 2**62), "too many elements"),
        )
    ],
    (
        "shape",
        r"\[3,4\] can't be reshaped to \[1,7\]",
        "g (float[N,4] x) => (float[A,7] y) <int64[2] s = {-1,7}> { [shape] y = Reshape(x,s) }",
        {"x": ones(3, 4)},
    ),
    *[
        (
            "wide",
            message,
            "g (float[N,1] x, int64[2] s) => (float[A,B] y) { [wide] y = Expand(x,s) }",
            {"x": ones(3, 1), "s": ints(*sizes)},
        )
        for sizes, message in (
            ((2, 4), "3 of"),
            ((3, -5), "negative: -5"),
            ((3, 2**62), "too many elements"),
            ((3, 2**40), "over the limit of 1073741824"),
        )
    ],
    *[
        (
            "filled",
            message,
            "g (int64[2] s) => (float[A,B] y) { [filled] y = ConstantOfShape(s) }",
            {"s": ints(*sizes)},
        )
        for sizes, message in (
            ((2, -1), "dim 1 is -1"),
            ((2**40, 2**40), "too many elements"),
            ((2**21, 2**21), "over the limit of 1073741824"),
        )
    ],
    *[
        (
            "tiled",
            message,
            "g (float[N,4] x, int64[2] s) => (float[A,B] y) { [tiled] y = Tile(x,s) }",
            {"x": ones(3, 4), "s": ints(*sizes)},
        )
        for sizes, message in (
            ((-1, 1), "repeated -1 times"),
            ((2**62, 8), "repeated"),
            ((2**61, 8), "elements"),
        )
    ],
    *[
        (
            "padded",
            message,
            f'g (float[N,4] x, int64[P] p) => (float[A,B] y) {{ [padded] y = Pad<mode="{mode}">(x,p) }}',
            {"x": ones(3, 4), "p": ints(*pads)},
        )
        for mode, pads, message in (
            ("constant", (-4, 0, 0, 0), r"axis 0 of \[3,4\] is padded by -4 and 0"),
            ("constant", (2**62, 0, 2**62, 0), "is padded by"),
            ("constant", (2**57 + 5, 0, -(2**57), 0), "is padded by"),
            ("constant", (1, 1, 1), "3 pads for 2 axes"),
        )
    ],
    *[
        (
            "cut",
            message,
            "g (float[N,4] x, int64[1] a, int64[P] b, int64[1] c, int64[1] d) => (float[A,B] y)"
            " { [cut] y = Slice(x,a,b,c,d) }",
            {"x": ones(3, 4), "a": ints(0), "b": ints(*ends), "c": ints(axis), "d": ints(step)},
        )
        for ends, axis, step, message in (
            ((2,), 0, 0, "the step along axis 0 is 0"),
            ((2,), 5, 1, "axis 5 of rank 2"),
            ((2, 3), 0, 1, "1 starts and 2 ends"),
        )
    ],
    *[
        (
            "parts",
            message,
            "g (float[N,4] x, int64[2] s) => (float[A,B] y, float[C,D] z) { [parts] y,z = Split(x,s) }",
            {"x": ones(3, 4), "s": ints(*sizes)},
        )
        for sizes, message in (
            ((1, 1), r"axis 0 of \[3,4\] is split into 2"),
            ((-1, 4), "size -1"),
            ((2**63 - 1, 2**63 - 1), "part 0 of a split has size 9223372036854775807, of 3 that are left"),
        )
    ],
    *[
        (
            "steps",
            message,
            "g (int64 a, int64 b, int64 c) => (int64[N] y) { [steps] y = Range(a,b,c) }",
            {"a": a, "b": b, "c": c},
        )
        for a, b, c, message in ((0, 5, 0, "steps of 0"), (0, 2**62, 1, "too large"))
    ],
    *[
        (
            "best",
            message,
            "g (float[N,4] x, int64[1] k) => (float[A,B] y, int64[A,B] i) { [best] y,i = TopK(x,k) }",
            {"x": ones(3, 4), "k": ints(k)},
        )
        for k, message in ((9, "9 of 4"), (-1, "-1"))
    ],
    *[
        (
            "grown",
            message,
            "g (float[N,C,H,W] x, float[4] s) => (float[A,B,D,E] y) { [grown] y = Resize(x,,s) }",
            {"x": ones(1, 1, 2, 2), "s": np.array([1, 1, scale, scale], np.float32)},
        )
        for scale, message in ((-1, "negative"), (1e18, "too many elements"), (np.nan, "negative"))
    ],
    (
        "hot",
        "depth of -5",
        "g (int64[N] i, int64 d, float[2] v) => (float[N,D] y) { [hot] y = OneHot(i,d,v) }",
        {"i": ints(0, 1), "d": -5, "v": ones(2)},
    ),
    # Shapes that do not go together.
    (
        "joined",
        r"float32\[3,4\] float32\[2,5\]",
        "g (float[N,4] x, float[M,K] z) => (float[A,B] y) { [joined] y = Concat<axis=0>(x,z) }",
        {"x": ones(3, 4), "z": ones(2, 5)},
    ),
    (
        "product",
        r"float32\[3,4\] float32\[5,2\]",
        "g (float[N,K] x, float[M,P] z) => (float[A,B] y) { [product] y = MatMul(x,z) }",
        {"x": ones(3, 4), "z": ones(5, 2)},
    ),
    (
        "product",
        "3 columns are added to a product of 2",
        "g (float[N,K] x, float[M,P] z, float[Q] c) => (float[A,B] y) { [product] y = Gemm(x,z,c) }",
        {"x": ones(3, 4), "z": ones(4, 2), "c": ones(3)},
    ),
    (
        "sum",
        r"dims 4 and 3 do not broadcast.*float32\[3,4\] float32\[3,3\]",
        "g (float[N,K] x, float[M,P] z) => (float[A,B] y) { [sum] y = Add(x,z) }",
        {"x": ones(3, 4), "z": ones(3, 3)},
    ),
    (
        "choice",
        r"dims 4 and 3 do not broadcast.*bool\[3\] float32\[4\]",
        "g (bool[N] c, float[K] x, float[M] z) => (float[A] y) { [choice] y = Where(c,x,z) }",
        {"c": np.ones(3, bool), "x": ones(4), "z": ones(1)},
    ),
    (
        "filter",
        "conv.*2 channels.*3 channels",
        "g (float[N,C,H,W] x, float[4,3,3,3] w) => (float[N,4,A,B] y) { [filter] y = Conv(x,w) }",
        {"x": ones(1, 2, 8, 8), "w": ones(4, 3, 3, 3)},
    ),
    (
        "filter",
        r"conv.*dim 2 is negative: -1.*float32\[1,3,1,8\]",
        "g (float[N,C,H,W] x, float[4,3,3,3] w) => (float[N,4,A,B] y) { [filter] y = Conv(x,w) }",
        {"x": ones(1, 3, 1, 8), "w": ones(4, 3, 3, 3)},
    ),
    (
        "largest",
        r"dim 2 is negative: -1.*float32\[1,3,1,8\]",
        "g (float[N,C,H,W] x) => (float[N,C,A,B] y) { [largest] y = MaxPool<kernel_shape=[3,3]>(x) }",
        {"x": ones(1, 3, 1, 8)},
    ),
    (
        "narrow",
        r"\[3,4\] can't be reshaped",
        "g (float[N,M] x) => (float[M] y) <int64[1] a = {0}> { [narrow] y = Squeeze(x,a) }",
        {"x": ones(3, 4)},
    ),
    (
        "deep",
        "blocks of 2",
        "g (float[N,C,H,W] x) => (float[A,B,D,E] y) { [deep] y = DepthToSpace<blocksize=2>(x) }",
        {"x": ones(1, 3, 2, 2)},
    ),
    (
        "norm",
        "dim 4 of input 1 on dim 3",
        "g (float[N,M] x, float[K] s) => (float[N,M] y) { [norm] y = LayerNormalization(x,s) }",
        {"x": ones(2, 3), "s": ones(4)},
    ),
    (
        "where_is_it",
        "has no elements",
        "g (float[N,M] x) => (int64[N,1] y) { [where_is_it] y = ArgMax<axis=1>(x) }",
        {"x": ones(2, 0)},
    ),
    (
        "cells",
        r"not of dims \[1, 16, 5\]",
        "g (float[T,B,I] x, float[1,16,6] w, float[1,16,4] r) => (float[T,1,B,4] y)"
        " { [cells] y = LSTM<hidden_size=4>(x,w,r) }",
        {"x": ones(2, 3, 5), "w": ones(1, 16, 6), "r": ones(1, 16, 4)},
    ),
    # Control flow and sequences.
    (
        "forever",
        "does not end within 1000 iterations",
        "g (float x) => (float y) { c = Constant<value = bool {1}>() [forever] y = Loop(,c,x)"
        " <body = b (int64 i, bool k, float s) => (bool k2, float s2) { k2 = Identity(k) s2 = Add(s,s) }> }",
        {"x": np.float32(1)},
    ),
    (
        "twice",
        r"concat.*over the limit of 1073741824.*float32\[268435456\]",
        "g (float[N] x) => (float[M] y) { c = Constant<value = bool {1}>() y = Loop(,c,x)"
        " <body = b (int64 i, bool k, float[P] s) => (bool k2, float[Q] s2)"
        " { k2 = Identity(k) [twice] s2 = Concat<axis=0>(s,s) }> }",
        {"x": ones(4)},
    ),
    (
        "stacked",
        "slices of dims 1 and 2",
        "g (int64 n) => (float[K,2] y) { c = Constant<value = bool {1}>() [stacked] y = Loop(n,c)"
        " <body = b (int64 i, bool k) => (bool k2, float[Q] o) { k2 = Identity(k)"
        " one = Constant<value=int64[1]{1}>() j = Add(i,one) o = ConstantOfShape(j) }> }",
        {"n": 3},
    ),
    (
        "choice",
        r"a condition is one bool.*bool\[3\]",
        "g (bool[N] c, float x) => (float y) { [choice] y = If(c) <then_branch = t () => (float a)"
        " { a = Neg(x) }, else_branch = e () => (float b) { b = Abs(x) }> }",
        {"c": np.ones(3, bool), "x": np.float32(1)},
    ),
    (
        "over_both",
        "inputs of 3 and 4 slices",
        "g (float[N,2] x, float[M,2] z) => (float[K,2] y) { [over_both] y = Scan<num_scan_inputs=2,"
        " body = b (float[2] p, float[2] q) => (float[2] r) { r = Add(p,q) }>(x,z) }",
        {"x": ones(3, 2), "z": ones(4, 2)},
    ),
    (
        "at",
        "position 4 in a sequence of 1",
        "g (float[N] x, int64 i) => (float[N] y) { s = SequenceConstruct(x) [at] y = SequenceAt(s,i) }",
        {"x": ones(3), "i": 4},
    ),
    (
        "shorter",
        "the sequence is empty",
        "g (seq(float[N]) s) => (seq(float[N]) y) { [shorter] y = SequenceErase(s) }",
        {"s": []},
    ),
    (
        "parts",
        "11 in all, dim 5",
        "g (float[N] x, int64[M] l) => (seq(float[K]) y) { [parts] y = SplitToSequence(x,l) }",
        {"x": ones(5), "l": ints(2, 9)},
    ),
    (
        "content",
        "the optional is empty",
        "g (optional(float[N]) s) => (float[N] y) { [content] y = OptionalGetElement(s) }",
        {"s": None},
    ),
    # By the reference implementation.
    (
        "numbers",
        r"Cast, by the reference.*could not convert string to float: 'abc'",
        "g (string[N] x) => (float[N] y) { [numbers] y = Cast<to=1>(x) }",
        {"x": np.array(["abc"], object)},
    ),
]


@pytest.mark.parametrize(
    ("node", "message", "graph", "feeds"), REFUSED, ids=[f"{i}-{row[0]}" for i, row in enumerate(REFUSED)]
)
@pytest.mark.parametrize("optimize", [False, True])
def test_is_refused(node: str, message: str, graph: str, feeds: Feeds, optimize: bool) -> None:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {graph}')
    session = InferenceSession(model, optimize=optimize)
    with pytest.raises(ExecutionError, match=message) as caught:
        session.run(None, feeds, LIMITS)
    text = str(caught.value)
    assert "\n" not in text
    assert optimize or f"'{node}'" in text
    # The session goes on.
    with pytest.raises(ExecutionError, match=message):
        session.run(None, feeds, LIMITS)


@pytest.mark.parametrize(
    ("graph", "feeds", "expected"),
    [
        (
            "g (int64[N] a, int64[N] b) => (int64[N] y) { y = Div(a,b) }",
            {"a": ints(-(2**63)), "b": ints(-1)},
            -(2**63),
        ),
        (
            "g (int64[N] a, int64[N] b) => (int64[N] y) { y = Mod(a,b) }",
            {"a": ints(-(2**63)), "b": ints(-1)},
            0,
        ),
        ("g (int64[N] a, int64[N] b) => (int64[N] y) { y = Div(a,b) }", {"a": ints(5), "b": ints(0)}, 0),
        ("g (float[N] x) => (float[M] y) { y = ReduceMax<keepdims=0>(x) }", {"x": ones(0)}, -np.inf),
        (
            "g (float x, int64 n) => (float y) { c = Constant<value = bool {1}>() y = Loop(n,c,x)"
            " <body = b (int64 i, bool k, float s) => (bool k2, float s2) { k2 = Identity(k) s2 = Add(s,s) }> }",
            {"x": np.float32(3), "n": -5},
            3,
        ),
    ],
)
def test_has_an_answer(graph: str, feeds: Feeds, expected: float) -> None:
    model = parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {graph}')
    (found,) = InferenceSession(model, optimize=False).run(None, feeds)
    assert np.asarray(found).reshape(-1).tolist() == [expected]


def test_a_rank_that_is_too_high() -> None:
    dims = ",".join("ABCDEFGHI")
    model = parser.parse_model(
        f'<ir_version: 10, opset_import: ["" : 21]> g (float[{dims}] x) => (float[{dims}] y) {{ y = Neg(x) }}'
    )
    with pytest.raises(ModelError, match="value 'x' has rank 9"):
        InferenceSession(model)
