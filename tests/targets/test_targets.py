from __future__ import annotations

import re
from collections import defaultdict
from contextlib import nullcontext

import onnx_ir as ir
import pytest
from onnx import defs

from graphopt import targets
from graphopt.errors import UsageError
from graphopt.ir.schemas import type_name
from graphopt.targets import onnxruntime as measured
from graphopt.testing import model_from_text

OWN = {r.op_type for r in targets.find("graphopt").rows() if r.domain == "ai.graphopt"}
STANDARD = sorted({s.name for s in defs.get_all_schemas_with_history() if s.domain == ""})


def kernels():
    """(first version, last version, element types of each constraint) of the installed runtime's CPU kernels."""
    state = pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    if not hasattr(state, "get_all_opkernel_def"):
        pytest.skip("this build of onnxruntime does not list its kernels")
    found = defaultdict(list)
    for kernel in state.get_all_opkernel_def():
        if kernel.provider == "CPUExecutionProvider":
            types = [set(given) for given in kernel.type_constraints.values()]
            found[kernel.domain, kernel.op_name].append((*kernel.version_range, types))
    return found


@pytest.mark.parametrize("target", targets.names())
def test_every_standard_operator_has_a_row(target):
    who = targets.find(target)
    missing = [name for name in STANDARD if who.row("", name) is None]
    assert missing == ([] if target != "graphopt" else [n for n in missing if takes_strings_only(n)])


def takes_strings_only(name):
    row = targets.find("onnx").row("", name)
    return row.dtypes == {ir.DataType.STRING}


def test_our_operators_have_rows_where_they_are_written_or_run_as_functions():
    assert "FullyConnected" in OWN and "FullyConnectedRelu" in OWN
    for name in OWN:
        assert targets.find("graphopt").row("ai.graphopt", name).cost.b > 0
        assert targets.find("onnx").row("ai.graphopt", name) is None


def test_rows_of_the_standard_say_what_the_standard_says():
    who = targets.find("onnx")
    for name in STANDARD:
        schemas = [s for s in defs.get_all_schemas_with_history() if (s.domain, s.name) == ("", name)]
        last = max(schemas, key=lambda s: s.since_version)
        row = who.row("", name)
        assert row.since == min(s.since_version for s in schemas), name
        assert row.until == (last.since_version - 1 if last.deprecated else None), name


def test_rows_say_what_the_kernels_take():
    known = kernels()
    for row in targets.find("onnxruntime").rows():
        here = known[row.domain, row.op_type]
        assert here or row.has_body or not row.dtypes, row.op_type
        stated = {type_name(ir.TensorType(dtype)) for dtype in row.dtypes or ()}
        taken = {
            re.sub(r"^(seq|optional)\((.*)\)$", r"\2", t)
            for *_, types in here
            for each in types
            for t in each
        }
        assert not taken or stated <= taken, row.op_type
        if here and not row.has_body:
            assert row.since >= min(first for first, *_ in here), row.op_type


