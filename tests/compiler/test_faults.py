"""A pass that raises is left out and named; the model comes out right all the same."""

from dataclasses import dataclass

import onnx
import onnx_ir as ir
import pytest

from graphopt.compiler import optimize
from graphopt.errors import ModelError
from graphopt.rewriting import Match, Pass, Scope, op, rule_on
from graphopt.testing import model_from_text, operators_of, run_pass

TEXT = "g (float[N] x) => (float[N] y) { a = Relu(x)  y = Relu(a) }"


@rule_on("Relu")
def raising_rule(m: Match) -> ir.Value:
    """Relu(x) -> an exception."""
    op.Abs(m.root.inputs[0])
    raise ZeroDivisionError("of the rule")


@dataclass(frozen=True)
class RaisingRuleForTest(Pass):
    """Raises at every Relu."""

    name = "raising-rule-for-test"
    stage = "on-request"
    rules = (raising_rule,)


@dataclass(frozen=True)
class RaisingRunForTest(Pass):
    """Breaks the graph, then raises."""

    name = "raising-run-for-test"
    stage = "on-request"

    def run(self, scope: Scope) -> None:
        scope.replace(scope.graph[1].outputs[0], scope.graph[0].outputs[0])
        raise ZeroDivisionError("of the run")


@pytest.mark.parametrize("cls", [RaisingRuleForTest, RaisingRunForTest])
def test_the_fault_is_a_warning_and_the_rest_of_the_pipeline_runs(cls):
    result = optimize(model_from_text(TEXT), passes=f"{cls.name},remove-dead-code")
    assert operators_of(result.model) == ["Relu", "Relu"]
    assert any("ZeroDivisionError" in w and cls.name in w for w in result.report.warnings)


@pytest.mark.parametrize("costs", [False, {"N": 3}])
def test_a_file_that_is_not_verified_is_read_again_after_a_fault(tmp_path, costs):
    ir.save(model_from_text(TEXT), tmp_path / "m.onnx")
    passes = "raising-run-for-test,remove-dead-code"
    result = optimize(tmp_path / "m.onnx", passes=passes, verify=False, costs=costs)
    assert operators_of(result.model) == ["Relu", "Relu"]
    assert result.report.operators.before == result.report.operators.after


@pytest.mark.parametrize("verify", [False, True])
def test_a_model_in_memory_stays_as_it_is(verify):
    model = model_from_text(TEXT)
    result = optimize(model, verify=verify)
    assert operators_of(model) == ["Relu", "Relu"] and operators_of(result.model) == ["Relu"]


@pytest.mark.parametrize("cls", [RaisingRuleForTest, RaisingRunForTest])
def test_tests_see_the_exception_itself(cls):
    with pytest.raises(ZeroDivisionError):
        run_pass(cls.name, model_from_text(TEXT))


ATTENTION = """g (float[B,5,16] q, float[B,5,16] k, float[B,5,16] v) => (float[B,5,16] y) {
    kt = Transpose <perm = [0, 2, 1]> (k)  s = MatMul(q, kt)  p = Softmax <axis = -1> (s)  y = MatMul(p, v) }"""


def test_attention_is_not_dropped_for_refusing_an_empty_batch_and_the_report_says_so():
    result = optimize(model_from_text(ATTENTION))
    assert operators_of(result.model) == ["Attention"]
    verification = result.report.verification
    assert verification is not None and verification.status == "verified" and not result.report.dropped
    assert any("Attention can't run on empty tensors" in note for note in verification.notes)


def test_costs_are_estimated_on_request_only():
    model = model_from_text(ATTENTION)
    assert optimize(model).report.flops.after is None
    report = optimize(model, costs={"B": 2}).report
    # Two products of (5, 16) x (16, 5) and (5, 5) x (5, 16), two flops a step, for two batch items; softmax on top.
    assert report.flops.before is not None and report.flops.before >= 2 * 2 * 2 * 5 * 5 * 16
    assert report.sizes == {"B": 2} and report.peak_bytes.after < report.peak_bytes.before
    assert optimize(model, costs=True).report.sizes["B"] >= 1


@pytest.mark.parametrize(
    ("old", "damaged", "what"),
    [
        ('"" : 18', '"other" : 18', "no opset of domain 'ai.onnx' is imported"),
        ("Relu (x)", "Rilu (x)", "operator Rilu is not in opset 18"),
        ("Relu (x)", "Relu <axis = 1> (x)", "has no attribute 'axis'"),
    ],
)
def test_an_invalid_model_is_refused_before_it_is_rewritten(old: str, damaged: str, what: str) -> None:
    text = '<ir_version: 10, opset_import: ["" : 18]> g (float[N] x) => (float[N] y) { y = Relu (x) }'
    with pytest.raises(ModelError, match=what):
        optimize(onnx.parser.parse_model(text.replace(old, damaged)))
