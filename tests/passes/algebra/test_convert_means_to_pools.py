from __future__ import annotations

import pytest

from graphopt.passes.algebra.convert_means_to_pools import MAY_BE_EMPTY, NOT_BLOCKED, OTHER_AXES
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "convert-means-to-pools"
TARGET = {"target": "onnxruntime", "domains": {"com.microsoft": 1}}
W = "w = Constant <value = float[2,2,1,1] {0.5, -1.0, 2.0, 0.25}> ()  "


def graph(body, *, image="float[N,2,4,5]", outputs="float[N,2,1,1] y"):
    return f"g ({image} x) => ({outputs}) {{ {W} {body} }}"


def before(mean, source="s = HardSwish (c)"):
    return graph(f"c = Conv (x, w)  {source}  {mean}  y = Conv (p, w)")


@pytest.mark.parametrize("axes", ["[2, 3]", "[-1, -2]"])
@pytest.mark.parametrize(
    "source",
    [
        "s = HardSwish (c)",
        "s = Relu (c)",
        "s = com.microsoft.QuickGelu <alpha = 1.0> (c)",
        's = com.microsoft.FusedConv <activation = "Relu"> (c, w)',
    ],
)
def test_mean_between_convolutions(axes, source):
    assert_rewrites(
        PASS,
        before=before(f"p = ReduceMean (s, {axes})", source),
        after=before("p = GlobalAveragePool (s)", source),
        opset=18,
        sizes=[{"N": 2}, {"N": 0}],
        exact=False,
        **TARGET,
    )


def test_axes_as_an_attribute():
    assert_rewrites(
        PASS,
        before=before("p = ReduceMean <axes = [2, 3]> (s)"),
        after=before("p = GlobalAveragePool (s)"),
        opset=17,
        sizes=[{"N": 3}],
        exact=False,
        **TARGET,
    )


def test_two_convolutions_may_take_it():
    convolutions = "a = Conv (p, w)  b = Conv (p, w)  y = Add (a, b)"
    assert_rewrites(
        PASS,
        before=graph(f"c = Conv (x, w)  p = ReduceMean (c, [2, 3])  {convolutions}"),
        after=graph(f"c = Conv (x, w)  p = GlobalAveragePool (c)  {convolutions}"),
        opset=18,
        exact=False,
        **TARGET,
    )


@pytest.mark.parametrize(
    "mean", ["p = ReduceMean (s, [3])", "p = ReduceMean (s, [1, 2, 3])", "p = ReduceMean (s)"]
)
def test_other_axes(mean):
    assert_rejects(PASS, before(mean), OTHER_AXES, opset=18, **TARGET)


@pytest.mark.parametrize("image", ["float[N,2,H,5]", "float[N,2,4,W]", "float[N,2,0,5]"])
def test_an_image_that_may_be_empty(image):
    body = "c = Conv (x, w)  p = ReduceMean (c, [2, 3])  y = Conv (p, w)"
    assert_rejects(PASS, graph(body, image=image), MAY_BE_EMPTY, opset=18, **TARGET)


def test_an_image_that_no_convolution_made():
    body = "p = ReduceMean (x, [2, 3])  y = Conv (p, w)"
    assert_rejects(PASS, graph(body), NOT_BLOCKED, opset=18, **TARGET)


def test_means_that_are_an_output_too():
    body = "c = Conv (x, w)  p = ReduceMean (c, [2, 3])  y = Conv (p, w)"
    outputs = "float[N,2,1,1] y, float[N,2,1,1] p"
    assert_rejects(PASS, graph(body, outputs=outputs), NOT_BLOCKED, opset=18, **TARGET)


def test_means_that_no_convolution_takes():
    body = "c = Conv (x, w)  p = ReduceMean (c, [2, 3])  y = Relu (p)"
    assert_rejects(PASS, graph(body), None, opset=18, **TARGET)
