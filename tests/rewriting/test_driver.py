from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
import pytest

from graphopt import targets
from graphopt.rewriting import (
    WOULD_NEED_IDENTITY,
    Driver,
    Editor,
    FiringId,
    Match,
    Pass,
    Place,
    RulesFight,
    Scope,
    Trace,
    op,
    pipeline,
    rule,
    rule_on,
)
from graphopt.testing import model_from_text, operators_of, random_feeds, run, run_pass


@rule
def double_negation(x):
    """Neg(Neg(x)) -> x."""
    return op.Neg(op.Neg(x))


@double_negation.rewrite
def just_x(m: Match) -> ir.Value:
    return m["x"]


@dataclass(frozen=True)
class RemoveDoubleNegationForTest(Pass):
    """Neg(Neg(x)) is x."""

    name = "remove-double-negation-for-test"
    family = "test"
    stage = "on-request"
    rules = (double_negation,)


NEGATION = RemoveDoubleNegationForTest.name


def chain(count: int) -> str:
    body = "v0 = Neg(x) " + " ".join(f"v{i} = Neg(v{i - 1})" for i in range(1, count))
    return f"g (float[N] x) => (float[N] y) {{ {body} y = Relu(v{count - 1}) }}"


def test_runs_to_a_fixed_point():
    model = model_from_text(chain(9))
    trace = run_pass(NEGATION, model)
    assert operators_of(model) == ["Neg", "Relu"]
    assert len(trace.firings) == 4
    assert trace.statistics[NEGATION].fired == 4


def test_each_firing_says_what_went_and_what_came():
    model = model_from_text(chain(2))
    [firing] = run_pass(NEGATION, model).firings
    assert (dict(firing.removed), dict(firing.added)) == ({"Neg": 2}, {})
    assert str(firing.id) == f"{NEGATION}/double-negation@v1#0"


def test_enters_bodies_and_functions():
    text = """<ir_version: 10, opset_import: ["": 18, "local": 1]>
    g (bool c, float[N] x) => (float[N] y) {
      f = local.twice(x)
      y = If (c) <then_branch = t () => (float[N] u) { a = Neg(f)  b = Neg(a)  u = Relu(b) },
                  else_branch = e () => (float[N] w) { w = Relu(f) }> }
    <domain: "local", opset_import: ["": 18]>
    twice (p) => (q) { a1 = Neg(p)  b1 = Neg(a1)  q = Abs(b1) }"""
    model = model_from_text(text)
    trace = run_pass(NEGATION, model)
    assert (
        sorted(f.id.place.scope for f in trace.firings) == ["local:twice", "y/then_branch"]
        or len(trace.firings) == 2
    )
    [function] = model.functions.values()
    assert [n.op_type for n in function] == ["Abs"]
    assert "Neg" not in operators_of(model)


def test_graph_output_keeps_its_name_when_an_inner_value_takes_over():
    model = model_from_text("g (float[N] x) => (float[N] y) { r = Relu(x)  a = Neg(r)  y = Neg(a) }")
    run_pass(NEGATION, model)
    assert [v.name for v in model.graph.outputs] == ["y"]
    assert operators_of(model) == ["Relu"]
    assert model.graph[0].outputs[0].name == "y"


@pytest.mark.parametrize(
    "text",
    [
        "g (float[N] x) => (float[N] y) { a = Neg(x)  y = Neg(a) }",
        "g (float[N] x) => (float[N] r, float[N] y) { r = Relu(x)  a = Neg(r)  y = Neg(a) }",
    ],
)
def test_graph_input_or_other_output_can_not_take_a_name(text):
    model = model_from_text(text)
    trace = run_pass(NEGATION, model)
    assert not trace.firings
    [reason] = trace.misses.values()
    assert reason.startswith(WOULD_NEED_IDENTITY)


def test_signature_stays_and_metadata_moves_to_new_nodes():
    @rule
    def relu_of_relu(x):
        """Relu(Relu(x)) -> Relu(x)."""
        return op.Relu(op.Relu(x))

    @relu_of_relu.rewrite
    def once(m: Match) -> ir.Value:
        return op.Relu(m["x"])

    @dataclass(frozen=True)
    class MergeRelusForTest(Pass):
        """One Relu is enough."""

        name = "merge-relus-for-test"
        stage = "on-request"
        rules = (relu_of_relu,)

    model = model_from_text("g (float[N] x) => (float[N] y) { a = Relu(x)  y = Relu(a) }")
    model.graph[0].metadata_props["source"] = "layer.py"
    run_pass(MergeRelusForTest.name, model)
    [node] = model.graph
    assert node.metadata_props["source"] == "layer.py"
    assert node.outputs[0].name == "y" and str(model.graph.outputs[0].shape) == "[N]"


