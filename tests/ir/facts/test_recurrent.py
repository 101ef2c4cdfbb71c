"""Facts of recurrent layers against runs."""

from __future__ import annotations

import pytest

from tests.ir.facts.checking import check, facts_of, flops, one_node

SIZES = ({"T": 5, "B": 2}, {"T": 1, "B": 3})
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


@pytest.mark.parametrize("op", list(GATES))
@pytest.mark.parametrize(("direction", "count"), [("forward", 1), ("reverse", 1), ("bidirectional", 2)])
@pytest.mark.parametrize("opset", [7, 14, 22])
def test_layers(op, direction, count, opset):
    rows = GATES[op] * 6
    inputs = ["float[T,B,3]", f"float[{count},{rows},3]", f"float[{count},{rows},6]"]
    state = f"{count}, B, 6"
    dims = (f"T, {count}, B, 6", state, state)[: 3 if op == "LSTM" else 2]
    outputs = len(dims)
    check(op, inputs, *SIZES, opset=opset, outputs=outputs, dims=dims, hidden_size=6, direction=direction)


@pytest.mark.parametrize("op", list(GATES))
def test_batch_first(op):
    """Layout 1, which onnxruntime does not run."""
    rows = GATES[op] * 6
    inputs = ["float[B,T,3]", f"float[1,{rows},3]", f"float[1,{rows},6]"]
    dims = ("B, T, 1, 6", "B, 1, 6", "B, 1, 6")
    facts, node = facts_of(
        one_node(op, inputs, opset=14, domain="", outputs=3 if op == "LSTM" else 2, hidden_size=6, layout=1)
    )
    for output, text in zip(node.outputs, dims, strict=False):
        assert facts.describe(output) == f"float32[{text}]"


def test_hidden_size_from_the_weights_and_flops():
    inputs = ["float[T,B,3]", "float[1,24,3]", "float[1,24,6]"]
    facts, node = facts_of(one_node("LSTM", inputs, opset=14, domain="", outputs=1))
    assert facts.describe(node.outputs[0]) == "float32[T, 1, B, 6]"
    assert str(flops(facts, node, 14)) == f"{2 * 24 * 9}*B*T"


def test_linear_attention():
    inputs = ["float[B,T,12]", "float[B,T,6]", "float[B,T,10]", "float[B,2,3,5]"]
    check(
        "LinearAttention",
        inputs,
        *SIZES,
        opset=27,
        outputs=2,
        judge="reference",
        dims=("B, T, 20", "B, 2, 3, 5"),
        q_num_heads=4,
        kv_num_heads=2,
        update_rule="linear",
    )
