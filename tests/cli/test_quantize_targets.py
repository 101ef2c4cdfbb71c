"""`graphopt quantize --target`, `--activations` and `--audit`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from click.testing import CliRunner

from graphopt.cli import main
from graphopt.runtime import InferenceSession

RNG = np.random.default_rng(0)
TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,64] x) => (float[N,32] y) {
    h = MatMul(x, w)  k = Add(h, b)  r = Relu(k)  s = MatMul(r, v)  y = Softmax(s)
}"""
WEIGHTS = {
    "w": RNG.standard_normal((64, 64)).astype(np.float32) / 8,
    "b": RNG.standard_normal(64).astype(np.float32),
    "v": RNG.standard_normal((64, 32)).astype(np.float32) / 8,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, samples and its quant table."""
    path = tmp_path_factory.mktemp("targets")
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in WEIGHTS.items())
    onnx.save(proto, path / "model.onnx")
    np.savez(path / "samples.npz", x=RNG.standard_normal((100, 64)).astype(np.float32))
    return path


def quantized(folder: Path, *arguments: str) -> tuple[onnx.ModelProto, dict[str, object]]:
    result = CliRunner().invoke(
        main,
        f"quantize {folder}/model.onnx --data {folder}/samples.npz --no-search -o {folder}/out.onnx "
        f"--no-verify --json {' '.join(arguments)}",
    )
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    onnx.checker.check_model(folder / "out.onnx", full_check=True)
    return onnx.load(folder / "out.onnx"), report


@pytest.mark.parametrize(
    ("target", "products"),
    [
        ("onnx", {"Gemm", "MatMul"}),
        ("onnxruntime", {"QGemm", "MatMulIntegerToFloat"}),
        ("graphopt", {"QuantizedFullyConnected", "QuantizedMatMul"}),
    ],
)
def test_each_target_has_operators_of_its_own(folder: Path, target: str, products: set[str]) -> None:
    model, report = quantized(folder, "--target", target)
    assert products <= {node.op_type for node in model.graph.node}
    # What the runtime made of it is in the report.
    verdicts = report["audit"]["verdicts"]
    assert verdicts["integer"]["operators"] == 2
    # Any runtime gives the same answers, our own operators included.
    x = RNG.standard_normal((5, 64)).astype(np.float32)
    float_answer = ort.InferenceSession(folder / "model.onnx").run(None, {"x": x})[0]
    sessions = [ort.InferenceSession(folder / "out.onnx")]
    sessions += [InferenceSession(folder / "out.onnx")] if target != "onnxruntime" else []
    for session in sessions:
        np.testing.assert_allclose(session.run(None, {"x": x})[0], float_answer, atol=0.02)


def test_scales_of_weights_take_16_bits_for_our_own_engine(folder: Path) -> None:
    model, _ = quantized(folder, "--target", "graphopt")
    kinds = [t.data_type for t in model.graph.initializer if t.dims in ([64], [32])]
    assert kinds.count(onnx.TensorProto.FLOAT16) == 2


def test_signed_activations(folder: Path) -> None:
    model, _ = quantized(folder, "--activations", "s8")
    zeros = {n.input[2] for n in model.graph.node if n.op_type == "QuantizeLinear"}
    found = [onnx.numpy_helper.to_array(t) for t in model.graph.initializer if t.name in zeros]
    assert found and all(zero.dtype == np.int8 and zero == 0 for zero in found)


def test_audit_of_a_quantized_model(folder: Path) -> None:
    quantized(folder)
    done = CliRunner().invoke(main, ["quantize", str(folder / "out.onnx"), "--audit"])
    assert done.exit_code == 0, done.output
    assert "onnxruntime" in done.stdout and "2 integer" in done.stdout
    done = CliRunner().invoke(
        main, ["quantize", str(folder / "out.onnx"), "--audit", "--target", "graphopt", "--json"]
    )
    found = json.loads(done.stdout)
    assert {o["kernel"] for o in found["operators"]} == {"gemm.u8s8"}


def test_audit_of_a_float_model_is_a_clear_error(folder: Path) -> None:
    done = CliRunner().invoke(main, ["quantize", str(folder / "model.onnx"), "--audit"])
    assert done.exit_code == 3
    assert "nothing in it is quantized" in done.output


def test_quantizing_again_says_what_is_kept(folder: Path) -> None:
    quantized(folder)
    done = CliRunner().invoke(
        main,
        f"quantize {folder}/out.onnx --data {folder}/samples.npz --no-search -o {folder}/again.onnx --no-verify",
    )
    assert done.exit_code == 0, done.output
    assert "2 operators are quantized already (1 Gemm, 1 MatMul): they keep scales and codes" in done.output
