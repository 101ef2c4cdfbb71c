from __future__ import annotations

import onnx_ir as ir
import pytest

from graphopt import targets
from graphopt.errors import UsageError
from graphopt.ir.schemas import type_name
from graphopt.targets import onnxruntime as table


def kernels():
    """Element types of the installed runtime's CPU kernels, by operator of its own domain."""
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    if not hasattr(state, "get_all_opkernel_def"):
        pytest.skip("this build of onnxruntime does not list its kernels")
    found: dict[str, set[str]] = {}
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == "CPUExecutionProvider" and kernel.domain == table.DOMAIN:
            constraints = kernel.type_constraints
            # The main operand's types stand under one of these names; without any, every type is taken.
            names = [n for n in ("T", "T1", "TA") if n in constraints]
            key = "TA" if "TA" in names else (names[0] if names else "")
            found.setdefault(kernel.op_name, set()).update(constraints.get(key, []))
    return found


def test_rows_say_what_the_kernels_take():
    known = kernels()
    for row in table.OPERATORS:
        assert row.op_type in known, row.op_type
        stated = {type_name(ir.TensorType(dtype)) for dtype in row.dtypes}
        assert stated <= known[row.op_type] or not known[row.op_type], row.op_type


def test_a_target_runs_what_its_table_has():
    who = targets.find("onnxruntime")
    assert who.runs("com.microsoft", "FusedMatMul", ir.DataType.DOUBLE)
    assert not who.runs("com.microsoft", "FusedConv", ir.DataType.DOUBLE)
    assert not who.runs("com.microsoft", "FusedConv", None)
    assert not who.runs("", "FusedConv", ir.DataType.FLOAT)
    assert not targets.find("onnx").runs("com.microsoft", "FusedConv", ir.DataType.FLOAT)


def test_what_passes_choose_was_measured_to_be_faster_and_what_they_avoid_slower():
    assert all(preference.ratio <= 1.0 for preference in table.PREFERENCES)
    assert all(preference.ratio > 1.0 for preference in table.AVOIDED)


def test_unknown_target_is_refused():
    with pytest.raises(UsageError, match="there is no target 'tpu': onnx, onnxruntime, graphopt"):
        targets.find("tpu")
