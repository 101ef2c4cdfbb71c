"""Merging of element-wise instructions: what is merged, what stays, and that values do not change."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.load import from_proto
from graphopt.lowering import elementwise_fusion
from graphopt.lowering.elementwise_fusion import MAX_INPUTS, MAX_STEPS
from graphopt.lowering.elementwise_program import decode
from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession

HEADER = '<ir_version: 10, opset_import: ["": 20]> '
DIMS = "float[3, 40]"


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + text)


def programs_of(model: onnx.ModelProto) -> list[list[str]]:
    """The operations of each instruction; other kernels by their name."""
    found = []
    for i in lower(from_proto(model)).main.instructions:
        if i.kernel == "elementwise":
            program = decode(i.data, i.floats, i.ints, len(i.inputs), len(i.outputs))
            found.append([step.op.name for step in program.steps])
        else:
            found.append([i.kernel])
    return found


def test_chain_and_diamond() -> None:
    model = parsed(f"g({DIMS} x, float[40] b) => ({DIMS} y) {{ t = Add(x, b) s = Sigmoid(t) y = Mul(t, s) }}")
    assert programs_of(model) == [["ADD", "SIGMOID", "MUL"]]


def test_result_that_others_read_stays() -> None:
    model = parsed(f"g({DIMS} x) => ({DIMS} y, {DIMS} t) {{ t = Exp(x) y = Neg(t) }}")
    assert programs_of(model) == [["EXP"], ["NEG"]]


def test_smaller_result_that_is_broadcast_stays() -> None:
    model = parsed(f"g({DIMS} x, float[40] b) => ({DIMS} y) {{ t = Exp(b) u = Neg(t) y = Add(x, u) }}")
    assert programs_of(model) == [["EXP", "NEG"], ["ADD"]]


def test_leading_ones_do_not_count() -> None:
    model = parsed("g(float[40] x, float[1, 40] b) => (float[1, 40] y) { t = Exp(x) y = Add(t, b) }")
    assert programs_of(model) == [["EXP", "ADD"]]


def test_view_between_stays() -> None:
    model = parsed(
        "g(float[3, 40] x) => (float[40, 3] y) { t = Exp(x) u = Transpose<perm = [1, 0]>(t) y = Neg(u) }"
    )
    assert sorted(map(len, programs_of(model))) == [1, 1]


def test_other_kernel_between_stays() -> None:
    model = parsed(f"g({DIMS} x) => ({DIMS} y) {{ t = Exp(x) u = Softmax(t) y = Neg(u) }}")
    assert programs_of(model) == [["EXP"], ["softmax"], ["NEG"]]


def test_equal_steps_are_computed_once() -> None:
    model = parsed(f"g({DIMS} x) => ({DIMS} y) {{ a = Exp(x) b = Exp(x) y = Mul(a, b) }}")
    assert programs_of(model) == [["EXP", "MUL"]]


def test_limits() -> None:
    many = "".join(f"float[40] i{k}, " for k in range(2 * MAX_INPUTS)).rstrip(", ")
    sums = " ".join(f"s{k + 1} = Add(s{k}, i{k})" for k in range(2 * MAX_INPUTS - 1))
    model = parsed(f"g(float[40] s0, {many}) => (float[40] s{2 * MAX_INPUTS - 1}) {{ {sums} }}")
    instructions = lower(from_proto(model)).main.instructions
    assert len(instructions) == 3 and all(len(i.inputs) <= MAX_INPUTS for i in instructions)
    longest = " ".join(f"v{k + 1} = Neg(v{k})" for k in range(MAX_STEPS + 5))
    model = parsed(f"g(float[40] v0) => (float[40] v{MAX_STEPS + 5}) {{ {longest} }}")
    assert sorted(map(len, programs_of(model))) == [5, MAX_STEPS]


def test_names_of_nodes_are_kept() -> None:
    model = parsed(f"g({DIMS} x) => ({DIMS} y) {{ [first] t = Exp(x) [second] y = Neg(t) }}")
    [instruction] = lower(from_proto(model)).main.instructions
    assert instruction.nodes == ("first", "second")


@st.composite
def graphs(draw: st.DrawFn) -> onnx.ModelProto:
    """Element-wise graphs over values of four shapes."""
    shapes = {"a": (3, 40), "b": (40,), "c": (3, 1), "d": ()}
    lines: list[str] = []
    for k in range(draw(st.integers(1, 12))):
        op = draw(st.sampled_from(["Add", "Mul", "Sub", "Max", "Sigmoid", "Tanh", "Neg", "Abs", "Softplus"]))
        count = 2 if op in ("Add", "Mul", "Sub", "Max") else 1
        sources = [draw(st.sampled_from(sorted(shapes))) for _ in range(count)]
        shapes[f"v{k}"] = np.broadcast_shapes(*(shapes[s] for s in sources))
        lines.append(f"v{k} = {op}({', '.join(sources)})")
    made = [name for name in shapes if name.startswith("v")]
    wanted = draw(st.lists(st.sampled_from(made), min_size=1, max_size=3, unique=True))

    def declared(name: str) -> str:
        dims = ", ".join(map(str, shapes[name]))
        return f"float[{dims}] {name}" if dims else f"float {name}"

    ins, outs = ", ".join(map(declared, "abcd")), ", ".join(map(declared, wanted))
    return parsed(f"g({ins}) => ({outs}) {{ {' '.join(lines)} }}")


@settings(max_examples=40, deadline=None)
@given(graphs())
def test_values_do_not_change(model: onnx.ModelProto) -> None:
    rng = np.random.default_rng(0)
    feeds = {
        value.name: rng.standard_normal([d.dim_value for d in value.type.tensor_type.shape.dim]).astype(
            np.float32
        )
        for value in model.graph.input
    }
    merged = InferenceSession(model, optimize=False).run(None, feeds)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(elementwise_fusion, "MAX_STEPS", 1)
        single = InferenceSession(model, optimize=False).run(None, feeds)
    for a, b in zip(merged, single, strict=True):
        np.testing.assert_array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize(
    "body", ["l = Greater(a, b) c = Cast <to = 1> (l)", "l = Less(b, a) c = Where(l, t, t)"]
)
def test_wider_result_does_not_lie_on_what_it_is_made_of(body: str) -> None:
    text = f"g(int64[W] a, int64[H, 1] b, float[H, W] t) => (float[H, W] y) {{ {body} y = Mul(t, c) }}"
    model = parsed(text)
    feeds = {
        "a": np.arange(40),
        "b": np.arange(17, 22)[:, None],
        "t": np.random.default_rng(0).standard_normal((5, 40)).astype(np.float32),
    }
    below = (feeds["a"] > feeds["b"]).astype(np.float32) if "Greater" in body else feeds["t"]
    (y,) = InferenceSession(model, optimize=False).run(None, feeds)
    np.testing.assert_array_equal(y, feeds["t"] * below)
