from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.errors import MismatchError, UsageError
from graphopt.testing import model_from_text
from graphopt.verification import Verifier
from graphopt.verification.verify import BEYOND_ROUNDING, NEVER_RUN_NOTE, QUANTIZED_NOTE

RELU = "g (float[N,3] x) => (float[N,3] y) { y = Relu (x) }"
TYPES = ["float", "double", "float16", "bfloat16", "int32", "int64", "uint8", "int8", "bool", "string"]


def check(before: str, after: str, **kwargs):
    return Verifier(model_from_text(before, **kwargs)).check(model_from_text(after, **kwargs))


def test_the_same_model_is_verified():
    found = check(RELU, RELU)
    assert found.status == "verified"
    assert found.judge.startswith("onnxruntime ")
    assert found.samples >= 4
    assert {"N": 1} in found.sizes
    assert found.errors == {"y": 0.0}
    assert found.mismatches == ()
    assert found.notes == ()


def test_another_order_of_a_sum_is_verified_with_its_error():
    found = check(
        "g (float[N,64] x) => (float[N] y) { e = Exp (x)  y = ReduceSum <keepdims = 0> (e, [1]) }",
        """g (float[N,64] x) => (float[N] y) {
            e = Exp (x)  a, b = Split <axis = 1, num_outputs = 2> (e)
            p = ReduceSum <keepdims = 0> (a, [1])  q = ReduceSum <keepdims = 0> (b, [1])  y = Add (p, q) }""",
    )
    assert found.status == "verified"
    assert 0 < found.max_error < 1e-5


def test_a_wrong_model_is_caught_with_the_place():
    found = check(RELU, "g (float[N,3] x) => (float[N,3] y) { y = LeakyRelu <alpha = 0.1> (x) }")
    assert found.status == "mismatch"
    assert found.mismatches[0].output == "y"
    assert found.mismatches[0].reason.startswith("at [")
    assert found.max_error > 1e-3


@pytest.mark.parametrize("dtype", TYPES)
def test_a_wrong_model_of_every_type_is_caught(dtype):
    graph = "g ({0}[N,4] x) => ({0}[N,4] y) {{ y = {1} }}"
    same, shifted = "Identity (x)", "Slice (x, [1], [0], [1], [-1])"
    before = graph.format(dtype, same)
    after = graph.format(dtype, shifted).replace("[1], [0], [1], [-1]", "[-1], [-5], [1], [-1]")
    assert check(before, before).status == "verified"
    found = check(before, after)
    assert found.status == "mismatch"
    assert found.mismatches[0].reason.startswith("at [")


@pytest.mark.parametrize(
    ("after", "reason"),
    [
        ("y = Unsqueeze (r, [0])", "shape [2, 3] became [1, 2, 3]"),
        ("y = Cast <to = 11> (r)", "float32 became float64"),
        ("z = Div (r, r)  o = Mul (z, 0.0)  y = Add (r, o)", "became nan"),
    ],
)
def test_wrong_shapes_types_and_nans_are_caught(after, reason):
    graph = model_from_text(f"g (float[N,3] x) => (float[N,3] y) {{ r = Relu (x)  {after} }}")
    graph.graph.outputs[0].shape = None
    graph.graph.outputs[0].type = graph.graph.outputs[0].producer().outputs[0].type
    if "float64" in reason:
        graph.graph.outputs[0].dtype = ir.DataType.DOUBLE
    found = Verifier(model_from_text(RELU)).check(graph)
    assert found.status == "mismatch"
    assert reason in found.mismatches[0].reason


def test_a_nan_in_the_same_place_is_verified():
    graph = "g (float[N,8] x) => (float[N,8] y) { y = Sqrt (x)  }".replace("Sqrt (x)", "Acos (x)")
    assert check(graph, graph).status == "verified"


