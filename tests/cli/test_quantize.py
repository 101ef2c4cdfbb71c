"""`graphopt quantize`: with samples, with a table, with weights alone; bad input in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from tests.cli import in_process

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


graphopt = partial(in_process.graphopt, "quantize")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    proto = onnx.parser.parse_model(TEXT)
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in WEIGHTS.items())
    onnx.save(proto, tmp_path / "model.onnx")
    return tmp_path / "model.onnx"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    folder = tmp_path / "calib"
    folder.mkdir()
    for i in range(4):
        np.savez(folder / f"{i}.npz", x=RNG.standard_normal((100 * i, 64)).astype(np.float32))
    return folder


def types(path: Path) -> list[str]:
    onnx.checker.check_model(path, full_check=True)
    return [node.op_type for node in onnx.load(path).graph.node]


def answer(path: Path, x: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(str(path)).run(None, {"x": x})[0]


def test_with_samples(model: Path, data: Path, tmp_path: Path) -> None:
    table, report = tmp_path / "quant.json", tmp_path / "report.json"
    before = model.read_bytes()
    done = graphopt(model, "--data", data, "--table", table, "--report", report, "--no-search")
    result = tmp_path / "model.int8.onnx"
    assert model.read_bytes() == before
    assert types(result).count("QuantizeLinear") == 2
    assert f"written to {result}" in done.stdout
    found = json.loads(report.read_text())
    assert found["bytes"] == {"before": len(before), "after": result.stat().st_size}
    assert found["modes"] == {"int8": 2}
    assert found["calibration"] == {"samples": 4}
    assert 3 < found["weights"]["theoretical_ratio"] < 4
    assert 20 < found["loss"]["sqnr_db"] < 60
    assert 0 <= found["loss"]["agreement"] <= 1
    x = RNG.standard_normal((50, 64)).astype(np.float32)
    first, second = answer(model, x), answer(result, x)
    assert 0 < np.abs(first - second).max() < 0.1
    assert (first.argmax(1) == second.argmax(1)).mean() > 0.9


def test_a_table_is_applied_again_without_data(model: Path, data: Path, tmp_path: Path) -> None:
    table, again = tmp_path / "quant.json", tmp_path / "again.onnx"
    graphopt(model, "--data", data, "--table", table, "-o", tmp_path / "first.onnx", "--quiet", "--no-search")
    written = table.read_bytes()
    done = graphopt(model, "--table", table, "-o", again, "--quiet")
    assert done.stdout == done.stderr == ""
    assert again.read_bytes() == (tmp_path / "first.onnx").read_bytes()
    assert table.read_bytes() == written
    # Edited by hand: one operator keeps floats.
    found = json.loads(written)
    name = sorted(found["operators"])[0]
    found["operators"][name] = {"mode": "float", "reason": "by hand"}
    table.write_text(json.dumps(found))
    graphopt(model, "--table", table, "-o", again)
    assert types(again).count("QuantizeLinear") == 1
    assert again.stat().st_size > (tmp_path / "first.onnx").stat().st_size


@pytest.mark.parametrize("bits", ["int8", "int4"])
def test_weights_alone(model: Path, tmp_path: Path, bits: str) -> None:
    graphopt(model, "--weights-only", bits)
    result = tmp_path / f"model.{bits}.onnx"
    assert "QuantizeLinear" not in types(result)
    assert types(result).count("DequantizeLinear") == 2
    x = RNG.standard_normal((5, 64)).astype(np.float32)
    assert np.abs(answer(model, x) - answer(result, x)).max() < (0.05 if bits == "int8" else 0.4)
    assert result.stat().st_size < model.stat().st_size / (2.5 if bits == "int8" else 3.5)


@pytest.mark.parametrize("observer", ["auto", "minmax", "percentile", "kl", "mse"])
def test_observers(model: Path, data: Path, tmp_path: Path, observer: str) -> None:
    done = graphopt(model, "--data", data, "--observer", observer, "--no-verify", "--json")
    assert json.loads(done.stdout)["loss"]["sqnr_db"] > 20
    assert not list(tmp_path.glob("*.json"))


def test_wrong_usage(model: Path, data: Path, tmp_path: Path) -> None:
    assert "give samples" in graphopt(model, code=2).stderr
    done = graphopt(model, "--weights-only", "int8", "--table", tmp_path / "quant.json", code=2)
    assert "takes no --table" in done.stderr
    assert "not a folder" in graphopt(tmp_path, "--weights-only", "int8", code=2).stderr
    assert "no quant table there" in graphopt(model, "--table", tmp_path / "none.json", code=2).stderr


def test_bad_samples_leave_nothing_behind(model: Path, tmp_path: Path) -> None:
    empty, wrong = tmp_path / "empty", tmp_path / "wrong.npz"
    empty.mkdir()
    np.savez(wrong, x=np.full((2, 64), np.nan, np.float32))
    table = tmp_path / "quant.json"
    for data, message in ((empty, "no samples there"), (wrong, "x has NaN or infinities in it")):
        done = graphopt(model, "--data", data, "--table", table, code=2)
        assert message in done.stderr and done.stderr.count("\n") == 1
    assert not table.exists() and not (tmp_path / "model.int8.onnx").exists()


def test_a_table_for_another_model(model: Path, data: Path, tmp_path: Path) -> None:
    table = tmp_path / "quant.json"
    graphopt(model, "--data", data, "--table", table, "--quiet")
    found = json.loads(table.read_text())
    proto = onnx.load(model)
    proto.doc_string = "another"
    onnx.save(proto, model)
    assert "for another model" in graphopt(model, "--table", table, code=2).stderr
    found["model"]["sha256"] = __import__("hashlib").sha256(model.read_bytes()).hexdigest()
    found["tensors"]["lost"] = {"type": "uint8", "scale": 1}
    table.write_text(json.dumps(found))
    done = graphopt(model, "--table", table, "-o", tmp_path / "out.onnx", code=2)
    assert "names tensor 'lost', which the model does not have" in done.stderr
    assert not (tmp_path / "out.onnx").exists()


def lines_of(done: subprocess.CompletedProcess[str]) -> str:
    assert done.stderr.count("\n") == 1 and not done.stdout
    return done.stderr


@pytest.mark.parametrize(
    ("feeds", "message"),
    [
        ({"y": np.zeros((1, 64), np.float32)}, "0.npz: lacks x"),
        ({"x": np.zeros((1, 64), np.float32), "y": np.zeros(1)}, "0.npz: has y, which is no input"),
        ({"x": np.zeros((1, 64))}, "0.npz: x is float64, the model takes float32"),
        ({"x": np.zeros((1, 63), np.float32)}, "0.npz: x is [1, 63], the model takes ['N', 64]"),
        ({"x": np.zeros(64, np.float32)}, "0.npz: x is [64], the model takes ['N', 64]"),
        ({"x": np.full((1, 64), np.inf, np.float32)}, "0.npz: x has NaN or infinities in it"),
        ({"x": np.array(["a"], object)}, "0.npz: not a file of arrays"),
    ],
)
def test_bad_samples(model: Path, tmp_path: Path, feeds: dict[str, np.ndarray], message: str) -> None:
    folder = tmp_path / "calib"
    folder.mkdir()
    np.savez(folder / "0.npz", **feeds)
    done = graphopt(model, "--data", folder, "--no-verify", "--table", tmp_path / "q.json", code=2)
    assert message in lines_of(done)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["calib", "model.onnx"]


@pytest.mark.filterwarnings("error:Mean of empty slice", "error:invalid value")
def test_samples_with_nothing_in_them(model: Path, tmp_path: Path) -> None:
    """Nothing but zeros, or nothing at all: weights alone are stored, and one line an operator says why."""
    folder = tmp_path / "calib"
    folder.mkdir()
    np.savez(folder / "0.npz", x=np.zeros((3, 64), np.float32))
    done = graphopt(model, "--data", folder, "--no-verify", "--json")
    found = json.loads(done.stdout)
    assert found["modes"] == {"int8": 1, "weight_only": 1}
    [line] = found["warnings"]
    assert "never seen with anything but zeros in it; its weight alone is stored in 8 bits" in line
    np.savez(folder / "0.npz", x=np.zeros((0, 64), np.float32))
    found = json.loads(graphopt(model, "--data", folder, "--no-verify", "--json").stdout)
    assert found["modes"] == {"weight_only": 2}
    assert all("never seen with anything in it" in line for line in found["warnings"])


def test_weights_that_are_not_as_they_should_be(model: Path, data: Path) -> None:
    proto = onnx.load(model)
    w = WEIGHTS["w"].copy()
    w[:, :3] = 0
    v = WEIGHTS["v"].copy()
    v[0, 0] = np.nan
    del proto.graph.initializer[:]
    for name, array in (("w", w), ("b", WEIGHTS["b"]), ("v", v)):
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(proto, model)
    found = json.loads(graphopt(model, "--data", data, "--no-verify", "--json").stdout)
    assert found["modes"] == {"float": 1, "int8": 1}
    assert any("3 of 64 output channels are all zero" in line for line in found["warnings"])
    assert any("its weight has NaN or infinities in it; it is left" in line for line in found["warnings"])
    graphopt(model, "--weights-only", "int8", "--no-verify", "-o", model.with_name("w.onnx"))
    assert types(model.with_name("w.onnx")).count("DequantizeLinear") == 1


def test_where_nothing_can_be_written(model: Path, data: Path, tmp_path: Path) -> None:
    lost = tmp_path / "lost"
    for options in (["-o", lost / "out.onnx"], ["--table", lost / "q.json"], ["--report", lost / "r.json"]):
        done = graphopt(model, "--data", data, *options, code=5)
        assert "there is no folder" in lines_of(done)
    (tmp_path / "q.npz").mkdir()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["calib", "model.onnx", "q.npz"]


KILLED = """
import os, signal, sys
from graphopt.quantization import checkpoint
from graphopt.quantizer import quantize
checkpoint._SHARE = float("inf")
checkpoint.Checkpoint.__init__.__kwdefaults__["seconds"] = 0
def progress(what):
    if what.startswith("calibrate: 3"):
        os.kill(os.getpid(), signal.SIGKILL)
