"""Evaluating a node gives the bits that onnxruntime gives, and says why where it can't."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.evaluate import CannotEvaluate, evaluate
from graphopt.ir.evaluate.call import Call
from graphopt.ir.evaluate.judges import by_onnxruntime
from tests.ir.evaluate.judging import SPECIAL, agrees, compute, node_of, same_bits


def crossed(dtype):
    values = np.array(SPECIAL).astype(dtype)
    left, right = np.meshgrid(values, values)
    return left.ravel(), right.ravel()


FLOATS = [np.float32, np.float64, np.float16]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize(
    "op", ["Add", "Sub", "Mul", "Div", "Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"]
)
def test_pairs_of_special_floats(op, dtype):
    agrees(op, *crossed(dtype))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", ["Max", "Min"])
def test_extremes_keep_nan_and_leave_signed_zeros_to_onnxruntime(op, dtype):
    left, right = crossed(dtype)
    agrees(op, left, right, direct=False)
    kept = (left != 0) & (right != 0)
    agrees(op, left[kept], right[kept], left[kept][::-1])
    agrees(op, np.array([3, -4], np.int64), np.array([2], np.int64))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("dtype", FLOATS)
@pytest.mark.parametrize("op", ["Neg", "Abs", "Sqrt", "Reciprocal", "Floor", "Ceil", "Round", "IsNaN"])
def test_single_special_floats(op, dtype):
    agrees(op, np.array(SPECIAL).astype(dtype))


@settings(max_examples=150, deadline=None)
@given(
    op=st.sampled_from(["Add", "Sub", "Mul", "Div"]),
    dtype=st.sampled_from(FLOATS),
    bits=st.lists(st.tuples(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1)), min_size=1, max_size=40),
)
def test_arithmetic_of_any_floats(op, dtype, bits):
    raw = np.array(bits, np.uint64)
    left, right = (raw[:, i].copy().view(dtype)[: len(bits)] for i in (0, 1))
    agrees(op, left, right)


INTEGERS = [np.int8, np.uint8, np.int32, np.int64, np.uint32, np.uint64]


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.uint32, np.uint64, np.int8, np.uint8])
@pytest.mark.parametrize("op", ["Add", "Sub", "Mul"])
def test_integers_wrap(op, dtype):
    limits = np.iinfo(dtype)
    values = np.array([limits.min, limits.max, 1, limits.max // 2 + 1, 7], dtype)
    agrees(op, values, values[::-1].copy())


@pytest.mark.parametrize("dtype", INTEGERS)
def test_integer_division_is_cut_towards_zero(dtype):
    signed = np.iinfo(dtype).min < 0
    left = np.array([7, -7 if signed else 5, 7, -7 if signed else 9, 0, np.iinfo(dtype).max], dtype)
    right = np.array([2, 2, -2 if signed else 3, -2 if signed else 4, 5, 3], dtype)
    agrees("Div", left, right)
    agrees("Mod", left, right)
    agrees("Mod", left, right, fmod=1)
    if signed:
        assert evaluate(node_of("Div", 2), [left, right], {"": 14})[0].tolist()[:4] == [3, -3, -3, 3]


@settings(max_examples=100, deadline=None)
@given(
    op=st.sampled_from(["Div", "Mod"]),
    pairs=st.lists(
        st.tuples(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(-9, 9).filter(bool)), min_size=1
    ),
)
def test_integer_division_of_any(op, pairs):
    values = np.array(pairs, np.int32)
    agrees(op, values[:, 0].copy(), values[:, 1].copy())


@pytest.mark.parametrize("op", ["Div", "Mod"])
@pytest.mark.parametrize(("left", "right"), [([5], [0]), ([-(2**63)], [-1]), ([1, 2], [3, 0])])
def test_an_integer_division_that_would_trap_is_refused(op, left, right):
    with pytest.raises(CannotEvaluate, match=f"node 'here' \\({op}\\): .* divided by"):
        compute(op, np.array(left, np.int64), np.array(right, np.int64))


def test_dividing_nothing_by_zero_is_fine():
    assert compute("Div", np.zeros((0,), np.int64), np.zeros((1,), np.int64))[0].shape == (0,)


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logic_broadcasts(op):
    agrees(op, np.array([[True], [False]]), np.array([True, False]))
    agrees("Not", np.array([True, False]))


def test_bits():
    left, right = np.array([12, 255], np.uint8), np.array([10, 1], np.uint8)
    for op in ("BitwiseAnd", "BitwiseOr", "BitwiseXor"):
        agrees(op, left, right)
    agrees("BitwiseNot", left)


@pytest.mark.parametrize("op", ["Add", "Mul", "Div", "Sub"])
def test_bfloat16_is_rounded_once(op):
    """onnxruntime has no kernel for CPUs: float32 in between, as its other providers do."""
    left = np.array([1.0, 1 / 3, 3e38, np.nan, -0.0, 1e-40], ml_dtypes.bfloat16)
    right = np.array([2**-9, 7.0, 3e38, 1.0, 0.0, 3.0], ml_dtypes.bfloat16)
    function = {"Add": np.add, "Mul": np.multiply, "Div": np.divide, "Sub": np.subtract}[op]
    with np.errstate(all="ignore"):
        expected = function(left.astype(np.float32), right.astype(np.float32)).astype(ml_dtypes.bfloat16)
    assert same_bits(compute(op, left, right)[0], expected)


def test_what_no_one_computes_is_refused():
    with pytest.raises(CannotEvaluate, match="strings are not evaluated"):
        compute("StringConcat", np.array(["a"], object), np.array(["b"], object))
    with pytest.raises(CannotEvaluate, match="unknown, random or has side effects"):
        compute("RandomNormalLike", np.zeros(3, np.float32))
    with pytest.raises(CannotEvaluate, match="unknown, random or has side effects"):
        compute("Invented", np.zeros(3, np.float32), domain="com.microsoft")
    with pytest.raises(CannotEvaluate, match=r"node 'here' \(SequenceConstruct\)"):
        compute("SequenceConstruct", np.zeros(3, np.float32))
    with pytest.raises(CannotEvaluate, match=r"node 'here' \(MatMul\)"):
        compute("MatMul", np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32))


def test_an_attribute_of_the_function_around_it_is_refused():
    node = node_of("Softmax", 1)
    node.attributes["axis"] = ir.RefAttr("axis", "outer", ir.AttributeType.INT)
    with pytest.raises(CannotEvaluate, match="around it"):
        evaluate(node, [np.zeros((2, 3), np.float32)], {"": 13})


@pytest.mark.parametrize("op", ["Exp", "Tanh", "Erf", "Softmax", "Sigmoid", "Relu"])
def test_the_rest_is_onnxruntimes(op):
    values = np.random.default_rng(0).normal(size=(3, 37)).astype(np.float32)
    judged = by_onnxruntime(Call(node_of(op, 1), (values,), 21), {"": 21})
    assert same_bits(compute(op, values)[0], judged[0])


def test_the_reference_computes_what_onnxruntime_does_not():
    values = np.array([1.5, -2.0], ml_dtypes.bfloat16)
    found = compute("Exp", values)[0]
    assert found.dtype == values.dtype
    assert np.allclose(found.astype(np.float32), np.exp(values.astype(np.float32)), rtol=2**-8)


def test_several_outputs_and_absent_inputs():
    values = np.array([3.0, 1.0, 2.0], np.float32)
    top, places = compute("TopK", values, np.array([2], np.int64), outputs=2)
    assert top.tolist() == [3.0, 2.0] and places.tolist() == [0, 2]
    clipped = compute("Clip", values, None, np.array(2.0, np.float32))[0]
    assert clipped.tolist() == [2.0, 1.0, 2.0]
    fused = compute(
        "FusedMatMul", np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32), domain="com.microsoft"
    )
    assert fused[0].tolist() == [[1, 0], [0, 1]]


def test_large_inputs_are_fed(monkeypatch):
    monkeypatch.setattr("graphopt.ir.evaluate.judges.LARGEST_IN_MODEL_BYTES", 1000)
    values = np.linspace(-3, 3, 1000, dtype=np.float32)
    assert same_bits(
        compute("Tanh", values)[0], by_onnxruntime(Call(node_of("Tanh", 1), (values,), 21), {"": 21})[0]
    )
