from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir.affine import Affine, affine_of
from graphopt.ir.inference import Facts
from graphopt.testing import model_from_text, run


def last_map(text):
    model = model_from_text(text)
    found = affine_of(list(model.graph)[-1], Facts(model))
    return model, found


@pytest.mark.parametrize(
    ("constant", "node"),
    [
        ("float[3] c = {1, 2, -4}", "Add (x, c)"),
        ("float[3] c = {1, 2, -4}", "Sub (c, x)"),
        ("float[2,1] c = {2, 4}", "Mul (c, x)"),
        ("float[1,2,1] c = {2, 4}", "Div (x, c)"),
        ("float[1] c = {3}", "Sub (x, c)"),
        ("float c = {3}", "Neg (x)"),
        ("float[2] c = {1, 3}", "BatchNormalization <epsilon = 1.0> (x, c, c, c, c)"),
    ],
)
def test_map_does_what_its_node_does(constant, node):
    model, found = last_map(f"g (float[4,2,3] x) => (float[4,2,3] y) <{constant}> {{ y = {node} }}")
    assert found is not None
    value, affine = found
    assert value.name == "x"
    x = np.random.default_rng(0).standard_normal((4, 2, 3)).astype(np.float32)
    mapped = x * affine.shaped(affine.scale, 3) + affine.shaped(affine.shift, 3)
    np.testing.assert_allclose(run(model, {"x": x})[0], mapped, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    "graph",
    [
        "(float[4,2,3] x) => (float[4,2,3] y) <float[2,3] c = {1,2,3,4,5,6}> { y = Add (x, c) }",
        "(float[4,2,1] x) => (float[4,2,3] y) <float[3] c = {1,2,3}> { y = Add (x, c) }",
        "(float[4,N] x) => (float[4,3] y) <float[3] c = {1,2,3}> { y = Add (x, c) }",
        "(float[3] x) => (float[1,3] y) <float[1,3] c = {1,2,3}> { y = Add (x, c) }",
        "(float[3] x) => (float[3] y) <float[3] c = {1,0,3}> { y = Div (x, c) }",
        "(float[3] x) => (float[3] y) <float[3] c = {1,2,3}> { y = Div (c, x) }",
        "(int32[3] x) => (int32[3] y) <int32[3] c = {1,2,3}> { y = Add (x, c) }",
    ],
)
def test_what_is_no_map_of_channels(graph):
    assert last_map(f"g {graph}")[1] is None


def test_maps_compose():
    first = Affine(np.array(2.0), np.array([1.0, 3.0]), 1)
    second = Affine(np.array([4.0, 5.0]), np.array(6.0), 1)
    whole = second.after(first)
    assert whole is not None
    assert whole.scale.tolist() == [8, 10]
    assert whole.shift.tolist() == [10, 21]
    assert second.after(first.along(2)) is None
    inverse = first.inverse_sum
    assert inverse is not None
    assert (inverse.scale.tolist(), inverse.shift.tolist()) == (0.5, [0.5, 1.5])
    assert Affine(np.array(0.0), np.array(1.0), None).inverse_sum is None
