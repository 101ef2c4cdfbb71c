from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_skip_layer_norm import HAS_OUTPUTS, NO_KERNEL, NOT_ALIKE, OTHER_AXES
from graphopt.rewriting import pipeline
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-skip-layer-norm"
VALUE = "float[N,3,2]"


def graph(body, inputs=f"{VALUE} x, {VALUE} r", outputs=f"{VALUE} y"):
    return f"g ({inputs}) => ({outputs}) {{ {body} }}"


def norm(total, rest="[2.0,3.0], [0.5,1.0]", attributes="epsilon = 0.001"):
    return f"l = LayerNormalization <{attributes}> ({total}, {rest})  "


@pytest.mark.parametrize(
    ("total", "bias"), [("Sum (x, [0.1,-0.7], r)", ", [0.1,-0.7]"), ("Sum (x, r)", ""), ("Add (x, r)", "")]
)
def test_sum_that_is_needed_too(total, bias):
    assert_rewrites(
        PASS,
        before=graph(f"s = {total}  {norm('s')} y = Mul (l, s)"),
        after=graph(
            "l, m, d, s = com.microsoft.SkipLayerNormalization <epsilon = 0.001> "
            f"(x, r, [2.0,3.0], [0.5,1.0]{bias})  y = Mul (l, s)"
        ),
        sizes=[{"N": 2}, {"N": 1}],
        exact=False,
        target="onnxruntime",
        domains={"com.microsoft": 1},
    )


def test_no_default_pipeline_has_it():
    for level in range(4):
        assert PASS not in str(pipeline.default(level, "onnxruntime"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph(f"s = Sum (x, [0.1,-0.7])  {norm('s')} y = Relu (l)"), NOT_ALIKE),
        (graph(f"s = Add (x, r)  {norm('s')} y = Relu (l)", f"{VALUE} x, float[M,3,2] r"), NOT_ALIKE),
        (
            graph(f"s = Add (x, r)  {norm('s')} y = Relu (l)", "float[N,2] x, float[N,2] r", "float[N,2] y"),
            NO_KERNEL,
        ),
        (
            graph(
                f"s = Add (x, r)  {norm('s', 'c', 'axis = 2')} y = Relu (l)",
                f"{VALUE} x, {VALUE} r, float[2] c",
            ),
            OTHER_AXES,
        ),
        (
            graph(
                "s = Add (x, r)  l, m = LayerNormalization (s, [2.0,3.0], [0.5,1.0])  y = Mul (l, m)",
            ),
            HAS_OUTPUTS,
        ),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text, reason, target="onnxruntime")
