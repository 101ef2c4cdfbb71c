"""Tables as onnxruntime's TensorQuantOverrides: its quantizer makes the same scales of them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static

from graphopt.errors import UsageError
from graphopt.ir.quant_table import ModelIdentity, OperatorPlan, TensorPlan
from graphopt.ir.quantizing import Grid, block_grid, channel_grid
from graphopt.quantization.exchange import export, restore
from graphopt.quantization.exchange.ort import arguments
from tests.quantization.exchange.tables import WEIGHTS, applied, model, sample, table

IDENTITY = ModelIdentity("1" * 64, 21)


class Reader(CalibrationDataReader):
    def __init__(self) -> None:
        self.left = [sample() for _ in range(2)]

    def get_next(self) -> dict[str, np.ndarray] | None:
        return self.left.pop() if self.left else None


def quantized_there(source: ir.Model, path: Path) -> onnx.ModelProto:
    ir.save(source, path.with_suffix(".in.onnx"))
    out = path.with_suffix(".out.onnx")
    quantize_static(
        path.with_suffix(".in.onnx"), out, Reader(), quant_format=QuantFormat.QDQ, **arguments(path)
    )
    return onnx.load(out)


def pairs(proto: onnx.ModelProto) -> list[tuple[str, bytes, bytes]]:
    """Operator, scale and zero point of each QuantizeLinear and DequantizeLinear of the main graph."""
    arrays = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    found = []
    for node in proto.graph.node:
        if node.op_type.endswith("quantizeLinear") or node.op_type.endswith("QuantizeLinear"):
            zero = arrays[node.input[2]] if len(node.input) > 2 else None
            code = b"" if zero is None or not zero.any() else zero.astype(np.int64).tobytes()
            found.append((node.op_type, arrays[node.input[1]].astype(np.float32).tobytes(), code))
    return sorted(found)


def answer(proto: onnx.ModelProto, feeds: dict[str, np.ndarray]) -> np.ndarray:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(proto.SerializeToString(), options).run(None, feeds)[0]


def test_its_quantizer_makes_the_same_scales(tmp_path: Path) -> None:
    source = model()
    given = table(source)
    main = {n: p for n, p in given.operators.items() if ":" not in n}
    content, losses = export(given, source, "ort")
    path = tmp_path / "overrides.json"
    path.write_text(json.dumps(content))
    theirs = quantized_there(source, path)
    ours = ir.to_proto(applied(source, replace(given, operators=main)))
    assert pairs(theirs) == pairs(ours)
    assert len(pairs(ours)) == 17
    feeds = sample()
    np.testing.assert_allclose(answer(theirs, feeds), answer(ours, feeds), rtol=1e-5, atol=1e-6)
    # What is in the body is lost, and that is said.
    assert any(
        line.startswith("lost operator: its static quantizer leaves bodies") for line in losses.lines()
    )
    assert any(line.startswith("lost observed") for line in losses.lines())


def test_there_and_back(tmp_path: Path) -> None:
    source = model()
    given = table(source)
    content, _ = export(given, source, "ort")
    again, losses = restore(json.loads(json.dumps(content)), source, "ort", IDENTITY)
    assert again.model is IDENTITY
    for name, plan in again.tensors.items():
        before = given.tensors[name]
        assert plan.role == before.role
        assert plan.grid.scale.tobytes() == before.grid.scale.tobytes()
        assert plan.grid.zero_point.tobytes() == before.grid.zero_point.tobytes()
        assert (plan.grid.axis, plan.grid.dtype, plan.grid.narrow) == (
            before.grid.axis,
            before.grid.dtype,
            before.grid.narrow,
        )
    for name, operator in given.operators.items():
        if ":" not in name:
            assert (again.operators[name].mode, again.operators[name].inputs) == (
                operator.mode,
                operator.inputs,
            )
            assert again.operators[name].outputs == operator.outputs
    assert again.operators["repeat:body/inner"].mode == "float"
    assert losses.lines() == []


def test_ranges_as_its_quantizer_takes_them() -> None:
    source = model()
    found = {
        "x": [{"quant_type": "QuantType.QUInt8", "rmin": -1.0, "rmax": 3.0}],
        "r": [{"quant_type": "QUInt8", "rmin": 0.5, "rmax": 2.0, "symmetric": True}],
        "w1": [{"quant_type": "QInt8", "axis": 0, "rmin": -2.0, "rmax": 1.0, "reduce_range": True}],
        "w2": [{"quant_type": "QInt8", "rmin": -2.0, "rmax": 1.0}],
        "d": [{"convert": {"quant_type": "QInt8"}, "scale": 0.5, "zero_point": 3}],
        "w4": [{"scale": [0.25], "zero_point": [0]}],
        "f": [{"symmetric": True}],
        "gone": [{"scale": 1, "zero_point": 0}],
        "m": [{"quant_type": "QFLOAT8E4M3FN", "scale": 1, "zero_point": 0}],
    }
    again, losses = restore({"TensorQuantOverrides": found}, source, "ort", IDENTITY)
    grids = {
        name: (p.grid.scale.ravel()[0], p.grid.zero_point.ravel()[0]) for name, p in again.tensors.items()
    }
    expected = {"x": (4 / 255, 64), "r": (4 / 255, 128), "w1": (4 / 128, 0), "w2": (4 / 254, 0)}
    expected |= {"d": (0.5, 3), "w4": (0.25, 0)}
    assert grids == {name: (np.float32(s), z) for name, (s, z) in expected.items()}
    assert again.tensors["w1"].grid.scale.shape == (16,)
    assert again.operators["dense"].mode == "float"
    text = "\n".join(losses.lines())
    for part in (
        "convert",
        "quant_type: there is no QFLOAT8E4M3FN",
        "scale: it has neither",
        "none of that name",
    ):
        assert part in text


def test_what_overrides_have_no_word_for() -> None:
    source = model()
    given = table(source)
    operators = dict(given.operators)
    operators["last"] = replace(operators["last"], bits=4)
    operators["one"] = replace(operators["one"], bits=7)
    operators["dense"] = OperatorPlan("float16", 16)
    operators["two"] = replace(operators["two"], outputs=())
    tensors = dict(given.tensors)
    tensors["w4"] = TensorPlan(block_grid(WEIGHTS["w4"], 0, 32), "weight")
    tensors["w1"] = TensorPlan(
        channel_grid(WEIGHTS["w1"], 0, bits=7), "weight", codes=np.zeros(WEIGHTS["w1"].shape, np.int8)
    )
    content, losses = export(replace(given, tensors=tensors, operators=operators), source, "ort")
    text = "\n".join(losses.lines())
    for part in ("block_size", "mode: there is no float16", "codes", "bits", "outputs"):
        assert f"lost {part}" in text, text
    assert isinstance(content, dict) and content["nodes_to_quantize"] == ["one", "act", "two", "last"]


def test_nothing_to_say() -> None:
    source = model()
    given = table(source)
    floats = {name: OperatorPlan("float") for name in given.operators}
    with pytest.raises(UsageError, match="no int8 operator is in the main graph"):
        export(replace(given, operators=floats), source, "ort")
    with pytest.raises(UsageError, match="nothing in the table of ort is of this model"):
        restore({"other": [{"scale": 1, "zero_point": 0}]}, source, "ort", IDENTITY)
    with pytest.raises(UsageError, match="no object"):
        restore([], source, "ort", IDENTITY)
    with pytest.raises(UsageError, match="'x': a list of objects is needed"):
        restore({"x": 1}, source, "ort", IDENTITY)
    with pytest.raises(UsageError, match="there is no tool 'other'"):
        export(given, source, "other")
    lost = {"gone": TensorPlan(Grid(ir.DataType.UINT8, np.float32(1).reshape(()), np.uint8(0).reshape(())))}
    with pytest.raises(UsageError, match="names tensor 'gone'"):
        export(replace(given, tensors=lost), source, "ort")
