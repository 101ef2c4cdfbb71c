"""A wrong rule is caught by the samples, found by bisection, dropped and named."""

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.compiler import optimize
from graphopt.errors import MismatchError
from graphopt.rewriting import Match, Pass, op, rule, rule_on
from graphopt.testing import model_from_text, operators_of, random_feeds, run


@rule
def twice_is_square(x):
    """Add(x, x) -> Mul(x, x): wrong but for 0 and 2."""
    return op.Add(x, x)


@twice_is_square.rewrite
def squared(m: Match) -> ir.Value:
    return op.Mul(m["x"], m["x"])


@rule_on("Relu")
def relu_is_max(m: Match) -> ir.Value:
    """Relu(x) -> Max(x, 0): right."""
    return op.Max(m.root.inputs[0], 0.0)


@dataclass(frozen=True)
class WrongNowAndThenForTest(Pass):
    """One of its rules is wrong."""

    name = "wrong-now-and-then-for-test"
    stage = "on-request"
    rules = (twice_is_square, relu_is_max)


TEXT = """g (float[N] x) => (float[N] y) {
  a = Relu(x)  b = Sigmoid(a)  c = Add(b, b)  d = Relu(c)  e = Neg(d)  f = Add(e, e)  g = Neg(f)  y = Relu(g) }"""


def test_wrong_firings_are_dropped_and_right_ones_stay():
    model = model_from_text(TEXT)
    result = optimize(model, passes=WrongNowAndThenForTest.name)
    assert sorted(operators_of(result.model)) == sorted(
        ["Max", "Sigmoid", "Add", "Max", "Neg", "Add", "Neg", "Max"]
    )
    dropped = [d.id for d in result.report.dropped]
    rule_name = f"{WrongNowAndThenForTest.name}/twice-is-square"
    assert dropped == [f"{rule_name}@c#0", f"{rule_name} everywhere"]
    assert result.report.verification is not None and result.report.verification.status == "verified"
    feeds = random_feeds(model)
    assert np.array_equal(run(model, feeds)[0], run(result.model, feeds)[0])


def test_without_verification_the_wrong_answer_would_be_written():
    """The test above fails if this one does: the planted rule is really wrong."""
    model = model_from_text(TEXT)
    result = optimize(model, passes=WrongNowAndThenForTest.name, verify=False)
    assert "Mul" in operators_of(result.model)
    feeds = random_feeds(model)
    assert not np.allclose(run(model, feeds)[0], run(result.model, feeds)[0])


def test_what_can_not_be_repaired_is_refused(monkeypatch):
    monkeypatch.setattr("graphopt.compiler.MOST_DROPS", 1)
    with pytest.raises(MismatchError, match="could not be repaired"):
        optimize(model_from_text(TEXT), passes=WrongNowAndThenForTest.name)


def test_the_source_is_left_as_it_was():
    model = model_from_text(TEXT)
    before = operators_of(model)
    optimize(model, passes=WrongNowAndThenForTest.name)
    assert operators_of(model) == before


def test_stop_after_stops():
    result = optimize(model_from_text(TEXT), passes=WrongNowAndThenForTest.name, stop_after=1, verify=False)
    assert len(result.trace.firings) == 1
