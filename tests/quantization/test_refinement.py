"""The stage that refines weights, on whole models."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.errors import UsageError
from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.ir.quantizing import dequantized, quantized
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization import planning
from graphopt.quantization.calibration import calibrate
from graphopt.quantization.refinement import Method, block_plans, refine
from graphopt.quantization.statistics import Statistics

RNG = np.random.default_rng(0)
# Inputs of real layers depend on each other.
MIXING = RNG.standard_normal((64, 64)) * 0.9 ** np.arange(64)

TEXT = """<ir_version: 10, opset_import: ["": 21]>
g (float[T,64] x, float[1,8,9,9] image) => (float[T,40] y, float[1,16,7,7] z) {
    hidden = MatMul(x, first)
    positive = Relu(hidden)
    y = Gemm <transB = 1> (positive, second)
    z = Conv <group = 2> (image, kernel)
}"""


class Prepared:
    """A model with statistics and a table."""

    def __init__(self) -> None:
        proto = onnx.parser.parse_model(TEXT)
        for name, shape in (("first", (64, 96)), ("second", (40, 96)), ("kernel", (16, 4, 3, 3))):
            array = RNG.standard_normal(shape).astype(np.float32)
            proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
        self.model = ir.from_proto(proto)
        name_nodes(self.model)
        self.found = planning.candidates(self.model)
        self.statistics = Statistics(self.found)
        feeds = [
            {
                "x": (RNG.standard_normal((60, 64)) @ MIXING.T).astype(np.float32),
                "image": np.cumsum(RNG.standard_normal((1, 8, 9, 9)), 3).astype(np.float32),
            }
            for _ in range(12)
        ]
        seen = calibrate(
            self.model, planning.values_to_observe(self.found), feeds, statistics=self.statistics
        )
        tensors, operators = planning.plan(self.found, seen, "mse")
        self.table = QuantTable(ModelIdentity("0" * 64, 21), tensors, operators)


@pytest.fixture(scope="module")
def prepared() -> Prepared:
    return Prepared()


@pytest.mark.parametrize("method", ["easyquant", "admm", "gptq", "adaround", "auto"])
def test_outputs_are_nearer(prepared: Prepared, method: Method) -> None:
    found = refine(prepared.model, prepared.table, prepared.statistics, method)
    large = [note for note in found.notes if note.weight != "kernel"]
    assert len(large) == 2
    for note in large:
        assert note.kept
        assert note.after < (0.97 if method == "easyquant" else 0.75) * note.before
    for note in found.notes:
        plan = found.table.tensors[note.weight]
        if not note.kept:
            assert plan == prepared.table.tensors[note.weight]


def test_codes_fit_their_grids(prepared: Prepared) -> None:
    found = refine(prepared.model, prepared.table, prepared.statistics, "gptq").table
    for name, plan in found.tensors.items():
        if plan.codes is not None:
            weight = prepared.model.graph.initializers[name].const_value.numpy()  # type: ignore[union-attr]
            assert plan.codes.dtype == np.int8
            assert plan.codes.shape == weight.shape
            assert np.abs(plan.codes.astype(int)).max() <= 127
            assert np.abs(dequantized(plan.codes, plan.grid) - weight).max() < 1.5


def test_nothing_is_refined_unless_asked_for(prepared: Prepared) -> None:
    found = refine(prepared.model, prepared.table, prepared.statistics, "none")
    assert found.table == prepared.table
    assert found.notes == ()


def test_what_is_worse_is_undone(prepared: Prepared) -> None:
    # All inputs that are fitted to are alike; those that judge are others.
    statistics = Statistics(prepared.found)
    for seen in statistics.inputs.values():
        row = np.zeros((1, seen.product.groups, seen.product.depth), np.float32)
        row[..., 0] = 1.0
        seen.count = seen.gram_count = 1
        for block, gram in zip(seen.blocks, seen.grams, strict=True):
            gram += (
                row[0][:, :, None][:, block.start : block.stop] * row[0][:, None, block.start : block.stop]
            )
        rows = RNG.standard_normal((64, *row.shape[1:])).astype(np.float32)
        seen._keep(rows, np.arange(64, dtype=np.uint64), 1)
    found = refine(prepared.model, prepared.table, statistics, "admm")
    assert found.notes
    for note in found.notes:
        assert note.kept == (note.after < note.before)
        same = found.table.tensors[note.weight] is prepared.table.tensors[note.weight]
        assert same != note.kept
    assert not all(note.kept for note in found.notes)


def test_blocks_of_four_bits(prepared: Prepared) -> None:
    plans, notes = block_plans(prepared.model, prepared.statistics)
    assert sorted(plans) == ["first", "second"]
    plain, _ = block_plans(prepared.model, prepared.statistics, "none")
    for note in notes:
        assert note.bits == 4
        assert note.kept
        assert note.after < 0.6 * note.before
    assert plans["first"].grid.block_size == 32
    assert plans["first"].grid.scale.shape == (2, 96)
    assert plans["second"].grid.scale.shape == (40, 3)
    assert plain["first"].codes is None
    assert plans["first"].codes is not None


def test_seven_bits_stay_seven(prepared: Prepared) -> None:
    plan = prepared.table.tensors["first"]
    seven = replace(plan.grid, scale=plan.grid.scale * np.float32(127 / 63), bits=7)
    table = replace(prepared.table, tensors={**prepared.table.tensors, "first": replace(plan, grid=seven)})
    found = refine(prepared.model, table, prepared.statistics, "gptq")
    codes = found.table.tensors["first"].codes
    assert codes is not None
    assert np.abs(codes.astype(int)).max() == 63
    weight = prepared.model.graph.initializers["first"].const_value.numpy()  # type: ignore[union-attr]
    assert not np.array_equal(codes, quantized(weight, seven))


def test_no_such_method(prepared: Prepared) -> None:
    with pytest.raises(UsageError, match="there is no refinement 'best'; one of none, easyquant"):
        refine(prepared.model, prepared.table, prepared.statistics, "best")  # type: ignore[arg-type]
