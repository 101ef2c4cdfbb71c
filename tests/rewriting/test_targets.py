"""What the target lacks is not written, and no operator is raised out of its reach."""

from dataclasses import dataclass

import onnx_ir as ir
import pytest

from graphopt import targets
from graphopt.rewriting import Match, Pass, op, rule_on
from graphopt.rewriting.opsets import OpsetPolicy
from graphopt.testing import model_from_text, operators_of, run_pass


@rule_on("Relu", depth=1)
def newer(m: Match) -> ir.Value:
    """Relu(x) -> Gelu(x)."""
    return op.Gelu(m.root.inputs[0])


@rule_on("Abs", depth=1)
def foreign(m: Match) -> ir.Value:
    """Abs(x) -> com.microsoft.QuickGelu(x)."""
    from graphopt.rewriting import ms

    return ms.QuickGelu(m.root.inputs[0])


@dataclass(frozen=True)
class WriteWhatIsAskedForTest(Pass):
    """Writes operators without a look at the target."""

    name = "write-what-is-asked-for-test"
    stage = "on-request"
    rules = (newer, foreign)


TEXT = "g (float[N] x) => (float[N] y) {{ a = {} (x) y = Neg(a) }}"


@pytest.mark.parametrize(
    ("operator", "opset", "target", "expected"),
    [
        ("Relu", 20, "onnx", "Gelu"),
        ("Relu", 19, "onnx", "Relu"),
        ("Abs", 20, "onnxruntime", "QuickGelu"),
        ("Abs", 20, "onnx", "Abs"),
        ("Abs", 20, "graphopt", "Abs"),
    ],
)
def test_only_what_the_target_has_is_written(operator, opset, target, expected):
    model = model_from_text(TEXT.format(operator), opset=opset)
    run_pass(WriteWhatIsAskedForTest.name, model, target=target)
    assert operators_of(model) == [expected, "Neg"]


def test_a_domain_that_the_model_came_with_may_be_written():
    model = model_from_text(TEXT.format("Abs"), opset=20)
    model.opset_imports["com.microsoft"] = 1
    run_pass(WriteWhatIsAskedForTest.name, model)
    assert operators_of(model) == ["QuickGelu", "Neg"]


@pytest.mark.parametrize(("operator", "reached"), [("RandomNormalLike", 21), ("Relu", 23)])
def test_an_opset_in_which_an_operator_has_no_kernel_is_not_raised_to(operator, reached):
    model = model_from_text(TEXT.format(operator), opset=17)
    policy = OpsetPolicy("auto", targets.find("onnxruntime"))
    assert policy.raise_to(model, 21)
    assert model.graph.opset_imports[""] == reached
    if reached < 23:
        assert "onnxruntime runs RandomNormalLike in older opsets only" in policy.refused[23]
