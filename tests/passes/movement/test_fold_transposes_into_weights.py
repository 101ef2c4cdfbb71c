import numpy as np
import pytest

from graphopt.passes.movement.fold_transposes_into_weights import OTHER_ORDER, SHARED_WEIGHT
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import (
    assert_rejects,
    assert_same_outputs,
    model_from_text,
    operators_of,
    random_feeds,
    run_pass,
)

PASS = "fold-transposes-into-weights"
NUMBERS = ",".join(str(float(n)) for n in np.random.default_rng(0).integers(-4, 5, 48))


def graph(body: str, weight: str = "float[24,2]", result: str = "float[N,2] y") -> str:
    return f"""<ir_version: 10, opset_import: ["" : 18]>
        g (float[N,2,3,4] x) => ({result}) <{weight} w = {{{NUMBERS}}}, float[2] c = {{1.0,2.0}}> {{
            t = Transpose <perm = [0,2,3,1]> (x)  {body} }}"""


@pytest.mark.parametrize(
    ("body", "weight", "left"),
    [
        ("f = Flatten(t)  y = Gemm(f, w, c)", "float[24,2]", ["Flatten", "Gemm"]),
        ("f = Reshape(t, [-1,24])  y = MatMul(f, w)", "float[24,2]", ["Reshape", "MatMul"]),
        ("f = Reshape(t, [0,24])  y = Gemm <transB = 1> (f, w, c)", "float[2,24]", ["Reshape", "Gemm"]),
    ],
)
def test_rows_are_put_in_another_order(body, weight, left):
    model = model_from_text(graph(body, weight))
    original = model.clone()
    run_pass(PASS, model)
    assert sorted(operators_of(model)) in (sorted(left), sorted(["Reshape", left[1]]))
    for size in ({}, {"N": 0}, {"N": 1}):
        assert_same_outputs(original, model, random_feeds(original, size), exact=False)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (
            graph(
                "f = Reshape(t, [-1,24])  y = MatMul(f, w)  z = Relu(t)",
                result="float[N,2] y, float[A,B,C,D] z",
            ),
            HAS_OTHER_CONSUMERS,
        ),
        (
            graph(
                "f = Reshape(t, [-1,24])  y = MatMul(f, w)  z = Relu(w)", result="float[N,2] y, float[24,2] z"
            ),
            SHARED_WEIGHT,
        ),
        (
            """<ir_version: 10, opset_import: ["" : 18]>
            g (float[4,2,6] x) => (float[2,24] y) <float[24,1] w = {1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,
                19,20,21,22,23,24}> {
                t = Transpose <perm = [1,0,2]> (x)  f = Reshape(t, [2,24])  y = MatMul(f, w) }""",
            OTHER_ORDER,
        ),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason)
