"""Quant tables: written, read, edited by hand, refused with one line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jsonschema
import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphopt.errors import UsageError
from graphopt.ir import quant_table
from graphopt.ir.quant_table import (
    CalibrationNote,
    ModelIdentity,
    Observed,
    OperatorPlan,
    QuantTable,
    Scaling,
    TensorPlan,
)
from graphopt.ir.quantizing import Grid, channel_grid, limits_of, quantized

HASH = "9f" * 32
LOOPED = "a%3Ab/loop:body/q"


def table() -> QuantTable:
    scales = np.linspace(0.01, 0.02, 100, dtype=np.float32)
    return QuantTable(
        ModelIdentity(HASH, 21, "fold-constants", "graphopt 0"),
        {
            "x": TensorPlan(
                Grid(ir.DataType.UINT8, np.float32(0.0367).reshape(()), np.asarray(128, np.uint8)),
                range=(-4.71, 4.65),
                group="g12",
                observed=Observed(-5.0, 4.75, 1000, 3),
            ),
            "w": TensorPlan(Grid(ir.DataType.INT8, scales, np.zeros(100, np.int8), 1, narrow=True), "weight"),
            LOOPED: TensorPlan(
                Grid(
                    ir.DataType.INT4,
                    np.array([[0.5, 0.25]], np.float32),
                    np.zeros((1, 2), ml_dtypes.int4),
                    0,
                    32,
                ),
                "weight",
                codes=np.array([[-8, 7]] * 3, ml_dtypes.int4),
            ),
        },
        {
            "mul": OperatorPlan("int8", inputs=("x",), bytes=100),
            "classify": OperatorPlan("float", sensitivity=0.5, reason="too sensitive"),
        },
        CalibrationNote(64, "minmax"),
        {
            "gamma": (Scaling(0, np.array([0.5, -2], np.float32)),),
            "w": (Scaling(0, np.array([2, 3], np.float32)), Scaling(1, scales)),
        },
        {"mul": np.array([0.125, -1], np.float32), LOOPED: scales},
    )


def edited(path: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))
    return path


@pytest.fixture
def written(tmp_path: Path) -> Path:
    path = tmp_path / "model.quant.json"
    quant_table.write(table(), path)
    return path


def test_what_is_written_is_read(written: Path) -> None:
    again = quant_table.read(written)
    first, arrays = quant_table.as_json(table())
    second, others = quant_table.as_json(again)
    assert first == second
    long = {"w", "w#factors1", f"{LOOPED}#codes", f"{LOOPED}#correction"}
    assert set(arrays) == set(others) == long
    assert all(arrays[key].tobytes() == others[key].tobytes() for key in long)
    assert again.tensors[LOOPED].codes.dtype == ml_dtypes.int4
    assert again.tensors["x"].grid.scale.tobytes() == np.float32(0.0367).tobytes()


def test_it_reads_well(written: Path) -> None:
    found = json.loads(written.read_text())
    jsonschema.Draft202012Validator(quant_table.schema()).validate(found)
    assert found["tensors"]["x"]["scale"] == 0.0367
    assert found["tensors"]["w"] == {
        "role": "weight",
        "type": "int8",
        "scale": "npz:w",
        "axis": 1,
        "narrow": True,
    }
    assert found["tensors"][LOOPED]["scale"] == [[0.5, 0.25]]
    assert found["operators"]["classify"]["mode"] == "float"
    assert found["scalings"]["gamma"] == {"axis": 0, "factors": [0.5, -2.0]}
    assert [part["axis"] for part in found["scalings"]["w"]] == [0, 1]
    assert found["corrections"]["mul"] == [0.125, -1.0]
    assert written.with_suffix(".npz").exists()


def test_writing_twice_gives_the_same_bytes(written: Path) -> None:
    files = [written, written.with_suffix(".npz")]
    before = [file.read_bytes() for file in files]
    quant_table.write(table(), written)
    assert [file.read_bytes() for file in files] == before


def test_edits_by_hand_are_taken(written: Path) -> None:
    def change(found: dict[str, Any]) -> None:
        found["tensors"]["x"]["scale"] = 0.5
        found["operators"]["mul"]["mode"] = "float"
        found["x-note"] = "by hand"

    again = quant_table.read(edited(written, change))
    assert again.tensors["x"].grid.scale == 0.5
    assert again.operators["mul"].mode == "float"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t["tensors"]["x"].update(scale=0), "tensors/x/scale"),
        (lambda t: t["tensors"]["x"].update(scale=[1, 2]), "tensor 'x': several scales need an axis"),
        (lambda t: t["tensors"]["x"].update(scale=[[1], [1, 2]]), "lists of different lengths"),
        (lambda t: t["tensors"]["x"].update(axis=0), "tensor 'x': an axis needs a list of scales"),
        (lambda t: t["tensors"]["x"].update(scale=float("nan")), "NaN is no number"),
        (lambda t: t["tensors"]["x"].update(bits=9), "tensor 'x': uint8 has no 9 bits"),
        (lambda t: t["tensors"]["x"].update(bits=7), "its zero point does not fit"),
        (lambda t: t["tensors"][LOOPED].update(narrow=True), "its codes must be integers from -7 to 7"),
        (lambda t: t["tensors"][LOOPED].update(codes="npz:w"), "its codes must be integers"),
        (lambda t: t["scalings"]["gamma"].update(factors=[1, 0]), "scaling 'gamma': a factor of zero"),
        (lambda t: t["scalings"]["gamma"].pop("axis"), "scalings/gamma"),
        (lambda t: t["corrections"].update(mul="npz:w#none"), "there is no array 'w#none'"),
        (lambda t: t["corrections"].update(mul=[1e39]), "correction 'mul': one list of finite numbers"),
        (lambda t: t["tensors"]["x"].update(zero_point=256), "its zero point does not fit"),
        (lambda t: t["tensors"]["x"].update(type="float8e5m2"), "type float8e5m2 can't be applied"),
        (lambda t: t["tensors"]["x"].update(typo=1), "'typo'"),
        (lambda t: t["tensors"]["w"].update(scale="npz:other"), "there is no array 'other'"),
        (lambda t: t["operators"]["mul"].update(mode="int9"), "operators/mul/mode"),
        (lambda t: t.update(version=2), "version"),
        (lambda t: t["model"].update(sha256="short"), "model/sha256"),
    ],
)
def test_what_no_table_may_say(
    written: Path, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    with pytest.raises(UsageError) as caught:
        quant_table.read(edited(written, change))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_no_table(tmp_path: Path, written: Path) -> None:
    with pytest.raises(UsageError, match="no quant table there"):
        quant_table.read(tmp_path / "none.json")
    (tmp_path / "text.json").write_text("{")
    with pytest.raises(UsageError, match="not JSON"):
        quant_table.read(tmp_path / "text.json")
    written.with_suffix(".npz").unlink()
    with pytest.raises(UsageError, match="arrays of the quant table can't be read"):
        quant_table.read(written)


def test_an_entry_that_stands_there_twice(tmp_path: Path) -> None:
    path = tmp_path / "twice.json"
    path.write_text('{"version": 1, "version": 1}')
    with pytest.raises(UsageError, match="'version' stands there twice"):
        quant_table.read(path)


def test_bits_and_opset(tmp_path: Path) -> None:
    w = np.array([[1, -2], [0.5, 4]], np.float32)
    grid = channel_grid(w, 0, bits=7)
    assert quantized(w * 3, grid).tolist() == [[63, -63], [24, 63]]
    assert limits_of(ir.DataType.UINT8, bits=7) == (0, 127)
    assert limits_of(ir.DataType.INT8, bits=7) == (-64, 63)
    seven = QuantTable(ModelIdentity(HASH, 13), {"w": TensorPlan(grid, "weight")})
    quant_table.write(seven, tmp_path / "q.json")
    assert quant_table.read(tmp_path / "q.json").tensors["w"].grid.bits == 7
    assert (seven.needed_opset, table().needed_opset) == (13, 21)


def test_long_zero_points_of_four_bits(tmp_path: Path) -> None:
    zeros = np.arange(80).reshape(1, 80).astype(ml_dtypes.uint4)
    grid = Grid(ir.DataType.UINT4, np.ones((1, 80), np.float32), zeros, 0, 16)
    quant_table.write(QuantTable(ModelIdentity(HASH, 21), {"w": TensorPlan(grid)}), tmp_path / "q.json")
    again = quant_table.read(tmp_path / "q.json").tensors["w"].grid.zero_point
    assert again.dtype == ml_dtypes.uint4
    np.testing.assert_array_equal(again, zeros)


def test_another_model() -> None:
    table().check_model(HASH)
    with pytest.raises(UsageError, match="for another model"):
        table().check_model("00" * 32)
