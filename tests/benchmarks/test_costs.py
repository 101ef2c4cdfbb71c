from __future__ import annotations

import numpy as np
import onnx
import pytest

from benchmarks.cost_cases import CASES, STAND_INS
from benchmarks.cost_fits import START, Point, fitted
from benchmarks.cost_rows import kernel_rows, standard_rows
from benchmarks.costs import Stopwatch, measure, with_costs

WORK = [(0, 512), (8192, 32768), (131072, 524288), (4096, 8192)]


def points(a, b, c, noise=0.0):
    return [Point(f, n, (a + b * f + c * n) * (1 + noise * (-1) ** i)) for i, (f, n) in enumerate(WORK)]


def test_coefficients_are_found_again():
    cost = fitted({"Gemm": points(400, 0.01, 0.02)})["Gemm"]
    assert (cost.a, cost.b, cost.c) == pytest.approx((400, 0.01, 0.02))
    assert cost.error < 1e-9


def test_no_coefficient_is_below_zero_and_noise_is_stated():
    cost = fitted({"Atanh": [Point(n, 8 * n, t) for n, t in [(64, 870), (4096, 45e3), (65536, 1.4e6)]]})[
        "Atanh"
    ]
    assert cost.a == START and cost.c > 0 and cost.b >= 0
    assert fitted({"Exp": points(200, 0, 0.02, noise=0.1)})["Exp"].error == pytest.approx(0.1, rel=0.3)


def test_bytes_are_preferred_where_flops_say_the_same():
    same = [Point(n, 8 * n, 150 + 0.1 * n) for n in (64, 4096, 65536)]
    cost = fitted({"Exp": same})["Exp"]
    assert cost.b == 0 and cost.c == pytest.approx(0.1 / 8)


def test_classes_share_their_slopes():
    found = fitted({"MatMul": points(500, 0.01, 0.01), "Gemm": points(200, 0.01, 0.01, noise=0.05)})
    assert (found["MatMul"].b, found["MatMul"].c) == (found["Gemm"].b, found["Gemm"].c)
    assert found["MatMul"].a > found["Gemm"].a
    together = fitted({"Shape": points(200, 0, 0), "Size": points(300, 0, 0)})
    assert together["Shape"] == together["Size"]


def test_every_row_is_timed_or_has_a_stand_in():
    pytest.importorskip("onnxruntime.capi.onnxruntime_pybind11_state")
    timed = {f"{c.domain}.{c.op_type}" if c.domain else c.op_type for c in CASES}
    timed |= {"Constant", "Loop", "Scan", "If"} | {k for k in kernel_rows() if k.startswith("ai.graphopt.")}
    for key in kernel_rows():
        seen = [key]
        while seen[-1] not in timed:
            assert seen[-1] in STAND_INS, key
            seen.append(STAND_INS[seen[-1]])
    assert set(standard_rows()) <= set(kernel_rows())


def test_an_operator_without_a_cost_is_an_error():
    with pytest.raises(SystemExit, match="Relu has neither"):
        with_costs({"Relu": {"since": 1, "dtypes": "float"}}, {})


def test_one_node_is_timed(tmp_path):
    pytest.importorskip("onnxruntime")
    case = next(c for c in CASES if c.op_type == "Softplus")
    watch = Stopwatch(tmp_path / "times.json")
    kernel, point = measure(case, {"R": 16, "D": 256}, watch)
    assert kernel == "Softplus"
    assert point.bytes == 2 * 4 * 16 * 256
    assert 500 < point.ns < 5e6
    watch.save()
    kept = Stopwatch(tmp_path / "times.json")
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[1] x) => (float[1] last) { last = Identity (x) }'
    )
    first = kept.least(model, {"x": np.ones(1, np.float32)})
    assert kept.least(model, {"x": np.ones(1, np.float32)}) <= first
