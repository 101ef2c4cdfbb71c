"""Facts of reductions against runs, in both spellings of the axes."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.facts.checking import Runtime, check, facts_of, one_node

SIZES = ({"N": 2, "M": 3}, {"N": 0, "M": 4}, {"N": 1, "M": 1})
BY_INPUT = {"ReduceSum": 13}
OPERATORS = [
    "ReduceSum",
    "ReduceMean",
    "ReduceMax",
    "ReduceMin",
    "ReduceProd",
    "ReduceL1",
    "ReduceL2",
    "ReduceLogSum",
    "ReduceLogSumExp",
    "ReduceSumSquare",
]
AXES = [
    ([0], 1, "1, M, 4"),
    ([-1], 0, "N, M"),
    ([0, 2], 0, "M"),
    ([-2, 0], 1, "1, 1, 4"),
    (None, 0, ""),
    (None, 1, "1, 1, 1"),
]


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize(("axes", "keepdims", "dims"), AXES)
def test_axes_as_attribute(op, axes, keepdims, dims):
    attributes = {} if axes is None else {"axes": axes}
    opset = 11 if op == "ReduceSum" else 17
    # Reducing nothing at all is an error for some of them: only N may be 0 where it stays.
    sizes = SIZES if axes == [-1] else (SIZES[0], SIZES[2])
    check(op, ["float[N,M,4]"], *sizes, opset=opset, dims=(dims,), keepdims=keepdims, **attributes)


@pytest.mark.parametrize("op", OPERATORS)
@pytest.mark.parametrize(("axes", "keepdims", "dims"), AXES)
def test_axes_as_input(op, axes, keepdims, dims):
    inputs = ["float[N,M,4]"] + ([] if axes is None else [np.array(axes, np.int64)])
    opset = 13 if op == "ReduceSum" else 18
    sizes = SIZES if axes == [-1] else (SIZES[0], SIZES[2])
    check(op, inputs, *sizes, opset=opset, dims=(dims,), keepdims=keepdims)


@pytest.mark.parametrize("given", [[], [None], [np.zeros(0, np.int64)], [Runtime(np.zeros(0, np.int64))]])
def test_no_axes_mean_all_or_none(given):
    check("ReduceSum", ["float[N,M]", *given], *SIZES, dims=("1, 1",))
    check("ReduceSum", ["float[N,M]", *given], *SIZES, dims=("",), keepdims=0)
    check("ReduceSum", ["float[N,M]", *given], *SIZES, dims=("N, M",), noop_with_empty_axes=1)


def test_axes_that_only_a_run_knows():
    axes = Runtime(np.array([1], np.int64))
    check("ReduceSum", ["float[N,M,1]", axes], *SIZES, exact=False)
    check("ReduceSum", ["float[N,M,1]", axes], *SIZES, exact=False, keepdims=0)
    model = one_node("ReduceSum", ["float[N,M]", "int64[K]"], opset=13, domain="", outputs=1, keepdims=0)
    facts, node = facts_of(model)
    assert facts.dims(node.outputs[0]) is None
    model = one_node("ReduceSum", ["float[N,M]", "int64[1]"], opset=13, domain="", outputs=1, keepdims=0)
    facts, node = facts_of(model)
    assert len(facts.dims(node.outputs[0])) == 1


@pytest.mark.parametrize(
    ("op", "expected"),
    [("ReduceProd", [24, 210]), ("ReduceSum", [9, 18]), ("ReduceMax", [4, 7]), ("ReduceMin", [2, 5])],
)
def test_contents_of_small_integers_are_followed(op, expected):
    values = np.array([[2, 3, 4], [5, 6, 7]], np.int64)
    opset, inputs = (
        (13, [values, np.array([1], np.int64)]) if op == "ReduceSum" else (18, [values, np.array([1])])
    )
    facts, node = facts_of(one_node(op, inputs, opset=opset, domain="", outputs=1, keepdims=0))
    assert list(facts.elements(node.outputs[0])) == expected
    check(op, inputs, opset=opset, keepdims=0)


def test_a_product_that_overflows_is_not_followed():
    values = np.array([2**40, 2**40], np.int64)
    facts, node = facts_of(one_node("ReduceProd", [values], opset=18, domain="", outputs=1))
    assert facts.elements(node.outputs[0]) is None


@pytest.mark.parametrize("op", ["ArgMax", "ArgMin"])
@pytest.mark.parametrize("opset", [1, 11, 12, 13])
def test_arg(op, opset):
    opset = max(opset, 7)
    check(op, ["float[N,M,4]"], SIZES[0], opset=opset, dims=("1, M, 4",))
    check(op, ["float[N,M,4]"], *SIZES, opset=opset, dims=("N, 1, 4",), axis=1)
    check(op, ["float[N,M,4]"], *SIZES, opset=opset, dims=("N, M",), axis=2, keepdims=0)
    if opset > 10:
        check(op, ["float[N,M,4]"], *SIZES, opset=opset, dims=("N, 4",), axis=-2, keepdims=0)


def test_running_sums():
    check("CumSum", ["float[N,M]", np.array(1, np.int64)], *SIZES, dims=("N, M",))
    check("CumSum", ["int64[N,M]", Runtime(np.array(0, np.int64))], *SIZES, dims=("N, M",), reverse=1)
    check("CumProd", ["float[N,M]", np.array(1, np.int64)], SIZES[0], opset=26, judge="reference")
