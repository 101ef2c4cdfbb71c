from __future__ import annotations

import pytest

from graphopt.passes.fusion.merge_parallel_products import NO_SIBLINGS, ROWS_UNKNOWN
from graphopt.rewriting.pricing import WOULD_BE_SLOWER
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, operators_of, run_pass

PASS = "merge-parallel-products"
V = "v = Constant <value = float[2,2] {1.0, 2.0, 3.0, 4.0}> ()  "
W = "w = Constant <value = float[2,3] {0.5, -1.0, 0.25, 7.0, 8.0, 9.0}> ()  "
BOTH = (
    "p = MatMul (x, v)  a = Add (p, [0.1,0.2])  q = MatMul (x, w)  b = Add ([0.3,0.4,0.5], q)  "
    "c = Relu (a)  d = Tanh (b)"
)
PACKED = "m = Constant <value = float[2,5] {1.0, 2.0, 0.5, -1.0, 0.25, 3.0, 4.0, 7.0, 8.0, 9.0}> ()  "


def graph(body, dims="[1,2,2]", rest="[1,2"):
    return f"g (float{dims} x) => (float{rest},2] c, float{rest},3] d) {{ {body} }}"


def wide(rows):
    """Two products with 64 columns each: with many rows, what Split copies outweighs what is saved."""
    weights = "".join(
        f"{n} = Constant <value = float[2,64] {{{','.join([x] * 128)}}}> ()  "
        for n, x in (("v", "0.5"), ("w", "2.0"))
    )
    bias = ",".join(["0.1"] * 64)
    both = f"p = MatMul (x, v)  a = Add (p, [{bias}])  q = MatMul (x, w)  b = Add (q, [{bias}])  "
    outputs = f"float[1,{rows},64] c, float[1,{rows},64] d"
    return f"g (float[1,{rows},2] x) => ({outputs}) {{ {weights} {both} c = Relu (a)  d = Tanh (b) }}"


def test_few_wide_rows_are_worth_it():
    model = model_from_text(wide(4))
    run_pass(PASS, model, target="onnxruntime")
    assert operators_of(model) == ["MatMul", "Add", "Split", "Relu", "Tanh"]


@pytest.mark.parametrize(("dims", "rest"), [("[1,2,2]", "[1,2"), ("[16,2]", "[16")])
def test_two_products_become_one(dims, rest):
    assert_rewrites(
        PASS,
        before=graph(V + W + BOTH, dims, rest),
        after=graph(
            PACKED + "p = MatMul (x, m)  s = Add (p, [0.1,0.2,0.3,0.4,0.5])  "
            "a, b = Split <axis = -1> (s, [2,3])  c = Relu (a)  d = Tanh (b)",
            dims,
            rest,
        ),
        exact=False,
        target="onnxruntime",
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph(V + W + BOTH, "[1,N,2]", "[1,N"), ROWS_UNKNOWN),
        (wide(1000), WOULD_BE_SLOWER),
        (graph(V + W + BOTH, "[0,2,2]", "[0,2"), ROWS_UNKNOWN),
        # A weight that both use would be stored twice.
        (
            "g (float[1,2] x) => (float[1,2] y) { "
            + V
            + "p = MatMul (x, v)  a = Add (p, [0.1,0.2])  q = MatMul (x, v)  b = Add (q, [0.3,0.4])  "
            "y = Mul (a, b) }",
            None,
        ),
        (graph(V + W + BOTH.replace("b = Add ([0.3,0.4,0.5], q)", "b = Add (0.5, q)")), NO_SIBLINGS),
        (graph(V + W + BOTH.replace("c = Relu (a)", "c = Mul (a, p)")), NO_SIBLINGS),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, target="onnxruntime")
