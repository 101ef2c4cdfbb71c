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
    TensorPlan,
)
from graphopt.ir.quantizing import Grid

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
            ),
        },
        {
            "mul": OperatorPlan("int8", inputs=("x",), bytes=100),
            "classify": OperatorPlan("float", sensitivity=0.5, reason="too sensitive"),
        },
        CalibrationNote(64, "minmax"),
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
    first, arrays = table().to_dict()
    second, others = again.to_dict()
    assert first == second
    assert set(arrays) == set(others) == {"w"}
    assert arrays["w"].tobytes() == others["w"].tobytes()
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


def test_another_model() -> None:
    table().check_model(HASH)
    with pytest.raises(UsageError, match="for another model"):
        table().check_model("00" * 32)
