from __future__ import annotations

import onnx_ir as ir
import pytest

from graphopt import targets
from graphopt.ir.inference import Facts
from graphopt.targets.tables import table
from graphopt.targets.work import MOST_TRIPS, size_at, trips_of, work_of
from graphopt.testing import model_from_text

ORT = targets.find("onnxruntime")


def first(text, opset=21):
    model = model_from_text(text, opset=opset)
    return model.graph[len(model.graph) - 1], Facts(model)


def test_work_of_a_product_at_samples():
    node, facts = first("g (float[n,64] x, float[64,32] w) => (float[n,32] y) { y = MatMul(x, w) }")
    for n in (1, 64):
        work = work_of(node, facts, n)
        assert work.flops == 2 * n * 64 * 32
        assert work.bytes == 4 * (n * 64 + 64 * 32 + n * 32)


def test_views_read_nothing_and_selections_read_what_they_write():
    node, facts = first("g (float[n,64] x) => (float[m,32] y) { y = Reshape(x, [-1, 32]) }")
    assert work_of(node, facts).bytes == 0
    node, facts = first("g (float[1000,64] x, int64[5] i) => (float[5,64] y) { y = Gather(x, i) }")
    assert work_of(node, facts).bytes == 4 * 5 * 64 * 2 + 8 * 5


def test_bytes_count_packed_elements():
    node, facts = first("g (int4[10] x) => (int4[10] y) { y = Transpose(x) }")
    assert work_of(node, facts).bytes == 10


def test_empty_and_unknown():
    node, facts = first("g (float[0,8] x) => (float[0,8] y) { y = Relu(x) }")
    assert work_of(node, facts).bytes == 0
    node, facts = first("g (float[8] x) => (float[n] y) { z = of.mine.Thing(x) y = Relu(z) }")
    assert work_of(node, facts, 16).bytes == 2 * 4 * 16 * 16


def test_sizes_that_do_not_fit_each_other_are_the_sample():
    node, facts = first("g (float[n] x, int64[1] s) => (float[m] y) { y = Slice(x, [100], [200]) }")
    (dim,) = facts.dims(node.outputs[0])
    assert size_at(dim, 16) == 0
    assert size_at(dim, 256) == 100


LOOP = """g (float[4] x, int64 n) => (float[4] y) {{
    y = Loop <body = b (int64 i, bool c, float[4] h) => (bool d, float[4] k) {{ d = Identity(c) k = Neg(h) }}> ({trips}, true, x)
}}"""


@pytest.mark.parametrize(("trips", "expected"), [("3", 3), ("n", 16), (str(MOST_TRIPS * 4), 16), ("0", 0)])
def test_trips(trips, expected):
    model = model_from_text(LOOP.format(trips=trips), opset=21)
    loop = next(node for node in model.graph if node.op_type == "Loop")
    assert trips_of(loop, Facts(model), 16) == expected


def test_a_loop_costs_its_body_in_each_iteration():
    costs = {}
    for trips in (1, 3):
        model = model_from_text(LOOP.format(trips=trips), opset=21)
        loop = next(node for node in model.graph if node.op_type == "Loop")
        costs[trips] = ORT.cost(loop, Facts(model))
    body = loop.attributes["body"].as_graph()
    row = ORT.row("", "Loop").cost
    assert costs[3] - costs[1] == pytest.approx(2 * (row.b + ORT.cost_of(body, Facts(model))))
    assert costs[1] > row.a + row.b


def test_an_if_costs_its_slower_branch():
    node, facts = first(
        """g (bool c, float[64,64] x) => (float[64,64] y) {
            y = If (c) <then_branch = t () => (float[64,64] p) { p = Relu(x) },
                        else_branch = e () => (float[64,64] q) { q = Softplus(x) }>
        }"""
    )
    slow = ORT.cost(node.attributes["else_branch"].as_graph()[0], facts)
    assert ORT.cost(node, facts) == pytest.approx(ORT.row("", "If").cost.a + slow)


CALL = """<ir_version: 9, opset_import: ["": 21, "{domain}": 1]>
g (float[n,64] x, float[64,32] w, float[32] b) => (float[n,32] y) {{ y = {domain}.{name} (x, w, b) }}
<domain: "{domain}", opset_import: ["": 21]> {name} (x, w, b) => (y) {{ p = MatMul(x, w) y = Add(p, b) }}"""


def test_a_call_costs_its_row_or_its_body():
    own = model_from_text(CALL.format(domain="ai.graphopt", name="FullyConnected"))
    ours = targets.find("graphopt")
    work = work_of(own.graph[0], Facts(own))
    row = ours.row("ai.graphopt", "FullyConnected")
    assert ours.cost(own.graph[0], Facts(own)) == pytest.approx(row.cost.ns(work.flops, work.bytes))
    other = model_from_text(CALL.format(domain="of.mine", name="Dense"))
    (function,) = other.functions.values()
    assert ORT.cost(other.graph[0], Facts(other)) == ORT.cost_of(function, Facts(other)) > 0


def test_an_unknown_operator_costs_an_addition():
    text = "g (float[n,64] x) => (float[n,64] y) {{ y = {} (x) }}"
    unknown, facts = first(text.format("of.mine.Thing"))
    row = ORT.row("", "Add").cost
    assert ORT.cost(unknown, facts) == pytest.approx(row.ns(0, work_of(unknown, facts).bytes))


def test_slower_at_any_size_is_slower():
    model = model_from_text(
        "g (float[n] x) => (float[n] y) { a = Relu(x) b = Relu(a) c = Softplus(x) y = Add(b, c) }", opset=21
    )
    first_relu, second, softplus, _ = model.graph
    facts = Facts(model)
    assert not ORT.is_slower([first_relu], [first_relu, second], facts)
    assert not ORT.is_slower([first_relu], [first_relu], facts)
    # Cheaper to start than two operators, dearer once there are enough elements.
    assert ORT.cost(softplus, facts, 1) < ORT.cost_of([first_relu, second], facts, 1)
    assert ORT.is_slower([softplus], [first_relu, second], facts)


def test_products_of_all_spellings_have_one_speed():
    rows = [ORT.row("", "MatMul"), ORT.row("", "Gemm"), ORT.row("com.microsoft", "FusedMatMul")]
    assert len({(row.cost.b, row.cost.c) for row in rows}) == 1


def test_what_was_measured_holds_between_operators():
    def cost(op_type, domain=""):
        return ORT.row(domain, op_type).cost

    assert cost("Relu").c < cost("Exp").c < cost("Softplus").c
    assert cost("MatMulInteger").b < cost("MatMul").b
    assert cost("Reshape").b == cost("Reshape").c == 0
    assert ir.DataType.FLOAT in ORT.row("", "Relu").dtypes


def test_tables_are_read_once():
    assert table("onnxruntime") is table("onnxruntime")
    assert table("onnx").row("", "Relu") is table("onnx").row("", "Relu")
