"""Tables for MNN, OpenVINO and AIMET: what each says, there and back, and what is lost."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.errors import UsageError
from graphopt.ir.quant_table import ModelIdentity, OperatorPlan, QuantTable, TensorPlan
from graphopt.ir.quantizing import Grid, block_grid, channel_grid, dequantized, quantized
from graphopt.quantization.exchange import export, restore
from tests.quantization.exchange.tables import RNG, WEIGHTS, model, table

IDENTITY = ModelIdentity("1" * 64, 21)
Json = dict[str, Any]


@pytest.fixture(scope="module")
def source() -> ir.Model:
    return model()


@pytest.fixture(scope="module")
def given(source: ir.Model) -> QuantTable:
    """8 bits, and one weight each of 4 bits in blocks and of 7 bits."""
    found = table(source)
    tensors = {**found.tensors, "w4": TensorPlan(block_grid(WEIGHTS["w4"], 0, 32), "weight")}
    tensors["w3"] = TensorPlan(channel_grid(WEIGHTS["w3"], 0, bits=7), "weight")
    operators = {**found.operators, "last": replace(found.operators["last"], bits=4)}
    operators["dense"] = replace(operators["dense"], bits=7)
    return replace(found, tensors=tensors, operators=operators)


def there(given: QuantTable, source: ir.Model, tool: str) -> tuple[Json, str]:
    content, losses = export(given, source, tool)
    found = json.loads(json.dumps(content))
    assert isinstance(found, dict)
    return found, "\n".join(losses.lines())


@pytest.mark.parametrize("tool", ["mnn", "openvino", "aimet"])
def test_there_and_back(source: ir.Model, given: QuantTable, tool: str) -> None:
    content, _ = there(given, source, tool)
    again, _ = restore(content, source, tool, IDENTITY)
    # AIMET has no names for bodies.
    expected = {n for n in given.tensors if tool != "aimet" or n != "repeat:body/a"}
    assert set(again.tensors) == expected
    for name in expected:
        before, after = given.tensors[name].grid, again.tensors[name].grid
        assert (after.dtype, after.axis, after.block_size, after.bits, after.narrow) == (
            before.dtype,
            before.axis,
            before.block_size,
            before.bits,
            before.narrow,
        ), name
        np.testing.assert_allclose(after.scale, before.scale, rtol=1e-6)
        np.testing.assert_array_equal(after.zero_point, before.zero_point)
        if tool != "openvino":
            assert after.scale.tobytes() == before.scale.tobytes()
    inner = again.operators.pop("repeat:body/inner")
    assert inner.mode == ("weight_only" if tool == "aimet" else "int8")
    for name, operator in again.operators.items():
        assert (operator.mode, operator.bits) == (given.operators[name].mode, given.operators[name].bits)
        assert (operator.inputs, operator.outputs) == (
            given.operators[name].inputs,
            given.operators[name].outputs,
        )


def test_encodings_of_aimet(source: ir.Model, given: QuantTable) -> None:
    found, lost = there(given, source, "aimet")
    assert found["version"] == "1.0.0"
    params = {e["name"]: e for e in found["param_encodings"]}
    activations = {e["name"]: e for e in found["activation_encodings"]}
    grid = given.tensors["x"].grid
    assert activations["x"] == {
        "name": "x",
        "dtype": "INT",
        "bw": 8,
        "enc_type": "PER_TENSOR",
        "is_sym": False,
        "scale": [float(str(grid.scale))],
        "offset": [-int(grid.zero_point)],
    }
    assert params["w1"]["enc_type"] == "PER_CHANNEL" and params["w1"]["offset"] == [-128] * 16
    assert params["w1"]["is_sym"] is True
    assert (params["w3"]["bw"], params["w3"]["offset"][0]) == (7, -64)
    blocks = params["w4"]
    assert (blocks["enc_type"], blocks["block_size"], len(blocks["scale"])) == ("PER_BLOCK", 32, 64)
    # Both blocks of the first output come first.
    np.testing.assert_array_equal(np.float32(blocks["scale"][:2]), given.tensors["w4"].grid.scale[:, 0])
    for part in ("tensor: encodings have no names for bodies", "narrow", "observed"):
        assert f"lost {part}" in lost


def test_encodings_of_an_older_aimet(source: ir.Model) -> None:
    entry = {"bitwidth": 8, "dtype": "int", "is_symmetric": "False", "min": -1.0, "max": 1.0}
    channel = {"bitwidth": 8, "dtype": "int", "is_symmetric": "True", "offset": -128}
    found = {
        "version": "0.6.1",
        "activation_encodings": {
            "x": [{**entry, "offset": -100, "scale": 0.25}],
            "r": [{"bitwidth": 16, "dtype": "float"}],
        },
        "param_encodings": {"w1": [{**channel, "scale": 0.5 + i} for i in range(16)]},
    }
    again, losses = restore(found, source, "aimet", IDENTITY)
    assert again.tensors["x"].grid.zero_point == 100 and again.tensors["x"].grid.scale == 0.25
    assert again.tensors["w1"].grid.scale.tolist() == [0.5 + i for i in range(16)]
    assert again.tensors["w1"].grid.dtype == ir.DataType.INT8
    assert "lost dtype" in "\n".join(losses.lines())


def test_layers_of_mnn(source: ir.Model, given: QuantTable) -> None:
    found, lost = there(given, source, "mnn")
    [algorithm] = found["algo"]
    params = algorithm["quant_params"]
    assert params["round_mode"] == "ROUND_HALF_TO_EVEN"
    layers = {layer["op_name"]: layer for layer in params["layer"]}
    assert set(layers) == {"one", "two", "dense", "last", "inner"}
    [entry] = layers["one"]["input"]
    grid = given.tensors["x"].grid
    assert entry["zero_point"] == int(grid.zero_point) - 128
    assert (entry["clamp_min"], entry["clamp_max"], entry["bits"]) == (-128, 127, 8)
    [weight] = layers["one"]["weight"]
    assert (weight["clamp_min"], weight["clamp_max"], len(weight["scales"])) == (-127, 127, 16)
    assert layers["last"]["weight"][0]["block_size"] == 32
    assert layers["dense"]["weight"][0]["bits"] == 7
    assert layers["inner"]["subgraph_name"] == "repeat:body"
    assert "lost scope" in lost
    # As its own writer spells fields.
    params["roundMode"] = "ROUND_AWAY_FROM_ZERO"
    del params["round_mode"]
    for layer in params["layer"]:
        layer["opName"] = layer.pop("op_name")
        if "subgraph_name" in layer:
            layer["subgraphName"] = layer.pop("subgraph_name")
    again, losses = restore(found, source, "mnn", IDENTITY)
    assert "lost round_mode: halves are rounded to even here" in "\n".join(losses.lines())
    assert again.operators["repeat:body/inner"].mode == "int8"
    assert set(again.tensors) == set(given.tensors)


def test_limits_of_openvino(source: ir.Model, given: QuantTable) -> None:
    ov = pytest.importorskip("openvino")
    found, _ = there(given, source, "openvino")
    for name in ("x", "w1", "w3", "w4"):
        entry, grid = found["fake_quantize"][name], given.tensors[name].grid
        array = RNG.standard_normal((2, 4, 9, 9)).astype(np.float32) * 2 if name == "x" else WEIGHTS[name]
        parameter = ov.opset13.parameter(array.shape, np.float32)
        limits = [
            ov.opset13.constant(np.asarray(entry[key], np.float32))
            for key in ("input_low", "input_high", "output_low", "output_high")
        ]
        fake = ov.opset13.fake_quantize(parameter, *limits, levels=entry["levels"])
        theirs = ov.Core().compile_model(ov.Model([fake], [parameter]), "CPU")([array])[0]
        ours = dequantized(quantized(array, grid), grid)
        step = float(grid.scale.max())
        # Halves may fall to the other side: limits are rounded.
        assert (np.abs(theirs - ours) > step * 1e-3).mean() < 1e-3, name
        assert np.abs(theirs - ours).max() < step * 1.01
    assert found["fake_quantize"]["w1"]["levels"] == 255
    assert found["fake_quantize"]["w3"]["levels"] == 127


@pytest.mark.parametrize("tool", ["mnn", "openvino", "aimet"])
def test_half_and_floats(source: ir.Model, given: QuantTable, tool: str) -> None:
    operators = dict(given.operators)
    operators["dense"] = OperatorPlan("float16", 16)
    operators["two"] = OperatorPlan("float")
    content, lost = there(replace(given, operators=operators), source, tool)
    if tool == "aimet":
        assert {"name": "w3", "dtype": "FLOAT", "bw": 16, "enc_type": "PER_TENSOR"} in content[
            "param_encodings"
        ]
    else:
        assert "lost mode: there is no float16" in lost
    if tool == "mnn":
        again, _ = restore(content, source, tool, IDENTITY)
        assert again.operators["two"].mode == again.operators["dense"].mode == "float"


@pytest.mark.parametrize("tool", ["mnn", "aimet"])
def test_other_axes_are_left_out(source: ir.Model, given: QuantTable, tool: str) -> None:
    tensors = {**given.tensors, "w1": TensorPlan(channel_grid(WEIGHTS["w1"], 1), "weight")}
    _, lost = there(replace(given, tensors=tensors), source, tool)
    assert "lost axis: scales lie along another axis" in lost


@pytest.mark.parametrize(
    ("tool", "content", "message"),
    [
        ("aimet", {}, "neither activation_encodings nor"),
        ("aimet", {"param_encodings": [1]}, "param_encodings is no list of objects with names"),
        ("aimet", {"param_encodings": {"w1": 1}}, "'w1' has no list of objects"),
        ("aimet", {"param_encodings": [{"name": "w1"}]}, "'w1': bw, scale and offset are needed"),
        (
            "aimet",
            {"param_encodings": [{"name": "w1", "bw": 8, "scale": [1, 2], "offset": [1, 1, 1]}]},
            "2 scales and 3",
        ),
        ("mnn", {}, "there is no list 'algo'"),
        (
            "mnn",
            {"algo": [{"quant_params": {"layer": [{"op_name": "one", "input": [{"name": "x"}]}]}}]},
            "'x' has no scales",
        ),
        ("openvino", {}, "there is no object 'fake_quantize'"),
        ("openvino", {"fake_quantize": {"x": {}}}, "'x': levels and limits are needed"),
    ],
)
def test_what_is_no_table(source: ir.Model, tool: str, content: Json, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        restore(content, source, tool, IDENTITY)
    assert "\n" not in str(caught.value)


def test_numbers_that_are_no_grid(source: ir.Model) -> None:
    def entry(**changes: object) -> Json:
        return {"name": "w1", "bw": 8, "scale": [1.0], "offset": [-128], **changes}

    good = {"name": "w2", "bw": 8, "scale": [1.0], "offset": [-128]}
    for wrong, field in (
        (entry(bw=40), "bits"),
        (entry(scale=[1.0] * 3), "axis"),
        (entry(scale=[0.0]), "scale"),
        (entry(offset=[-300]), "zero_point"),
        (entry(name="gone"), "tensor"),
    ):
        again, losses = restore({"param_encodings": [wrong, good]}, source, "aimet", IDENTITY)
        assert set(again.tensors) == {"w2"}
        assert f"lost {field}" in "\n".join(losses.lines())


def test_signed_activations(source: ir.Model, given: QuantTable) -> None:
    signed = Grid(ir.DataType.INT8, np.float32(0.5).reshape(()), np.int8(-3).reshape(()))
    changed = replace(given, tensors={**given.tensors, "x": TensorPlan(signed)})
    for tool in ("aimet", "mnn", "openvino"):
        content, _ = there(changed, source, tool)
        again, _ = restore(content, source, tool, IDENTITY)
        grid = again.tensors["x"].grid
        # The same numbers, counted from zero.
        assert (grid.dtype, int(grid.zero_point), float(grid.scale)) == (ir.DataType.UINT8, 125, 0.5)
