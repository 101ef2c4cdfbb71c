"""Quantize and Dequantize steps, and the kernel `dynamic_quantize`, by exact integer arithmetic."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest

from graphopt.kernels import _engine
from graphopt.lowering.elementwise_program import ElementwiseProgram, Op, Ref, Source, Step
from tests.kernels.elementwise_programs import run, single

T = ir.DataType
RANGES = {
    T.UINT8: (0, 255),
    T.INT8: (-128, 127),
    T.UINT16: (0, 65535),
    T.INT16: (-32768, 32767),
    T.UINT4: (0, 15),
    T.INT4: (-8, 7),
    T.UINT2: (0, 3),
    T.INT2: (-2, 1),
}


@pytest.mark.parametrize("to", RANGES, ids=lambda t: t.name)
@pytest.mark.parametrize("per_axis", [False, True])
def test_quantize(to: T, per_axis: bool) -> None:
    low, high = RANGES[to]
    rng = np.random.default_rng(5)
    x = (rng.standard_normal((3, 50)) * (high - low) / 2).astype(np.float32)
    x[0, :6] = [0.5, 1.5, 2.5, -0.5, 1e30, -1e30]
    shape = (3, 1) if per_axis else ()
    scale = rng.choice([0.25, 0.3, 1.0], shape).astype(np.float32)
    zero = rng.integers(low, high, shape, endpoint=True).astype(to.numpy())
    got = single(Op.QUANTIZE, x, scale, zero, to=to)
    wanted = np.clip(np.rint(x / scale).astype(np.float64) + zero.astype(np.float64), low, high)
    np.testing.assert_array_equal(got.astype(np.float64), wanted)


def test_division_is_not_a_product_with_the_reciprocal() -> None:
    scale = np.float32(0.0117)
    x = np.arange(-300, 300, dtype=np.float32) * (scale / 2)
    wanted = np.clip(np.rint(x / scale), -128, 127).astype(np.int8)
    reciprocal = np.clip(np.rint(x * (np.float32(1) / scale)), -128, 127).astype(np.int8)
    assert (wanted != reciprocal).any()
    got = single(Op.QUANTIZE, x, np.array(scale), np.array(0, np.int8), to=T.INT8)
    np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("of", [*RANGES, T.INT32], ids=lambda t: t.name)
def test_dequantize(of: T) -> None:
    low, high = RANGES.get(of, (-100000, 100000))
    rng = np.random.default_rng(6)
    x = rng.integers(low, high, (4, 30), endpoint=True).astype(of.numpy())
    zero = rng.integers(low, high, (4, 1), endpoint=True).astype(of.numpy())
    scale = rng.random((4, 1)).astype(np.float32)
    got = single(Op.DEQUANTIZE, x, scale, zero, to=T.FLOAT, dtype=of)
    np.testing.assert_array_equal(
        got, (x.astype(np.int64) - zero.astype(np.int64)).astype(np.float32) * scale
    )


@pytest.mark.parametrize("to", [T.FLOAT8E4M3FN, T.FLOAT8E5M2, T.FLOAT8E4M3FNUZ], ids=lambda t: t.name)
def test_eight_bit_floats(to: T) -> None:
    x = np.random.default_rng(7).standard_normal(200).astype(np.float32)
    scale, zero = np.array(0.25, np.float32), np.zeros((), to.numpy())
    y = single(Op.QUANTIZE, x, scale, zero, to=to, immediates=(1.0, 0.0))
    np.testing.assert_array_equal(y.astype(np.float32), (x / scale).astype(to.numpy()).astype(np.float32))
    back = single(Op.DEQUANTIZE, y, scale, zero, to=T.FLOAT, dtype=to)
    np.testing.assert_array_equal(back, y.astype(np.float32) * scale)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    "x",
    [
        np.zeros(0, np.float32),
        np.zeros((2, 3), np.float32),
        np.array([3.0], np.float32),
        -np.arange(1, 40, dtype=np.float32),
        np.linspace(-1, 5, 100_003).astype(np.float32),
    ],
    ids=["empty", "zeros", "one", "negative", "long"],
)
def test_dynamic(x: np.ndarray, threads: int) -> None:
    y, scale, zero = _engine.call_kernel(
        "dynamic_quantize",
        [(x, 1)],
        [(2, None, None), (1, None, None), (2, None, None)],
        [],
        [],
        b"",
        threads,
        1,
    )
    low, high = min(x.min(initial=0), np.float32(0)), max(x.max(initial=0), np.float32(0))
    wanted = np.float32((high - low) / np.float32(255)) if high > low else np.float32(1)
    assert scale == wanted
    assert zero == np.rint(np.clip(-low / wanted, 0, 255))
    np.testing.assert_array_equal(y, np.clip(np.rint(x / wanted) + float(zero), 0, 255))


@pytest.mark.parametrize("dtype", [T.UINT8, T.INT8])
@pytest.mark.parametrize("n", [1024, 1091, 70000])
def test_a_program_from_byte_to_byte_is_a_table(n: int, dtype: T) -> None:
    """What many elements give is what a few of them give, one after the other."""
    program = ElementwiseProgram(1)
    scale, zero = program.constant(T.FLOAT, 0.05), program.constant(dtype, 7)
    wide = program.add(Step(Op.DEQUANTIZE, dtype, T.FLOAT, (Ref(Source.INPUT, 0), scale, zero)))
    gate = program.add(Step(Op.HARD_SIGMOID, T.FLOAT, T.FLOAT, (wide,), (1 / 6, 0.5)))
    product = program.add(Step(Op.MUL, T.FLOAT, T.FLOAT, (wide, gate)))
    program.outputs = [program.add(Step(Op.QUANTIZE, T.FLOAT, dtype, (product, scale, zero))).number]
    info = np.iinfo(dtype.numpy())
    x = np.random.default_rng(0).integers(info.min, info.max + 1, n).astype(dtype.numpy())
    x[:256] = np.arange(info.min, info.max + 1)
    for threads in (1, 2):
        [got] = run(program, [x], [(dtype, [n])], threads)
        for at in range(0, min(n, 2048), 100):
            [few] = run(program, [x[at : at + 100]], [(dtype, [len(x[at : at + 100])])])
            np.testing.assert_array_equal(got[at : at + 100], few)
    known = dict(zip(x[:256].tolist(), got[:256].tolist(), strict=True))
    np.testing.assert_array_equal(got, [known[v] for v in x.tolist()])