def test_limit_and_denial_replay_the_same_run():
    everything = run_pass(NEGATION, model_from_text(chain(9)))
    for count in range(len(everything.firings) + 1):
        again = run_pass(NEGATION, model_from_text(chain(9)), trace=Trace(limit=count))
        assert again.firings == everything.firings[:count]
    model = model_from_text(chain(2))
    denied = Trace(denied=frozenset({FiringId(Place(NEGATION, "double-negation", "", "v1"), 0)}))
    assert not run_pass(NEGATION, model, trace=denied).firings
    assert operators_of(model) == ["Neg", "Neg", "Relu"]


def test_rules_that_fight_are_named():
    @rule_on("Relu")
    def to_abs(m: Match) -> ir.Value:
        """Relu -> Abs."""
        return op.Abs(m.root.inputs[0])

    @rule_on("Abs")
    def to_relu(m: Match) -> ir.Value:
        """Abs -> Relu."""
        return op.Relu(m.root.inputs[0])

    @dataclass(frozen=True)
    class FightForTest(Pass):
        """Never comes to rest."""

        name = "fight-for-test"
        stage = "on-request"
        rules = (to_abs, to_relu)

    with pytest.raises(RulesFight, match="fight-for-test/to-abs and fight-for-test/to-relu"):
        run_pass(FightForTest.name, model_from_text("g (float[N] x) => (float[N] y) { y = Relu(x) }"))


def test_cost_grows_with_the_graph_not_with_its_square():
    """Attempts per node stay the same for a graph eight times as long."""

    def attempts(count: int) -> int:
        asked = 0

        @rule_on("Neg", depth=3)
        def look(m: Match) -> None:
            """Never fires."""
            nonlocal asked
            asked += 1

        @dataclass(frozen=True)
        class Look(Pass):
            """Counts its attempts."""

            name = f"look-for-test-{count}"
            stage = "on-request"
            rules = (look,)

        run_pass(f"({NEGATION},{Look.name})", model_from_text(chain(count)))
        return asked

    assert attempts(320) <= 10 * attempts(40)


@dataclass(frozen=True)
class StepsForTest(Pass):
    """Turns each Relu into Abs, a step each."""

    name = "steps-for-test"
    stage = "on-request"
    marks_steps = True

    def run(self, scope: Scope) -> None:
        for node in scope.nodes("Relu"):
            with scope.rewriting(node, "to-abs") as draft:
                draft.replace(node, op.Abs(node.inputs[0]))


def test_a_run_pass_asks_for_each_step():
    text = "g (float[N] x) => (float[N] y) { a = Relu(x)  b = Relu(a)  y = Relu(b) }"
    model = model_from_text(text)
    trace = run_pass(StepsForTest.name, model, trace=Trace(limit=2))
    assert operators_of(model) == ["Abs", "Abs", "Relu"]
    assert [f.id.place.rule for f in trace.firings] == ["to-abs", "to-abs"]


def test_constants_are_shared_and_functions_get_their_own():
    @rule_on("Relu")
    def to_max(m: Match) -> ir.Value:
        """Relu(x) -> Max(x, 0)."""
        return op.Max(m.root.inputs[0], 0.0)

    @dataclass(frozen=True)
    class RelusToMaxForTest(Pass):
        """Relu as Max."""

        name = "relus-to-max-for-test"
        stage = "on-request"
        rules = (to_max,)

    text = """<ir_version: 10, opset_import: ["": 18, "local": 1]>
    g (float[N] x) => (float[N] y) { a = Relu(x)  b = local.f(a)  y = Relu(b) }
    <domain: "local", opset_import: ["": 18]> f (p) => (q) { q = Relu(p) }"""
    model = model_from_text(text)
    before = model.clone()
    run_pass(RelusToMaxForTest.name, model)
    assert len(model.graph.initializers) == 1
    feeds = random_feeds(before)
    assert np.array_equal(run(before, feeds)[0], run(model, feeds)[0])


