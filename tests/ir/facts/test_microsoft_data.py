"""Facts of onnxruntime's look-ups, cuts and windows against runs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.facts.checking import Runtime, check, facts_of, one_node

SIZES = ({"N": 2, "M": 3, "L": 8}, {"N": 1, "M": 1, "L": 6})
MICROSOFT = {"domain": "com.microsoft"}


def ints(*values):
    return np.array(values, np.int64)


def test_data():
    check("Trilu", ["float[N,M]"], *SIZES, **MICROSOFT, dims=("N, M",))
    check("ExpandDims", ["float[N,M]", np.array(1, np.int32)], *SIZES, **MICROSOFT, dims=("N, 1, M",))
    check("ExpandDims", ["float[N,M]", Runtime(np.array(-1, np.int32))], *SIZES, **MICROSOFT, exact=False)
    check("GatherND", ["float[3,4,M]", "int64[N,2]"], *SIZES, **MICROSOFT, dims=("N, M",))
    check("Pad", ["float[N,M]", ints(0, 1, 2, 0)], *SIZES, **MICROSOFT, dims=("N + 2, M + 1",))
    check("Pad", ["float[N,M]", Runtime(ints(0, 1, 2, 0))], *SIZES, **MICROSOFT, exact=False)
    check("Range", [ints(2), ints(9), ints(3)], **MICROSOFT, dims=("3",))
    check("Range", [ints(2), Runtime(ints(9))], **MICROSOFT, exact=False)
    check("Unique", ["float[L]"], *SIZES, **MICROSOFT, outputs=3, exact=False)
    check("MurmurHash3", ["int32[N,M]"], *SIZES, **MICROSOFT, dims=("N, M",))
    check("MurmurHash3", ["int32[N,M]"], *SIZES, **MICROSOFT, dims=("N, M",), positive=0)


def test_windows():
    check("UnfoldTensor", ["float[N,L]"], *SIZES, **MICROSOFT, size=3, step=2, dim=-1)
    crop = np.array([4, 5], np.int32)
    inputs = ["float[N,3,L,L]", "float[M,4]", Runtime(np.zeros(3, np.int32)), crop]
    check("CropAndResize", inputs, SIZES[0], **MICROSOFT, dims=("M, 3, 4, 5",))


def test_quantized_rows():
    scales = np.ones((4, 2), np.float32)
    table = np.zeros((4, 16), np.uint8)
    inputs = [table, "int64[N,M]", scales]
    attributes = {"block_size": 16, "bits": 4, "gather_axis": 0, "quantize_axis": 1}
    check("GatherBlockQuantized", inputs, *SIZES, **MICROSOFT, dims=("N, M, 32",), **attributes)


def test_quantized_lstm():
    weights = [np.zeros((1, 3, 24), np.int8), np.zeros((1, 6, 24), np.int8)]
    scale, zero = np.ones(1, np.float32), np.zeros(1, np.int8)
    inputs = ["float[L,N,3]", *weights, None, None, None, None, None, scale, zero, scale, zero]
    dims = ("L, 1, N, 6", "1, N, 6", "1, N, 6")
    check("DynamicQuantizeLSTM", inputs, *SIZES, **MICROSOFT, outputs=3, dims=dims, hidden_size=6)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "described"),
    [
        ("Rfft", ["float[N,8]"], {"onesided": 1}, ["float32[N, 5, 2]"]),
        ("Irfft", ["float[N,5,2]"], {"onesided": 1}, ["float32[N, 8]"]),
        ("TorchEmbedding", ["float[20,4]", "int64[N,M]"], {}, ["float32[N, M, 4]"]),
        ("RestorePadding", ["float[T,4]", "int32[N,M]"], {}, ["float32[N, M, 4]"]),
        ("MatMulNBitsMlp", ["float[N,M,4]"], {"N": 12}, ["float32[N, M, 12]"]),
        ("MatMulNBitsQkv", ["float[N,4]"], {"Nq": 12, "Nkv": 6}, ["float32[N, 12]"] + ["float32[N, 6]"] * 2),
        (
            "RemovePadding",
            ["float[N,M,4]"],
            {},
            ["float32[tokens#0, 4]", "int32[N, M]", "int32[N + 1]", "int32[1]"],
        ),
    ],
)
def test_operators_without_a_kernel_for_cpus(op, inputs, attributes, described):
    facts, node = facts_of(one_node(op, inputs, opset=17, outputs=len(described), **MICROSOFT, **attributes))
    assert [facts.describe(output) for output in node.outputs] == described