quantize(sys.argv[1], data=sys.argv[2], state=sys.argv[3], verify=False, progress=progress)
"""


def test_it_goes_on_where_it_was_killed(model: Path, data: Path, tmp_path: Path) -> None:
    whole, table = tmp_path / "whole.json", tmp_path / "q.json"
    graphopt(model, "--data", data, "--table", whole, "-o", tmp_path / "whole.onnx", "--no-verify")
    state = tmp_path / "q.json.calibration"
    killed = subprocess.run([sys.executable, "-c", KILLED, model, data, state], check=False)
    assert killed.returncode < 0 and state.exists()
    left = state.read_bytes()
    graphopt(model, "--data", data, "--table", table, "-o", tmp_path / "out.onnx", "--no-verify")
    assert not state.exists()
    assert table.read_bytes() == whole.read_bytes()
    assert (tmp_path / "out.onnx").read_bytes() == (tmp_path / "whole.onnx").read_bytes()
    # Other samples than those of the run that was killed.
    state.write_bytes(left)
    np.savez(data / "1.npz", x=np.ones((2, 64), np.float32))
    done = graphopt(model, "--data", data, "--table", table, "--no-verify", code=2)
    assert "is of a run over other samples" in lines_of(done)
    graphopt(model, "--data", data, "--table", table, "--no-verify", "--fresh")
    assert not state.exists() and table.read_bytes() != whole.read_bytes()


def test_nothing_to_quantize(tmp_path: Path) -> None:
    path = tmp_path / "plain.onnx"
    onnx.save(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["": 17]> g (float[2] x) => (float[2] y) { y = Neg(x) }'
        ),
        path,
    )
    assert "nothing in it can be quantized" in graphopt(path, "--weights-only", "int8", code=3).stderr
    assert not (tmp_path / "plain.int8.onnx").exists()
    assert "can't be read" in graphopt(tmp_path / "none.onnx", "--weights-only", "int8", code=3).stderr
