from __future__ import annotations

import onnx_ir as ir
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.testing import model_from_text, operators_of, run_pass

PASS = "freeze-shapes"
TEXT = "g (float[N,3,H] x, int64[N] ids) => (float[N,3,H] y, int64[3] s) { y = Relu (x)  s = Shape (x) }"


def shapes(model):
    return [str(v.shape) for v in (*model.graph.inputs, *model.graph.outputs)]


def test_a_name_that_gets_a_number_gets_it_everywhere():
    model = model_from_text(TEXT)
    run_pass(f"{PASS}{{shapes=x:2x3x-1}}", model)
    assert shapes(model) == ["[2,3,H]", "[2]", "[2,3,H]", "[3]"]
    assert not run_pass(f"{PASS}{{shapes=x:2x3x-1}}", model).firings


def test_two_inputs():
    model = model_from_text(TEXT)
    run_pass(f"{PASS}{{shapes=x:2x3x5+ids:2}}", model)
    assert shapes(model) == ["[2,3,5]", "[2]", "[2,3,5]", "[3]"]


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        ("z:1", "no input 'z'"),
        ("x:1x3", "3 dims"),
        ("x:1x4x2", "fixes 3"),
        ("x", "is no shape"),
        ("x:1xAx2", "is no shape"),
        ("x:2x3x5+ids:3", "both"),
    ],
)
def test_what_can_not_be_done_is_said(shapes, message):
    with pytest.raises(UsageError, match=message):
        run_pass(f"{PASS}{{shapes={shapes}}}", model_from_text(TEXT))


def test_what_follows_knows_the_shape_and_is_verified_at_it(tmp_path):
    path = tmp_path / "model.onnx"
    ir.save(model_from_text(TEXT), path)
    result = graphopt.optimize(path, passes=f"{PASS}{{shapes=x:2x3x5}},fold-constants")
    assert operators_of(result.model) == ["Relu"]
    assert result.report.verification is not None and result.report.verification.status == "verified"
    assert not result.report.dropped
