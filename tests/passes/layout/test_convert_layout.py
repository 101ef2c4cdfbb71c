from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

import graphopt
from graphopt.errors import UsageError
from graphopt.testing import model_from_text, operators_of, run, run_pass

PASS = "convert-layout"
TEXT = "g (float[N,3,H,4] x) => (float[N,3,H,4] y) { y = Relu (x) }"


def shapes(model):
    return [str(v.shape) for v in (*model.graph.inputs, *model.graph.outputs)]


@pytest.mark.parametrize(
    ("options", "operators", "signature"),
    [
        ("{inputs=x}", ["Transpose", "Relu"], ["[N,H,4,3]", "[N,3,H,4]"]),
        ("{outputs=y}", ["Relu", "Transpose"], ["[N,3,H,4]", "[N,H,4,3]"]),
        ("{inputs=x,outputs=y}", ["Transpose", "Relu", "Transpose"], ["[N,H,4,3]", "[N,H,4,3]"]),
        ("{inputs=x,to=nchw}", ["Transpose", "Relu"], ["[N,4,3,H]", "[N,3,H,4]"]),
    ],
)
def test_named_inputs_and_outputs_change(options, operators, signature):
    model = model_from_text(TEXT)
    run_pass(PASS + options, model)
    assert operators_of(model) == operators
    assert shapes(model) == signature
    assert [v.name for v in (*model.graph.inputs, *model.graph.outputs)] == ["x", "y"]
    assert not run_pass(PASS + options, model).firings


@pytest.mark.parametrize(
    ("to", "moved", "back"), [("nhwc", (0, 2, 3, 1), (0, 3, 1, 2)), ("nchw", (0, 3, 1, 2), (0, 2, 3, 1))]
)
def test_answers_are_those_of_the_other_layout(to, moved, back):
    model = model_from_text(TEXT)
    run_pass(f"{PASS}{{inputs=x,outputs=y,to={to}}}", model)
    x = np.random.default_rng(0).standard_normal((2, 3, 5, 4)).astype(np.float32)
    (y,) = run(model, {"x": x.transpose(moved)})
    assert np.array_equal(y.transpose(back), np.maximum(x, 0))


def test_captured_inputs_are_moved_too():
    model = model_from_text(
        "g (float[1,3,4,4] x, bool c) => (float[A,B,C,D] y) { y = If (c) <then_branch = t () => (float[A,B,C,D] u)"
        " { u = Relu (x) }, else_branch = f () => (float[A,B,C,D] v) { v = Neg (x) }> }"
    )
    run_pass(f"{PASS}{{inputs=x}}", model)
    x = np.ones((1, 4, 4, 3), np.float32)
    assert run(model, {"x": x, "c": np.array(False)})[0].shape == (1, 3, 4, 4)


def test_a_model_made_from_nhwc_loses_its_transpose(tmp_path):
    text = (
        "g (float[N,3,8,8] x) => (float[N,8,8,4] y) { w = Constant <value = float[4,3,1,1] "
        "{1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 1.0, 2.0, 3.0}> ()  t = Conv (x, w)  "
        "y = Transpose <perm = [0,2,3,1]> (t) }"
    )
    path = tmp_path / "model.onnx"
    ir.save(model_from_text(text), path)
    result = graphopt.optimize(
        path, passes=f"{PASS}{{outputs=y,to=nchw}},(remove-no-op-movement,merge-movement)"
    )
    assert operators_of(result.model) == ["Conv"]
    assert shapes(result.model) == ["[N,3,8,8]", "[N,4,8,8]"]
    assert result.report.verification is not None and result.report.verification.status == "verified"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("{inputs=z}", "there is no 'z'"),
        ("{outputs=x}", "there is no 'x'"),
        ("{inputs=x,to=hwcn}", "to is nhwc or nchw"),
    ],
)
def test_what_can_not_be_done_is_said(options, message):
    with pytest.raises(UsageError, match=message):
        run_pass(PASS + options, model_from_text(TEXT))


def test_a_matrix_has_no_channels():
    with pytest.raises(UsageError, match="no channels"):
        run_pass(
            f"{PASS}{{inputs=x}}", model_from_text("g (float[N,3] x) => (float[N,3] y) { y = Relu (x) }")
        )
