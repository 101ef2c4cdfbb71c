"""Facts of signal processing against runs."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from tests.ir.facts.checking import Runtime, check

SIZES = ({"B": 2, "L": 9}, {"B": 1, "L": 8})


def number(value):
    return np.array(value, np.int64)


@pytest.mark.parametrize("opset", [17, 20])
@pytest.mark.parametrize(
    ("attributes", "parts", "dims"),
    [
        ({}, 1, "B, L, 2"),
        ({}, 2, "B, L, 2"),
        ({"inverse": 1}, 2, "B, L, 2"),
        ({"onesided": 1}, 1, "B, floordiv(L, 2) + 1, 2"),
    ],
)
def test_dft(opset, attributes, parts, dims):
    dims = dims if "floordiv" not in dims else None
    check("DFT", [f"float[B,L,{parts}]"], *SIZES, opset=opset, judge="reference", dims=(dims,), **attributes)


def test_dft_axis_and_length():
    first = {"axis": 0}
    check("DFT", ["float[L,B,1]"], *SIZES, opset=17, judge="reference", dims=("L, B, 2",), **first)
    inputs = ["float[L,B,1]", number(6), number(0)]
    check("DFT", inputs, *SIZES, opset=20, judge="reference", dims=("6, B, 2",))
    check("DFT", inputs, *SIZES, opset=20, judge="reference", dims=("4, B, 2",), onesided=1)
    check("DFT", ["float[B,L,1]", Runtime(number(6))], *SIZES, opset=20, judge="reference", exact=False)
    check(
        "DFT", ["float[B,L,2,1]", None, Runtime(number(1))], *SIZES, opset=20, judge="reference", exact=False
    )


@pytest.mark.parametrize("onesided", [0, 1])
def test_stft(onesided):
    window = np.ones(5, np.float32)
    check("STFT", ["float[B,L,1]", number(2), window], *SIZES, opset=17, onesided=onesided)
    check("STFT", ["float[B,L,1]", number(2), None, number(4)], *SIZES, opset=17, onesided=onesided)
    inputs = ["float[B,L,1]", Runtime(number(2)), None, number(4)]
    check("STFT", inputs, *SIZES, opset=17, exact=False, onesided=onesided)


@pytest.mark.parametrize("op", ["HannWindow", "HammingWindow", "BlackmanWindow"])
def test_windows(op):
    check(op, [number(7)], opset=17, dims=("7",))
    check(op, [number(7)], opset=17, dims=("7",), output_datatype=int(ir.DataType.DOUBLE), periodic=0)
    check(op, [Runtime(number(7))], opset=17, exact=False)


def test_mel_weights():
    edges = [np.array(0, np.float32), np.array(4000, np.float32)]
    check("MelWeightMatrix", [number(8), number(16), number(8192), *edges], opset=17, dims=("9, 8",))
    check("MelWeightMatrix", [number(8), Runtime(number(16)), number(8192), *edges], opset=17, exact=False)
