"""`graphopt quantize` with samples to refine weights by."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import jsonschema
import numpy as np
import onnx
import onnxruntime as ort
import pytest

from graphopt.reporting.quantization import schema

RNG = np.random.default_rng(0)
TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (float[N,64] x) => (float[N,32] y) { h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v) }"""
# Inputs of real layers depend on each other.
MIXING = RNG.standard_normal((64, 64)) * 0.9 ** np.arange(64) / 4


def graphopt(*arguments: str | Path) -> None:
    command = [sys.executable, "-m", "graphopt", "quantize", *map(str, arguments), "--no-verify", "--quiet"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture
def model(tmp_path: Path) -> Path:
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in (("w", (64, 96)), ("v", (96, 32))):
        weight = RNG.standard_normal(shape).astype(np.float32) / 8
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


def samples(count: int) -> list[np.ndarray]:
    return [(RNG.standard_normal((40, 64)) @ MIXING.T).astype(np.float32) for _ in range(count)]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    for i, array in enumerate(samples(12)):
        np.save(folder / f"{i}.npy", array)
    return folder


def loss(model: Path, result: Path) -> float:
    """Mean square of what is lost on inputs that nothing was fitted to."""
    options = ort.SessionOptions()
    # Otherwise inputs of stored weights are rounded, too.
    options.add_session_config_entry("session.qdq_matmulnbits_accuracy_level", "1")
    sessions = [ort.InferenceSession(str(p), options) for p in (model, result)]
    pairs = [[s.run(None, {"x": x})[0] for s in sessions] for x in samples(8)]
    return float(np.mean([(a - b) ** 2 for a, b in pairs]))


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_weights_alone_are_better_with_samples(model: Path, data: Path, tmp_path: Path, bits: str) -> None:
    plain, refined, again = (tmp_path / f"{name}.onnx" for name in ("plain", "refined", "again"))
    table = tmp_path / "quant.json"
    graphopt(model, "--weights-only", bits, "-o", plain)
    graphopt(model, "--weights-only", bits, "--data", data, "-o", refined, "--table", table)
    operators = [node.op_type for node in onnx.load(refined).graph.node]
    assert "QuantizeLinear" not in operators
    assert operators.count("DequantizeLinear") == 2
    assert refined.stat().st_size <= plain.stat().st_size + 100
    assert loss(model, refined) < 0.5 * loss(model, plain)
    graphopt(model, "--table", table, "-o", again)
    assert again.read_bytes() == refined.read_bytes()


def test_refinement_can_be_left_out(model: Path, data: Path, tmp_path: Path) -> None:
    plain, refined = tmp_path / "plain.onnx", tmp_path / "refined.onnx"
    graphopt(model, "--data", data, "--no-search", "--refine", "none", "-o", plain)
    graphopt(model, "--data", data, "--no-search", "-o", refined)
    assert loss(model, refined) < 0.9 * loss(model, plain)


@pytest.mark.parametrize("target", ["onnx", "onnxruntime", "graphopt"])
def test_weights_with_one_scale_are_adjusted_to_it(data: Path, tmp_path: Path, target: str) -> None:
    # Channels of very different sizes; what takes them is too small to be quantized, and can take up the rest.
    proto = onnx.parser.parse_model(TEXT.replace("[N,32]", "[N,8]"))
    sizes = np.exp(RNG.uniform(-3, 3, 96))
    for name, weight in (
        ("w", RNG.standard_normal((64, 96)) / 8 * sizes),
        ("v", RNG.standard_normal((96, 8)) / sizes[:, None]),
    ):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight.astype(np.float32), name))
    model, plain, better = (tmp_path / f"{name}.onnx" for name in ("model", "plain", "better"))
    onnx.save(proto, model)
    report, table = tmp_path / "report.json", tmp_path / "quant.json"
    one = ("--data", data, "--no-search", "--per-tensor", "--target", target)
    graphopt(model, *one, "--no-equalize", "-o", plain)
    graphopt(model, *one, "-o", better, "--report", report, "--table", table)
    steps = json.loads(report.read_text())["compensation"]["steps"]
    assert "adjust" in {step["step"] for step in steps if step["kept"]}
    [weight] = [t for t in json.loads(table.read_text())["tensors"].values() if t["role"] == "weight"]
    assert isinstance(weight["scale"], float)
    assert loss(model, better) < 0.1 * loss(model, plain)


def test_moments_of_weights_are_restored(model: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    graphopt(model, "--data", data, "--no-search", "--refine", "moments", "--report", report)
    found = json.loads(report.read_text())["refinement"]
    assert {step["method"] for step in found["steps"]} == {"moments"}
    assert all(step["error_after"] < step["error_before"] for step in found["steps"] if step["kept"])


def test_the_report_says_what_the_whole_model_gained(model: Path, data: Path, tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    graphopt(model, "--data", data, "--weights-only", "int4", "--report", report)
    content = json.loads(report.read_text())
    jsonschema.validate(content, schema())
    ends = content["refinement"]["sqnr_db"]["4"]
    assert ends["after"] > ends["before"] + 3
