import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-no-op-reductions"


@pytest.mark.parametrize("operator", ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"])
def test_reduction_over_an_axis_of_size_1(operator):
    assert_rewrites(
        PASS,
        before=f"g (float[N,1,3] x) => (float[N,1,3] y) {{ a = {operator}(x, [-2])  y = Exp(a) }}",
        after="g (float[N,1,3] x) => (float[N,1,3] y) { y = Exp(x) }",
        sizes=[{"N": 0}, {"N": 2}],
    )


def test_reduction_that_drops_its_axes_becomes_squeeze():
    assert_rewrites(
        PASS,
        before="g (float[N,1,3] x) => (float[N,3] y) { y = ReduceMax <keepdims = 0> (x, [1]) }",
        after="g (float[N,1,3] x) => (float[N,3] y) { y = Squeeze(x, [1]) }",
    )


def test_old_spelling():
    assert_rewrites(
        PASS,
        before="g (float[N,1,3] x) => (float[N,3] y) { y = ReduceMax <axes = [1], keepdims = 0> (x) }",
        after="g (float[N,1,3] x) => (float[N,3] y) { y = Squeeze <axes = [1]> (x) }",
        opset=11,
    )


def test_no_axes_and_told_to_do_nothing():
    assert_rewrites(
        PASS,
        before="g (float[N] x) => (float[N] y) { a = ReduceSum <noop_with_empty_axes = 1> (x)  y = Exp(a) }",
        after="g (float[N] x) => (float[N] y) { y = Exp(x) }",
    )


@pytest.mark.parametrize(
    "expression",
    [
        "ReduceMax(x, [0])",
        "ReduceMax(x)",
        "ReduceMax(x, axes)",
        "ReduceL2(x, [1])",
        "ReduceLogSum(x, [1])",
    ],
)
def test_reduction_that_does_something_stays(expression):
    assert_rejects(
        PASS, f"g (float[N,1,3] x, int64[1] axes) => (float[N,1,3] y) {{ a = {expression}  y = Exp(a) }}"
    )


@pytest.mark.parametrize(
    "expression",
    [
        "MaxPool <kernel_shape = [1,1]> (x)",
        "AveragePool <kernel_shape = [1,1], strides = [1,1]> (x)",
        'MaxPool <kernel_shape = [1,1], auto_pad = "SAME_UPPER"> (x)',
    ],
)
def test_pooling_of_one_element(expression):
    assert_rewrites(
        PASS,
        before=f"g (float[N,2,H,W] x) => (float[N,2,H,W] y) {{ a = {expression}  y = Exp(a) }}",
        after="g (float[N,2,H,W] x) => (float[N,2,H,W] y) { y = Exp(x) }",
    )


@pytest.mark.parametrize(
    "expression",
    [
        "a = MaxPool <kernel_shape = [2,1]> (x)",
        "a = MaxPool <kernel_shape = [1,1], strides = [2,1]> (x)",
        "a = MaxPool <kernel_shape = [1,1], pads = [0,0,1,0]> (x)",
        "a = GlobalMaxPool (x)",
    ],
)
def test_pooling_that_does_something_stays(expression):
    assert_rejects(PASS, f"g (float[N,2,H,W] x) => (float[N,2,P,Q] y) {{ {expression}  y = Exp(a) }}")


def test_pooling_whose_indices_are_needed_stays():
    assert_rejects(
        PASS,
        """g (float[N,2,H,W] x) => (float[N,2,H,W] y, int64[N,2,H,W] i) {
            y, i = MaxPool <kernel_shape = [1,1]> (x)
        }""",
    )


def test_global_pooling_of_one_element():
    assert_rewrites(
        PASS,
        before="g (float[N,2,1,1] x) => (float[N,2,1,1] y) { a = GlobalAveragePool(x)  y = Exp(a) }",
        after="g (float[N,2,1,1] x) => (float[N,2,1,1] y) { y = Exp(x) }",
    )


def test_cumulative_sum_of_one_element():
    assert_rewrites(
        PASS,
        before="g (float[N,1] x) => (float[N,1] y) { a = CumSum(x, 1)  y = Exp(a) }",
        after="g (float[N,1] x) => (float[N,1] y) { y = Exp(x) }",
    )


@pytest.mark.parametrize("expression", ["CumSum(x, 0)", "CumSum <exclusive = 1> (x, 1)"])
def test_cumulative_sum_that_does_something_stays(expression):
    assert_rejects(PASS, f"g (float[N,1] x) => (float[N,1] y) {{ a = {expression}  y = Exp(a) }}")