@rule
def relu_of_positive_part(x):
    """Relu(x) -> Where(IsNaN(x), 0, x), whatever sense that has."""
    return op.Relu(x)


@relu_of_positive_part.rewrite
def chosen(m: Match) -> ir.Value:
    return op.Where(op.IsNaN(m["x"]), 0.0, m["x"])


@dataclass(frozen=True)
class ChooseForTest(Pass):
    """A number beside a condition."""

    name = "choose-for-test"
    family = "test"
    stage = "on-request"
    rules = (relu_of_positive_part,)


def test_a_number_has_the_type_of_what_is_chosen_not_of_the_condition():
    model = model_from_text("g (float[N] x) => (float[N] y) { y = Relu(x) }")
    run_pass("choose-for-test", model)
    assert [v.dtype for v in model.graph.initializers.values()] == [ir.DataType.FLOAT]


def test_removing_an_if_takes_what_only_its_bodies_needed():
    text = """g (bool c, float[N] x) => (float[N] y) {
      a = Neg(x)
      u = If (c) <then_branch = t () => (float[N] p) { p = Relu(a) }, else_branch = e () => (float[N] q) { q = Abs(a) }>
      y = Exp(x) }"""
    model = model_from_text(text)
    run_pass("remove-dead-code", model)
    assert operators_of(model) == ["Exp"]


def test_editor_index_follows_what_happens():
    model = model_from_text(chain(5))
    editor = Editor(model, target=targets.find("onnx"))
    Driver(editor).run(pipeline.parse(NEGATION))
    assert list(editor.index["", "Neg"]) == [n for n in model.graph if n.op_type == "Neg"]


def test_opset_is_raised_only_for_a_rule_that_fires():
    from graphopt.rewriting import Rejection

    @rule_on("Relu", opset=20)
    def sometimes(m: Match) -> ir.Value | Rejection | None:
        """Relu(Neg(x)) -> Gelu(x)."""
        source = m.root.inputs[0].producer()
        if source is None:
            return None
        return op.Gelu(source.inputs[0]) if source.op_type == "Neg" else Rejection("not negated")

    @dataclass(frozen=True)
    class SometimesForTest(Pass):
        """Needs opset 20, where it fires."""

        name = "sometimes-for-test"
        stage = "on-request"
        rules = (sometimes,)

    def version(body: str) -> int:
        model = model_from_text(f"g (float[N] x) => (float[N] y) {{ {body} }}", opset=13)
        run_pass(SometimesForTest.name, model, opset="auto")
        return model.graph.opset_imports[""]

    assert version("y = Relu(x)") == version("a = Abs(x) y = Relu(a)") == 13
    assert version("a = Neg(x) y = Relu(a)") == 23


def test_what_is_left_in_the_body_of_a_node_that_went_is_not_looked_at():
    model = model_from_text("""g (float[3] x, bool c) => (float[3] y) {
        y = If (true) <
            then_branch = t () => (float[3] a) { a = Relu(x) },
            else_branch = e () => (float[3] b) {
                b = If (c) <
                    then_branch = t2 () => (float[3] d) { k = Shape(x)  d = ConstantOfShape(k) },
                    else_branch = e2 () => (float[3] f) { f = ConstantOfShape([3]) }> }> }""")
    trace = run_pass("(inline-if,fold-constants)", model)
    assert operators_of(model) == ["Relu"]
    assert not trace.faults


def test_functions_that_take_attributes_are_left_alone():
    model = model_from_text(
        """<ir_version: 10, opset_import: ["": 18, "my": 1]>
        g (float[N,1,1] x) => (float y) { a = my.f <axis = 1> (x)  b = my.h(a)  y = ReduceMax(b) }
        <domain: "my", opset_import: ["": 18]>
        f <axis> (v) => (w) { a = Neg(v)  b = Neg(a)  w = Softmax <axis: int = @axis> (b) }
        <domain: "my", opset_import: ["": 18]>
        h (v) => (w) { a = Neg(v)  b = Neg(a)  w = Abs(b) }"""
    )
    run_pass("remove-double-negation-for-test", model)
    inner = {name: [node.op_type for node in function] for (_, name, _), function in model.functions.items()}
    assert inner == {"f": ["Neg", "Neg", "Softmax"], "h": ["Abs"]}
