"""Tables of stored weights: no activations, tables of few rows in 16 bits."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.quant_table import ModelIdentity, QuantTable, TensorPlan
from graphopt.ir.quantizing import block_grid
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization import planning
from graphopt.quantization import weights_alone as module
from graphopt.quantization.applying import with_table
from graphopt.quantization.calibration import calibrate
from graphopt.quantization.weights_alone import weights_alone

RNG = np.random.default_rng(0)
TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (int64[T] i) => (float[T,64] y) {
    [look] x = Gather(rows, i)
    [one] h = MatMul(x, first)
    [two] y = MatMul(h, second)
}"""


@pytest.fixture(scope="module")
def prepared() -> tuple[ir.Model, QuantTable]:
    proto = onnx.parser.parse_model(TEXT)
    for name, shape in (("rows", (32, 64)), ("first", (64, 64)), ("second", (64, 64))):
        weight = RNG.standard_normal(shape).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(weight, name))
    model = ir.from_proto(proto)
    name_nodes(model)
    found = planning.candidates(model)
    seen = calibrate(model, planning.values_to_observe(found), [{"i": np.arange(32)}])
    tensors, operators = planning.plan(found, seen, "mse")
    return model, QuantTable(ModelIdentity("0" * 64, 21), tensors, operators)


def test_everything_computes_floats(prepared: tuple[ir.Model, QuantTable]) -> None:
    model, table = prepared
    found = weights_alone(model, table)
    assert {name: plan.mode for name, plan in found.operators.items()} == dict.fromkeys(
        ("look", "one", "two"), "weight_only"
    )
    assert all(plan.role == "weight" for plan in found.tensors.values())
    operators = [node.op_type for node in with_table(model, found).graph]
    assert operators.count("DequantizeLinear") == 3
    assert "QuantizeLinear" not in operators


def test_tables_of_few_rows_take_16_bits(
    prepared: tuple[ir.Model, QuantTable], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, table = prepared
    monkeypatch.setattr(module, "SMALL_TABLE", 0.2)
    found = weights_alone(model, table)
    assert found.operators["look"].mode == "float16"
    assert "rows" not in found.tensors
    assert sorted(found.tensors) == ["first", "second"]
    result = with_table(model, found)
    assert ir.DataType.FLOAT16 in {v.dtype for v in result.graph.initializers.values()}


def test_blocks_are_taken_where_there_are_some(prepared: tuple[ir.Model, QuantTable]) -> None:
    model, table = prepared
    weight = model.graph.initializers["first"].const_value.numpy()  # type: ignore[union-attr]
    found = weights_alone(model, table, {"first": TensorPlan(block_grid(weight, 0, 32), "weight")})
    assert found.tensors["first"].grid.dtype is ir.DataType.INT4
    assert found.tensors["second"].grid.dtype is ir.DataType.INT8
    result = with_table(model, found)
    assert ir.DataType.INT4 in {v.dtype for v in result.graph.initializers.values()}