def test_what_is_wrong_at_one_size_only_is_caught():
    """A mean over the batch of what should be a mean over each row: the same for a batch of one."""
    before = "g (float[N,4] x) => (float[N,4] y) { m = ReduceMean (x, [1])  y = Sub (x, m) }"
    after = "g (float[N,4] x) => (float[N,4] y) { m = ReduceMean (x, [0, 1])  y = Sub (x, m) }"
    found = check(before, after)
    assert found.status == "mismatch"
    assert found.mismatches[0].sizes == {"N": 2}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="sizes of zero are only tried in a child process")
def test_what_is_wrong_at_zero_only_is_caught():
    """A Reshape to [-1, 4] can't be told from [N, 4] but by an empty tensor."""
    before = "g (float[N,M,4] x) => (float[a,4] y) { y = Reshape (x, [-1, 4]) }"
    after = (
        "g (float[N,M,4] x) => (float[a,4] y) { s = Size (x)  o = Max (s, 4)  q = Div (o, 4) "
        "u = Unsqueeze (q, [0])  t = Concat <axis = 0> (u, [4])  y = Reshape (x, t) }"
    )
    found = check(before, after)
    assert found.status == "mismatch"
    assert 0 in found.mismatches[0].sizes.values()
    assert "fails" in found.mismatches[0].reason


def test_a_result_that_does_not_load_is_a_mismatch():
    found = check(RELU, 'g (float[N,3] x) => (float[N,3] y) { y = Einsum <equation = "ij"> (x, x) }')
    assert found.status == "mismatch"


def test_a_changed_signature_is_a_mismatch():
    after = "g (float[N,3] x) => (float[N,3] z) { z = Relu (x) }"
    assert "outputs ['y'] became ['z']" in check(RELU, after).mismatches[0].reason
    after = "g (float[N,3] w) => (float[N,3] y) { y = Relu (w) }"
    assert "inputs ['x'] became ['w']" in check(RELU, after).mismatches[0].reason


def test_an_unused_input_must_stay():
    before = "g (float[N,3] x, float[N] unused) => (float[N,3] y) { y = Relu (x) }"
    assert check(before, before).status == "verified"
    assert check(before, RELU).status == "mismatch"


def test_custom_operators_are_unverified_with_the_reason():
    graph = "g (float[N,3] x) => (float[N,3] y) { y = far.away (x) }"
    found = check(graph, graph, domains={"far": 1})
    assert found.status == "unverified"
    assert found.judge == ""
    assert any("far" in note for note in found.notes)


def test_custom_operators_with_a_function_are_verified():
    text = """<ir_version: 8, opset_import: ["" : 18, "far" : 1]>
        g (float[N,3] x) => (float[N,3] y) { y = far.away (x) }
        <domain: "far", opset_import: ["" : 18]> away (a) => (b) { b = Relu (a) }"""
    assert Verifier(model_from_text(text)).check(model_from_text(RELU)).status == "verified"


def test_the_reference_judges_what_onnxruntime_lacks():
    """onnxruntime has no float64 kernel of this operator."""
    graph = "g (double[N,3,4,4] x) => (double[N,3,4,4] y) { y = InstanceNormalization (x, s, s) }".replace(
        "{ y", "{ s = Constant <value = double[3] {1, 2, 3}> ()  y"
    )
    found = check(graph, graph)
    assert found.status == "verified"
    assert found.judge.startswith("onnx.reference ")


BESIDE = """g (float[N,3] x) => (float[N,3] y, float[1] c) {
    y = Relu (x)  c = Constant <value_floats = [1.0]> () }"""


def test_constant_outputs_are_said_and_count_as_unverified():
    constant = "g (float[N,3] x) => (float[N,3] y) { y = Mul (x, 0.0) }"
    found = check(constant, constant)
    assert found.status == "unverified"
    assert found.notes == ("output 'y' is empty, NaN or constant in all samples: not verified",)


def test_constant_outputs_are_still_compared():
    found = check(BESIDE, BESIDE.replace("[1.0]", "[2.0]"))
    assert found.status == "mismatch"
    assert found.mismatches[0].output == "c"


def test_one_constant_output_beside_others_is_verified_with_a_note():
    found = check(BESIDE, BESIDE)
    assert found.status == "verified"
    assert "output 'c'" in found.notes[0]


