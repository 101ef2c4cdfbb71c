import numpy as np
import pytest

from graphopt import targets
from graphopt.rewriting import Driver, Editor, Trace, pipeline
from graphopt.testing import assert_same_outputs, model_from_text, operators_of

PASS = "tabulate-loop-steps"

CODE = "f = Cast <to = 1> (step)  m = Mul(f, 0.25)  s = Sin(m)  c = Cos(m)  code = Add(s, c)"


def loop(body: str, count: str = "n", condition: str = "And(k, less)", limit: str = "5") -> str:
    return f"""g (int64 n, float x) => (float y, int64 last) {{
        y, last = Loop ({count}, true, x, 0) <body = b (int64 i, bool k, float a, int64 step)
                => (bool go, float t, int64 step2) {{
            {body}  t = Add(a, code)  step2 = Add(step, 1)  less = Less(step2, {limit})  go = {condition} }}> }}"""


def run(text: str, saved: int = 1000):
    """The pass on a model from which earlier passes have removed so many nodes."""
    model = model_from_text(text)
    trace = Trace()
    editor = Editor(model.clone(), target=targets.find("onnx"), trace=trace)
    editor.nodes_at_start += saved
    Driver(editor, strict=True).run(pipeline.parse(f"{PASS},remove-dead-code"))
    return model, editor.model, [f for f in trace.firings if f.id.place.pass_name == PASS]


@pytest.mark.parametrize("trips", [0, 1, 3, 5, 9])
def test_position_code_becomes_a_table(trips):
    before, after, firings = run(loop(CODE))
    assert len(firings) == 1
    assert operators_of(after).count("Gather") == 1 and "Sin" not in operators_of(after)
    assert_same_outputs(before, after, {"n": np.array(trips), "x": np.array(0.5, np.float32)})


def test_the_iteration_number_is_a_step_too():
    text = loop(CODE.replace("step", "i"), count="4", condition="Identity(k)")
    before, after, firings = run(text)
    assert firings and "Sin" not in operators_of(after)
    assert_same_outputs(before, after, {"n": np.array(0), "x": np.array(0.5, np.float32)})


def test_rows_of_a_cache_that_grows_by_one_are_the_step():
    text = """g (float[0,1] none, float x) => (float[N,1] rows) {
        y, last, rows = Loop ( , true, x, 0, none) <body = b (int64 i, bool k, float a, int64 step, float[N,1] r)
                => (bool go, float t, int64 step2, float[M,1] r2) {
            sh = Shape <start = 0, end = 1> (r)  f = Cast <to = 1> (sh)  s = Sin(f)  c = Cos(f)  code = Add(s, c)
            d = ReduceSum <keepdims = 0> (code)  t = Add(a, d)  e = Unsqueeze(t, [0, 1])
            r2 = Concat <axis = 0> (r, e)
            step2 = Add(step, 1)  go = Less(step2, 6) }> }"""
    before, after, firings = run(text)
    assert firings and "Sin" not in operators_of(after)
    feeds = {"none": np.zeros((0, 1), np.float32), "x": np.array(0.5, np.float32)}
    assert_same_outputs(before, after, feeds)


@pytest.mark.parametrize(
    "text",
    [
        loop(CODE, condition="Identity(k)"),
        loop(CODE, limit="100000"),
        loop(CODE.replace("Cast <to = 1> (step)", "Mul(a, 2.0)")),
        loop(CODE).replace("true, x, 0)", "true, x, n)"),
        loop(CODE).replace("step2 = Add(step, 1)", "step2 = Add(step, 2)"),
        loop("f = Cast <to = 1> (step)  code = Sin(f)"),
        loop(
            "r = RandomNormal <shape = [1]> ()  f = Cast <to = 1> (step)  p = Squeeze(r)  q = Mul(f, p) code = Sin(q)"
        ),
    ],
    ids=[
        "no bound",
        "too many steps",
        "from data",
        "unknown start",
        "steps of two",
        "too few nodes",
        "random",
    ],
)
def test_leaves_alone(text):
    assert not run(text)[2]


def test_the_file_does_not_grow():
    """A table of 5 floats against a few nodes of 120 bytes fits, of 4,000 floats it does not."""
    assert run(loop(CODE), saved=0)[2]
    assert not run(loop(CODE, limit="4000"), saved=0)[2]