def test_operators_run_in_the_opsets_that_rows_say():
    ort = pytest.importorskip("onnxruntime")
    for op_type, version, runs in [("RoiAlign", 21, True), ("RoiAlign", 22, False), ("Relu", 23, True)]:
        assert targets.find("onnxruntime").row("", op_type).covers(version) is runs
        inputs = {"RoiAlign": "(float[1,2,8,8] x, float[1,4] r, int64[1] i)", "Relu": "(float[8] x)"}[op_type]
        names = {"RoiAlign": "x, r, i", "Relu": "x"}[op_type]
        model = model_from_text(
            f"g {inputs} => (float[n] y) {{ z = {op_type} ({names}) y = Reshape(z, [-1]) }}", opset=version
        )
        content = ir.to_proto(model).SerializeToString()
        with nullcontext() if runs else pytest.raises(Exception, match="NOT_IMPLEMENTED"):
            ort.InferenceSession(content, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("target", targets.names())
def test_every_row_has_a_cost_with_a_source(target):
    for row in targets.find(target).rows():
        cost = row.cost
        assert min(cost.a, cost.b, cost.c) >= 0, row.op_type
        assert cost.a > 0 or row.op_type == "Constant", row.op_type
        assert "onnxruntime" in cost.source and "1 thread" in cost.source, row.op_type


def test_costs_of_other_targets_stand_in():
    measured_row = targets.find("onnxruntime").row("", "MatMul")
    neutral = targets.find("onnx").row("", "MatMul")
    ours = targets.find("graphopt").row("", "MatMul")
    assert (neutral.cost.a, neutral.cost.b) == (measured_row.cost.a, measured_row.cost.b)
    assert neutral.cost.source.startswith("stands in: ") and ours.cost.source.startswith("stands in: ")
    assert not measured_row.cost.source.startswith("stands in")
    assert (ours.cost.a, ours.cost.b) == (20.0, measured_row.cost.b)


def test_the_engine_has_no_rows_for_strings():
    who = targets.find("graphopt")
    assert who.row("", "StringConcat") is None
    assert not who.runs("", "Identity", ir.DataType.STRING)
    assert targets.find("onnx").runs("", "Identity", ir.DataType.STRING)


def test_a_target_runs_what_its_table_has():
    who = targets.find("onnxruntime")
    assert who.runs("com.microsoft", "FusedMatMul", ir.DataType.DOUBLE)
    assert not who.runs("com.microsoft", "FusedConv", ir.DataType.DOUBLE)
    assert not who.runs("com.microsoft", "FusedConv", None)
    assert not who.runs("", "FusedConv", ir.DataType.FLOAT)
    assert not targets.find("onnx").runs("com.microsoft", "FusedConv", ir.DataType.FLOAT)


@pytest.mark.parametrize(
    ("target", "domain", "op_type", "version", "allowed"),
    [
        ("onnx", "", "Gelu", 19, False),
        ("onnx", "", "Gelu", 20, True),
        ("onnx", "", "Upsample", 10, False),
        ("onnxruntime", "", "Constant", 23, True),
        ("onnxruntime", "", "ImageDecoder", 23, False),
        ("onnx", "", "NoSuchOperator", 20, False),
        ("onnx", "com.microsoft", "FusedMatMul", 1, False),
        ("onnxruntime", "com.microsoft", "FusedMatMul", 1, True),
        ("onnxruntime", "com.microsoft", "NoSuchOperator", 1, False),
        ("onnxruntime", "ai.graphopt", "FullyConnected", 1, False),
        ("graphopt", "ai.graphopt", "FullyConnected", 1, True),
        ("onnx", "of.a.plugin", "Anything", 1, True),
    ],
)
def test_what_may_be_written(target, domain, op_type, version, allowed):
    assert targets.find(target).may_write(domain, op_type, version) is allowed


def test_kernels_that_stop_before_an_opset():
    # RoiAlign-22 only adds an element type; onnxruntime 1.32 has kernels up to 21.
    assert targets.find("onnxruntime").ends_before("", "RoiAlign", 23)
    assert not targets.find("onnxruntime").ends_before("", "RoiAlign", 21)
    assert not targets.find("onnxruntime").ends_before("", "Relu", 23)
    assert targets.find("onnx").ends_before("", "RoiAlign", 23)


def test_what_passes_choose_was_measured_to_be_faster_and_what_they_avoid_slower():
    who = targets.find("onnxruntime")
    assert who.preferences == measured.PREFERENCES and who.avoided == measured.AVOIDED
    assert all(preference.ratio <= 1.0 for preference in who.preferences)
    assert all(preference.ratio > 1.0 for preference in who.avoided)


def test_unknown_target_is_refused():
    with pytest.raises(UsageError, match="there is no target 'tpu': onnx, onnxruntime, graphopt"):
        targets.find("tpu")
