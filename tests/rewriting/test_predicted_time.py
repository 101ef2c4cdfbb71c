"""Law 3: no pass raises the time that the target's table predicts, but by rules that declare it."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import onnx_ir as ir
import pytest

from benchmarks.models import chain, encoder, loop_caches, recogniser
from graphopt import targets
from graphopt.ir.graphs import bodies
from graphopt.ir.load import from_proto
from graphopt.rewriting import Driver, Editor, Match, Pass, Trace, op, pipeline, registry, rule_on
from graphopt.rewriting.opsets import OpsetPolicy
from graphopt.rewriting.pricing import WOULD_BE_SLOWER
from graphopt.targets.work import trips_of
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text, operators_of, run_pass

MODELS = {
    "encoder_gelu": lambda: encoder.build(activation="gelu"),
    "loop_caches": loop_caches.build,
    "chain": lambda: chain.build(8),
    "recogniser": recogniser.build,
}

# Of the whole model: what fits of the table differ by between kernels that do the same.
NOISE = 0.003


@dataclass
class PricedTrace(Trace):
    """Notes the predicted time of the whole model after each firing."""

    sample: int = 64
    editor: Editor | None = None
    times: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    known: dict[tuple[ir.Node, ...], float] = field(default_factory=dict)
    last: float = 0.0

    def record(self, identity, removed, added):
        super().record(identity, removed, added)
        now = self.total(self.editor.model.graph)
        found = next(
            r for r in (*rules(identity.place.pass_name), None) if r is None or r.name == identity.place.rule
        )
        if found is None or not found.may_slow:
            self.times[identity.place.pass_name] += now - self.last
        self.last = now

    def total(self, graph):
        return sum(self.time(node) for node in graph)

    def time(self, node):
        """As `Target.cost`, but a node that stays as it is is asked once."""
        editor = self.editor
        if bodies(node):
            inner = [self.total(body) for body in bodies(node)]
            own = editor.target.row("", node.op_type).cost
            if node.op_type == "If":
                return own.a + max(inner)
            trips = trips_of(node, editor.facts, self.sample)
            return own.ns(trips, 0) + trips * sum(inner)
        key = (node, *node.inputs)
        if key not in self.known:
            self.known[key] = editor.target.cost(node, editor.facts, self.sample)
        return self.known[key]


def rules(pass_name):
    return registry.find(pass_name).rules


@pytest.mark.parametrize("sample", [4, 64])
@pytest.mark.parametrize("target", ["onnx", "onnxruntime"])
@pytest.mark.parametrize("name", MODELS)
def test_no_pass_raises_the_predicted_time(name, target, sample):
    who = targets.find(target)
    trace = PricedTrace(sample=sample)
    editor = Editor(
        from_proto(MODELS[name]()), target=who, trace=trace, opset_policy=OpsetPolicy("auto", who)
    )
    trace.editor = editor
    trace.last = start = trace.total(editor.model.graph)
    assert start == pytest.approx(who.cost_of(editor.model.graph, editor.facts, sample))
    Driver(editor, strict=True).run(pipeline.default(2, target))
    raised = {p: round(t) for p, t in trace.times.items() if t > NOISE * start}
    assert not raised
    assert trace.firings and trace.last < start


@rule_on("Relu", priced=True)
def dearer(m: Match) -> ir.Value:
    """Relu(x) -> Softplus(x)."""
    return op.Softplus(m.root.inputs[0])


@rule_on("Softplus", priced=True, depth=3)
def cheaper(m: Match) -> ir.Value | None:
    """Softplus(Exp(Exp(x))) -> Softplus(x)."""
    first = m.root.inputs[0].producer()
    second = first.inputs[0].producer() if first is not None and first.op_type == "Exp" else None
    return op.Softplus(second.inputs[0]) if second is not None and second.op_type == "Exp" else None


@dataclass(frozen=True)
class PriceForTest(Pass):
    """Asks before it fires."""

    name = "price-for-test"
    stage = "on-request"
    rules = (dearer, cheaper)


def test_a_priced_rule_fires_only_where_that_is_not_slower():
    assert_rejects("price-for-test", "g (float[N] x) => (float[N] y) { y = Relu(x) }", WOULD_BE_SLOWER)
    assert_rewrites(
        "price-for-test",
        before="g (float[N] x) => (float[N] y) { a = Exp(x) b = Exp(a) y = Softplus(b) }",
        after="g (float[N] x) => (float[N] y) { y = Softplus(x) }",
        runs=False,
    )


def test_what_something_else_needs_is_not_counted_as_saved():
    @rule_on("Neg", priced=True, depth=2)
    def again(m: Match) -> ir.Value | None:
        """Neg(Softplus(x)) -> Mul(Softplus(x), -1): computed twice where the first stays."""
        inner = m.root.inputs[0].producer()
        if inner is None or inner.op_type != "Softplus":
            return None
        return op.Abs(op.Softplus(inner.inputs[0]))

    @dataclass(frozen=True)
    class DuplicateForTest(Pass):
        """Computes again what may be there."""

        name = "duplicate-for-test"
        stage = "on-request"
        rules = (again,)

    def result(body):
        model = model_from_text(f"g (float[N] x) => (float[N] y, float[N] z) {{ {body} }}")
        run_pass(DuplicateForTest.name, model)
        return operators_of(model)

    assert result("a = Softplus(x) y = Neg(a) z = Exp(x)") == ["Softplus", "Abs", "Exp"]
    assert result("a = Softplus(x) y = Neg(a) z = Exp(a)") == ["Softplus", "Neg", "Exp"]
