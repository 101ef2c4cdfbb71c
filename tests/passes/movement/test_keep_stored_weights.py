from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.ir import lazy
from graphopt.ir.load import load
from graphopt.ir.save import save
from graphopt.passes.movement.keep_stored_weights import IS_COMPUTED, OTHER_CONSUMERS
from graphopt.testing import assert_same_outputs, model_from_text, operators_of, random_feeds, run_pass

PASS = "keep-stored-weights"
W = np.arange(12, dtype=np.float32).reshape(3, 4)
DOMAINS = {"com.microsoft": 1}


def model(body, tensor=None, *, opset=17, outputs="float[N,3] y", matrix="float[4,3] w = {0}"):
    """`body` with the initializer w as 4 x 3: a transposed tensor of 3 x 4 unless another is given."""
    zeros = matrix.replace("{0}", "{" + ",".join(["0"] * 12) + "}")
    made = model_from_text(
        f"g (float[N,4] x) => ({outputs}) <{zeros}> {{ {body} }}", opset=opset, domains=DOMAINS
    )
    made.graph.initializers["w"].const_value = tensor or lazy.transposed(ir.tensor(W), (1, 0))
    return made


@pytest.mark.parametrize(
    ("body", "flag"),
    [
        ("y = Gemm (x, w)", 1),
        ("y = Gemm <alpha = 2.0, transB = 0> (x, w)", 1),
        ('y = com.microsoft.FusedGemm <activation = "Relu"> (x, w)', 1),
    ],
)
def test_gemm_reads_the_stored_order(body, flag):
    made = model(body)
    before = made.clone()
    trace = run_pass(PASS, made, target="onnxruntime")
    (node,) = made.graph
    assert len(trace.firings) == 1 and node.attributes["transB"].as_int() == flag
    assert node.inputs[1].const_value.shape == [3, 4]
    assert_same_outputs(before, made, random_feeds(made, {"N": 2}), exact=False)


def test_transposed_twice_is_as_it_was():
    made = model(
        "y = Gemm <transB = 1> (x, w)", lazy.transposed(ir.tensor(W.T), (1, 0)), matrix="float[3,4] w = {0}"
    )
    run_pass(PASS, made)
    (node,) = made.graph
    assert "transB" not in node.attributes and node.inputs[1].const_value.shape == [4, 3]


def test_the_stored_weight_is_shared(tmp_path):
    made = model(
        "a = Gemm (x, w)  b = Gemm (x, w)  t = Gather (v, [1])  y = Sum (a, b, t)",
        matrix="float[4,3] w = {0}, float[3,4] v = {0}",
    )
    stored = ir.tensor(W)
    made.graph.initializers["v"].const_value = stored
    made.graph.initializers["w"].const_value = lazy.transposed(stored, (1, 0))
    del stored
    run_pass(PASS, made)
    gemms = [node for node in made.graph if node.op_type == "Gemm"]
    assert [node.inputs[1].name for node in gemms] == ["v", "v"]


def test_the_source_is_written_once(tmp_path):
    made = model("y = Gemm (x, w)")
    save(made, tmp_path / "m.onnx", external=True)
    run_pass(PASS, made)
    save(made, tmp_path / "n.onnx", external=True)
    assert load(tmp_path / "n.onnx").graph[0].inputs[1].const_value.numpy().tolist() == W.tolist()


@pytest.mark.parametrize(
    ("body", "outputs", "reason"),
    [
        ("a = Gemm (x, w)  s = ReduceSum (w)  y = Add (a, s)", "float[N,3] y", OTHER_CONSUMERS),
        ("y = Gemm (x, w)", "float[N,3] y, float[4,3] w", OTHER_CONSUMERS),
        ("t = Gemm <transA = 1> (w, w)  p = Gemm (x, w)  y = Gemm (p, t)", "float[N,3] y", OTHER_CONSUMERS),
    ],
)
def test_other_consumers(body, outputs, reason):
    made = model(body, outputs=outputs)
    trace = run_pass(PASS, made)
    assert not trace.firings and any(miss.startswith(reason) for miss in trace.misses.values())


def test_what_is_computed_anyway_stays():
    doubled = lazy.mapped((ir.tensor(W),), lambda array: array * 2, ir.DataType.FLOAT, (3, 4))
    made = model("y = Gemm (x, w)", lazy.transposed(doubled, (1, 0)))
    trace = run_pass(PASS, made)
    assert not trace.firings and any(miss.startswith(IS_COMPUTED) for miss in trace.misses.values())


@pytest.mark.parametrize("body", ["y = MatMul (x, w)", "y = Add (x, w)"])
def test_other_operators(body):
    outputs = "float[N,3] y" if "MatMul" in body else "float[N,4] y"
    tensor = None if "MatMul" in body else lazy.transposed(ir.tensor(W.reshape(4, 3)), (1, 0))
    made = model(body, tensor, outputs=outputs)
    assert not run_pass(PASS, made).firings


def test_a_plain_weight_stays():
    made = model("y = Gemm (x, w)", ir.tensor(np.ascontiguousarray(W.T)))
    assert operators_of(made) == ["Gemm"] and not run_pass(PASS, made).firings