def test_random_outputs_are_compared_by_shape():
    random = "g (float[N,3] x) => (float[N,3] r, float[N,3] y) { r = RandomNormalLike (x)  y = Relu (x) }"
    found = check(random, random)
    assert found.status == "verified"
    assert found.notes == ("output 'r' is random: only its type and shape are compared",)
    wrong = random.replace("r = RandomNormalLike (x)", "q = RandomNormalLike (x)  r = Unsqueeze (q, [0])")
    graph = model_from_text(wrong.replace("float[N,3] r", "float[a,N,3] r"))
    assert Verifier(model_from_text(random)).check(graph).status == "mismatch"


def test_the_original_is_left_as_it_was_and_asked_once(monkeypatch):
    original = model_from_text(RELU)
    before = ir.to_proto(original).SerializeToString()
    verifier = Verifier(original)
    verifier.prepare()
    monkeypatch.setattr("graphopt.verification.verify.find_samples", None)
    for _ in range(2):
        assert verifier.check(original).status == "verified"
    assert ir.to_proto(original).SerializeToString() == before


def test_the_sample_that_told_comes_first_next_time():
    before = "g (float[N,4] x) => (float[N,4] y) { y = Identity (x) }"
    after = "g (float[N,4] x) => (float[N,4] y) { m = Shape (x)  n = Gather (m, 0)  b = Equal (n, 3) " \
            "f = Cast <to = 1> (b)  y = Add (x, f) }"  # fmt: skip
    verifier = Verifier(model_from_text(before))
    first, second = (verifier.check(model_from_text(after)) for _ in range(2))
    assert first.status == second.status == "mismatch"
    assert first.samples > second.samples == 1


def test_a_model_from_a_file_and_a_result_from_a_file(tmp_path: Path):
    model = model_from_text(RELU)
    path = tmp_path / "m.onnx"
    ir.save(model, path)
    verifier = Verifier(model, path=path)
    assert verifier.check(path).status == "verified"
    assert verifier.check(model_from_text(RELU.replace("Relu", "Abs"))).status == "mismatch"


def test_the_time_limit_still_compares_one_sample():
    found = Verifier(model_from_text(RELU), seconds=0.0).check(model_from_text(RELU))
    assert found.status == "verified"
    assert found.samples == 1


QDQ = """g (float[N,16] x) => (float[N,16] y) {
    s = Constant <value = float {0.05}> ()  z = Constant <value = int8 {0}> ()
    a = MUL  q = QuantizeLinear (a, s, z)  y = DequantizeLinear (q, s, z) }"""


TWICE = """g (float[N,16] x) => (float[N,16] y) {
    s = Constant <value = float {0.02}> ()  t = Constant <value = float {0.04}> ()
    z = Constant <value = int8 {0}> ()
    q = QuantizeLinear (x, s, z)  d = DequantizeLinear (q, s, z)
    a = MUL  r = QuantizeLinear (a, t, z)  y = DequantizeLinear (r, t, z) }"""


def test_steps_that_rounding_explains_are_allowed_and_said():
    # What is quantized second lies on the edge of a step, however the inputs move.
    data = {"x": (np.arange(128, dtype=np.float32).reshape(8, 16) - 64) * np.float32(0.02)}
    before = model_from_text(TWICE.replace("MUL", "Mul (d, 1.0)"))
    found = Verifier(before, data=data).check(model_from_text(TWICE.replace("MUL", "Mul (d, 1.0000005)")))
    assert found.status == "verified"
    assert QUANTIZED_NOTE in found.notes
    assert Verifier(before, data=data).check(before).notes == ()


@pytest.mark.parametrize("bias", [0.5, 0.05, 0.02, 0.001])
def test_a_bias_of_a_part_of_a_step_is_more_than_rounding(bias):
    before = QDQ.replace("MUL", "Mul (x, 1.0)")
    found = check(before, QDQ.replace("MUL", f"Add (x, {bias})"))
    assert found.status == "mismatch"
    assert bias == 0.5 or found.mismatches[0].reason.endswith(BEYOND_ROUNDING.format(""))


