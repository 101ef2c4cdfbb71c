"""`graphopt table`: to onnxruntime's quantizer and back; bad input in one line."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from graphopt.quantization.exchange.ort import arguments
from tests.cli.in_process import graphopt

RNG = np.random.default_rng(0)
TEXT = """<ir_version: 8, opset_import: ["": 17]>
g (float[N,64] x) => (float[N,32] y) {
    u = Transpose <perm = [1,0]> (w)  h = MatMul(x, u)  r = Relu(h)  s = MatMul(r, v)  y = Softmax(s)
}"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model, samples, and its quant table."""
    path = tmp_path_factory.mktemp("table")
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in (("w", (64, 64)), ("v", (64, 32))):
        array = RNG.standard_normal(shape).astype(np.float32) / 8
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    onnx.save(proto, path / "model.onnx")
    np.savez(path / "data.npz", x=RNG.standard_normal((50, 64)).astype(np.float32))
    table = path / "q.json"
    graphopt("quantize", path / "model.onnx", "--data", path / "data.npz", "--table", table, "--no-verify")
    return path


class Reader(CalibrationDataReader):
    def __init__(self, path: Path) -> None:
        self.left = [{"x": np.load(path)["x"]}]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def scales(path: Path) -> list[bytes]:
    proto = onnx.load(path)
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    return sorted(arrays[n.input[1]].tobytes() for n in proto.graph.node if "quantizeLinear" in n.op_type)


def test_to_onnxruntime_and_back(folder: Path, tmp_path: Path) -> None:
    model, table = folder / "model.onnx", folder / "q.json"
    overrides, prepared, out = tmp_path / "o.json", tmp_path / "p.onnx", tmp_path / "out.onnx"
    done = graphopt("table", "export", model, table, "--to", "ort", "-o", overrides, "--prepared", prepared)
    assert "lost observed" in done.stdout and f"written to {overrides}" in done.stdout
    quantize_static(
        prepared, out, Reader(folder / "data.npz"), quant_format=QuantFormat.QDQ, **arguments(overrides)
    )
    assert scales(out) == scales(folder / "model.int8.onnx")
    again = tmp_path / "again.json"
    done = graphopt("table", "import", model, overrides, "--from", "ort", "-o", again, "--like", table)
    assert done.stdout == f"written to {again}\n"
    graphopt("quantize", model, "--table", again, "-o", tmp_path / "again.onnx", "--no-verify", "--quiet")
    # Codes that refinement chose are lost, and biases that it corrected: grids are not.
    assert scales(tmp_path / "again.onnx") == scales(folder / "model.int8.onnx")


def test_names_of_the_model_as_it_is(folder: Path, tmp_path: Path) -> None:
    """Without a table to go by, the names are those of the file."""
    overrides = tmp_path / "o.json"
    overrides.write_text(
        json.dumps({"r": [{"scale": 0.01, "zero_point": 0}], "v": [{"scale": 0.01, "zero_point": 0}]})
    )
    table = tmp_path / "q.json"
    graphopt("table", "import", folder / "model.onnx", overrides, "--from", "ort", "-o", table, "--quiet")
    assert json.loads(table.read_text())["model"].get("pipeline") is None
    out = tmp_path / "out.onnx"
    graphopt("quantize", folder / "model.onnx", "--table", table, "-o", out, "--quiet")
    assert [n.op_type for n in onnx.load(out).graph.node].count("QuantizeLinear") == 1


def test_bad_input(folder: Path, tmp_path: Path) -> None:
    model, table, out = folder / "model.onnx", folder / "q.json", tmp_path / "out.json"
    text = tmp_path / "text.json"
    text.write_text("{")

    def line(*arguments: str | Path, code: int) -> str:
        done = graphopt("table", *arguments, code=code)
        assert done.stderr.count("\n") == 1 and not done.stdout and not out.exists()
        return done.stderr

    assert "not JSON" in line("import", model, text, "--from", "ort", "-o", out, code=2)
    assert "can't be read" in line("import", model, tmp_path / "no", "--from", "ort", "-o", out, code=2)
    text.write_text("{}")
    assert "neither" in line("import", model, text, "--from", "aimet", "-o", out, code=2)
    assert "no quant table there" in line("export", model, tmp_path / "no", "--to", "ort", "-o", out, code=2)
    assert "there is no folder" in line(
        "export", model, table, "--to", "ort", "-o", tmp_path / "no" / "o.json", code=5
    )
    other = tmp_path / "other.onnx"
    other.write_bytes(model.read_bytes() + b"\x6a\x00")
    assert "for another model" in line("export", other, table, "--to", "ort", "-o", out, code=2)
    assert "can't be read" in line("export", tmp_path / "no.onnx", table, "--to", "mnn", "-o", out, code=3)
    assert "no-tool" in line("export", model, table, "--to", "no-tool", "-o", out, code=2)
