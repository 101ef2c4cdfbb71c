"""Facts of element-wise operators against runs."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir import facts as operator_facts
from tests.ir.facts.checking import check, facts_of, flops, one_node

SIZES = ({"N": 2, "M": 5}, {"N": 1, "M": 1}, {"N": 0, "M": 3})
UNARY = [
    *("Abs", "Ceil", "Floor", "Neg", "Reciprocal", "Relu", "Round", "Sign", "Sqrt"),
    *("Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Celu", "Cos", "Cosh", "Elu", "Erf", "Exp", "Gelu"),
    *("HardSigmoid", "HardSwish", "LeakyRelu", "Log", "Mish", "Selu", "Shrink", "Sigmoid", "Sin", "Sinh"),
    *("Softplus", "Softsign", "Tan", "Tanh", "ThresholdedRelu", "Identity"),
]


@pytest.mark.parametrize("op", UNARY)
def test_unary(op):
    check(op, ["float[N,M,3]"], *SIZES, dims=("N, M, 3",))


def test_unary_of_newer_opsets():
    check("Swish", ["float[N,M]"], *SIZES, opset=24, judge="reference", dims=("N, M",))
    check("BitwiseNot", ["int32[N,M]"], *SIZES, dims=("N, M",))
    check("Not", ["bool[N,M]"], *SIZES, dims=("N, M",))
    check("IsNaN", ["float[N,M]"], *SIZES, dims=("N, M",))
    check("IsInf", ["float[N,M]"], *SIZES, dims=("N, M",))


@pytest.mark.parametrize("op", ["Add", "Sub", "Mul", "Div", "Pow", "Min", "Max", "Sum", "Mean"])
def test_arithmetic(op):
    check(op, ["float[N,1,3]", "float[M,1]"], *SIZES, dims=("N, M, 3",))
    check(op, ["float[N,M]", "float[]"], *SIZES, dims=("N, M",))
    check(op, ["float[N,M]", "float[1,M]"], *SIZES, dims=("N, M",))


@pytest.mark.parametrize("op", ["Equal", "Less", "Greater", "LessOrEqual", "GreaterOrEqual"])
def test_comparison(op):
    check(op, ["float[N,1]", "float[M]"], *SIZES, dims=("N, M",))


@pytest.mark.parametrize("op", ["And", "Or", "Xor"])
def test_logic(op):
    check(op, ["bool[N,1]", "bool[M]"], *SIZES, dims=("N, M",))


@pytest.mark.parametrize("op", ["BitwiseAnd", "BitwiseOr", "BitwiseXor"])
def test_bits(op):
    check(op, ["int32[N,1]", "int32[M]"], *SIZES, dims=("N, M",))


def test_the_rest():
    check("BitShift", ["uint32[N,1]", "uint32[M]"], *SIZES, dims=("N, M",), direction="LEFT")
    check("Mod", ["int64[N,M]", np.array([3, 4, 5, 6, 7][:1])], *SIZES, dims=("N, M",))
    check("PRelu", ["float[N,M,3]", np.ones((3,), np.float32)], *SIZES, dims=("N, M, 3",))
    check("Where", ["bool[N,1]", "float[M]", "float[]"], *SIZES, dims=("N, M",))
    check("Clip", ["float[N,M]", np.float32([0.6]).reshape(()), None], *SIZES, dims=("N, M",))
    check("Clip", ["float[N,M]"], *SIZES, opset=6, dims=("N, M",), min=0.0)
    check("Cast", ["float[N,M]"], *SIZES, dims=("N, M",), to=onnx.TensorProto.FLOAT16)
    check("CastLike", ["float[N,M]", "int32[]"], *SIZES, dims=("N, M",))
    check("Dropout", ["float[N,M]"], *SIZES, outputs=2, dims=("N, M", "N, M"))


def test_two_unknown_dims_broadcast_to_one_of_them():
    facts, node = facts_of(one_node("Add", ["float[N,3]", "float[M,3]"]))
    assert facts.describe(node.outputs[0]) == "float32[broadcast(M, N), 3]"
    assert not facts.broadcasts_to(node.inputs[0], node.inputs[1])
    assert facts.broadcasts_to(node.inputs[0], node.inputs[0])


def test_flops_are_one_an_element():
    facts, node = facts_of(one_node("Add", ["float[N,3]", "float[3]"]))
    assert str(flops(facts, node, 21)) == "3*N"


SMALL = st.integers(-7, 7)


@settings(max_examples=40)
@given(
    op=st.sampled_from(["Add", "Sub", "Mul", "Div", "Mod", "Min", "Max", "Equal", "Less", "GreaterOrEqual"]),
    left=st.lists(SMALL, min_size=1, max_size=4),
    right=SMALL.filter(bool),
)
def test_contents_of_integers_are_those_of_a_run(op, left, right):
    check(op, [np.array(left, np.int64), np.array(right, np.int64)])


@settings(max_examples=40)
@given(
    op=st.sampled_from(["Add", "Sub", "Mul", "Div", "Min", "Max", "Less", "Greater"]),
    left=st.lists(st.floats(-9, 9, width=32), min_size=1, max_size=4),
    right=st.floats(0.125, 9, width=32),
)
def test_contents_of_floats_are_those_of_a_run(op, left, right):
    check(op, [np.array(left, np.float32), np.array(right, np.float32)])


@pytest.mark.parametrize("op", ["Abs", "Ceil", "Floor", "Neg", "Relu", "Round", "Sign", "Sqrt", "Reciprocal"])
def test_contents_after_unary_operators(op):
    check(op, [np.array([0.5, 1.5, 2.5, 2.0, 3.999], np.float32)])


@pytest.mark.parametrize("target", ["FLOAT", "DOUBLE", "FLOAT16", "INT32", "INT64", "BOOL", "INT8"])
@pytest.mark.parametrize(
    "given", [np.array([0, 1, 7, 100]), np.array([0.0, 1.9, 7.5, 2.0]), np.array([True, False])]
)
def test_contents_after_a_cast(target, given):
    check("Cast", [given], to=onnx.TensorProto.DataType.Value(target))


def dropout(inputs, **attributes):
    return next(iter(ir.serde.deserialize_model(one_node("Dropout", inputs, outputs=2, **attributes)).graph))


def test_dropout_is_random_in_training_only():
    assert operator_facts.is_pure(dropout(["float[N]"]))
    training = dropout(["float[N]", None, "bool[]"], opset=13)
    assert operator_facts.is_random(training) and not operator_facts.is_pure(training)


def test_operators_know_what_they_are():
    node = next(iter(ir.serde.deserialize_model(one_node("Add", ["float[N]", "float[N]"])).graph))
    assert operator_facts.is_elementwise(node) and operator_facts.is_pure(node)
    assert not operator_facts.is_movement(node) and not operator_facts.can_fail(node)
    entry = operator_facts.lookup(node)
    assert entry is not None and entry.commutative
    unknown = next(iter(ir.serde.deserialize_model(one_node("Add", ["float[N]"], domain="mine")).graph))
    assert operator_facts.lookup(unknown) is None
    assert not operator_facts.is_pure(unknown) and operator_facts.can_fail(unknown)