def test_a_scale_that_is_computed_says_nothing_of_rounding():
    before = QDQ.replace("s = Constant <value = float {0.05}> ()", "s = Max (t, 0.05)").replace(
        "float[N,16] x)", "float[N,16] x, float t)"
    )
    before = before.replace("MUL", "Mul (x, 1.0)")
    data = {"x": np.full((1, 16), 0.3, np.float32), "t": np.float32(0.01)}
    assert Verifier(model_from_text(before), data=data).check(model_from_text(before)).status == "verified"


def test_a_step_of_that_size_is_a_mismatch_elsewhere():
    plain = "g (float[N,16] x) => (float[N,16] y) { y = Add (x, 0.0) }"
    assert check(plain, plain.replace("0.0", "0.05")).status == "mismatch"


# ------------------------------------------------------------------ the user's data
def test_data_is_compared_beside_sampled_inputs():
    """Only the user knows of numbers above 100."""
    before = "g (float[N,3] x) => (float[N,3] y) { y = Identity (x) }"
    after = model_from_text("g (float[N,3] x) => (float[N,3] y) { y = Clip (x, -99.0, 99.0) }")
    assert Verifier(model_from_text(before)).check(after).status == "verified"
    data = {"x": np.full((1, 3), 200, np.float32)}
    assert Verifier(model_from_text(before), data=data).check(after).status == "mismatch"


def test_data_from_files(tmp_path: Path):
    for i in range(3):
        np.savez(tmp_path / f"{i}.npz", x=np.ones((i + 1, 3), np.float32))
    model = model_from_text(RELU)
    found = Verifier(model, data=tmp_path).check(model)
    assert [s for s in found.sizes if "x[0]" in s] == [{"x[0]": i, "x[1]": 3} for i in (1, 2, 3)]
    found = Verifier(model, data=tmp_path / "0.npz").check(model)
    assert {"x[0]": 1, "x[1]": 3} in found.sizes


def test_one_sample_that_the_original_takes_is_enough():
    model = model_from_text(RELU)
    good, bad = ({"x": np.ones((1, n), np.float32)} for n in (3, 4))
    assert Verifier(model, data=[bad, good]).check(model).status == "verified"


def test_data_that_the_original_always_rejects_is_an_error():
    model = model_from_text(RELU)
    with pytest.raises(MismatchError, match="the original fails on every given sample"):
        Verifier(model, data={"x": np.ones((1, 4), np.float32)}).prepare()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"z": np.ones(3)}, "lacks x"),
        ({"x": np.ones((1, 3), np.float32), "z": np.ones(3)}, "has z, which is no input"),
    ],
)
def test_wrong_keys_are_named(tmp_path, content, message):
    np.savez(tmp_path / "a.npz", **content)
    with pytest.raises(UsageError, match=message):
        Verifier(model_from_text(RELU), data=tmp_path).prepare()


def test_no_data_and_broken_data_are_named(tmp_path):
    with pytest.raises(UsageError, match="no samples there"):
        Verifier(model_from_text(RELU), data=tmp_path).prepare()
    broken = tmp_path / "broken.npz"
    broken.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(UsageError, match=r"not a file of arrays"):
        Verifier(model_from_text(RELU), data=broken).prepare()


def test_dims_that_a_loop_that_does_not_run_leaves_open_are_not_compared():
    text = """g (float[N] w, float[4] x) => (float[a,b] y) {{
        s = Shape (w)  n = Squeeze (s)
        y = Loop (n, , x) <body = b (int64 i, bool c, float[{0}] r) => (bool d, float[{0}] t, float[{0}] o)
            {{ d = Identity (c)  t = Neg (r)  o = Relu (t) }}> }}""".replace("y = Loop", "z, y = Loop")
    found = Verifier(model_from_text(text.format("k"))).check(model_from_text(text.format("4")))
    assert found.status == "verified"
    assert NEVER_RUN_NOTE.format("y") in found.notes
    wrong = model_from_text(text.format("4").replace("Relu", "Exp"))
    assert Verifier(model_from_text(text.format("k"))).check(wrong).status == "mismatch"
