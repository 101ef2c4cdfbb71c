"""The kernel `elementwise`: every operation and type, broadcasting and strides, random programs."""

from __future__ import annotations

import re
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from graphopt.lowering.elementwise_program import (
    ElementwiseProgram,
    Op,
    Ref,
    Source,
    Step,
    decode,
    is_supported,
)
from tests.kernels.elementwise_programs import BINARY, PARAMETERS, UNARY, interpret, run, single

F32, F64, F16 = np.dtype(np.float32), np.dtype(np.float64), np.dtype(np.float16)
BF16 = np.dtype(ml_dtypes.bfloat16)
FLOATS = [F32, F64, F16, BF16]
INTEGERS = [np.dtype(f"{kind}{bits}") for kind in ("int", "uint") for bits in (8, 16, 32, 64)]
# Relative to the result, and to 1: half a unit of 16-bit floats, a few of float32.
TOLERANCE = {F32: (5e-7, 2e-7), F64: (2e-14, 1e-15), F16: (5e-4, 3e-8), BF16: (4e-3, 1e-30)}
SPECIAL = [
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    1.0,
    -1.0,
    0.5,
    1.5,
    2.5,
    -0.5,
    1e-30,
    -1e-30,
    88.7,
    -87.5,
    1e5,
]
# 1 + erf cancels for negative arguments: float32 keeps this share of |x|.
CANCELS = {Op.GELU: 2e-7, Op.GELU_TANH: 2e-7}


def floats(dtype: np.dtype, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    values = rng.standard_normal(count) * rng.choice([0.01, 0.5, 3, 20], count)
    values[: min(count, len(SPECIAL))] = SPECIAL[:count]
    with np.errstate(over="ignore"):
        return rng.permutation(values).astype(dtype)


def integers(dtype: np.dtype, count: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    info = np.iinfo(dtype)
    values = rng.integers(max(-20, info.min), 20, count).astype(dtype)
    values[:4] = [info.max, info.min, 0, 1]
    return rng.permutation(values)


def assert_near(
    got: np.ndarray, wanted: np.ndarray, dtype: np.dtype, slack: np.ndarray | float = 0.0
) -> None:
    rtol, atol = TOLERANCE[dtype]
    with np.errstate(over="ignore", invalid="ignore"):
        wanted = wanted.astype(dtype).astype(np.float64)
    found = got.astype(np.float64)
    with np.errstate(invalid="ignore"):
        found = np.where(np.abs(found - wanted) <= slack, wanted, found)
    np.testing.assert_allclose(found, wanted, rtol=2 * rtol, atol=atol)


def test_operations_are_numbered_as_in_the_kernel() -> None:
    header = Path(__file__).parents[2] / "kernels/ops/elementwise.h"
    listed = re.findall(r"X\((\w+), (\d), \d+\)", header.read_text())
    ours = {op.name.replace("_", "").lower(): op for op in Op}
    assert [name.lower() for name, _ in listed] == list(ours)
    assert [int(sources) for _, sources in listed] == [op.sources for op in ours.values()]


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize("op", [*UNARY, *PARAMETERS], ids=lambda op: op.name)
def test_unary_floats(op: Op, dtype: np.dtype) -> None:
    for count in (1, 16, 77, 300):
        x = floats(dtype, count)
        immediates, function = PARAMETERS.get(op, (None, UNARY.get(op)))
        assert function is not None
        with np.errstate(all="ignore"):
            wanted = function(x.astype(np.float64))
        slack = CANCELS.get(op, 0.0) * np.abs(np.nan_to_num(x.astype(np.float64), posinf=0, neginf=0))
        assert_near(single(op, x, immediates=immediates), wanted, dtype, slack if dtype != F64 else 0.0)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
@pytest.mark.parametrize(
    "op", [op for op in BINARY if is_supported(op, ir.DataType.FLOAT)], ids=lambda op: op.name
)
def test_binary_floats(op: Op, dtype: np.dtype) -> None:
    for count in (1, 16, 77, 300):
        a, b = floats(dtype, count, 1), floats(dtype, count, 2)
        for p, q in ((a, b), (a, b[:1]), (a[-1:], b)):
            with np.errstate(all="ignore"):
                wanted = BINARY[op](p.astype(np.float64), q.astype(np.float64))
            got = single(op, p, q)
            if op.gives_bool:
                np.testing.assert_array_equal(got, wanted)
            elif op in (Op.MOD, Op.FMOD):
                with np.errstate(all="ignore"):  # remainders are exact in their own type
                    kind = F32 if dtype in (F16, BF16) else dtype
                    wanted = BINARY[op](p.astype(kind), q.astype(kind))
                assert_near(got, wanted, dtype)
            else:
                assert_near(got, wanted, dtype)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_sign_of_zero(dtype: np.dtype) -> None:
    zeros = np.array([0.0, -0.0], dtype)
    for op in (
        Op.NEG,
        Op.ABS,
        Op.SQRT,
        Op.FLOOR,
        Op.CEIL,
        Op.ROUND,
        Op.TANH,
        Op.ERF,
        Op.SIN,
        Op.TAN,
        Op.COPY,
    ):
        wanted = UNARY[op](zeros.astype(np.float64))
        np.testing.assert_array_equal(np.signbit(single(op, zeros)), np.signbit(wanted), op.name)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_nan_goes_through_min_max_and_clip(dtype: np.dtype) -> None:
    x, y = np.array([np.nan, 1, np.nan, 3], dtype), np.array([1, np.nan, np.nan, 2], dtype)
    low, high = np.array(2, dtype), np.array(2.5, dtype)
    nan = np.nan
    for got, wanted in (
        (single(Op.MIN, x, y), [nan, nan, nan, 2]),
        (single(Op.MAX, x, y), [nan, nan, nan, 3]),
        (single(Op.CLIP, x, low, high), [nan, 2, nan, 2.5]),
        (single(Op.CLIP, x, high, low), [nan, 2, nan, 2]),
    ):
        np.testing.assert_array_equal(got.astype(np.float64), wanted)


@pytest.mark.parametrize("dtype", FLOATS, ids=str)
def test_tests_of_floats(dtype: np.dtype) -> None:
    x = floats(dtype, 60)
    np.testing.assert_array_equal(single(Op.IS_NAN, x, to=ir.DataType.BOOL), np.isnan(x))
    for negative, positive in ((1.0, 1.0), (0.0, 1.0), (1.0, 0.0), (0.0, 0.0)):
        wanted = (np.isneginf(x) & bool(negative)) | (np.isposinf(x) & bool(positive))
        np.testing.assert_array_equal(single(Op.IS_INF, x, immediates=(negative, positive)), wanted)


@pytest.mark.parametrize("exponent", [0.0, 1.0, 2.0, 3.0, -1.0, 0.5, -0.5, 1.7, 2.5, np.inf, np.nan])
def test_powers_of_one_exponent(exponent: float) -> None:
    x = floats(F32, 200)
    for base in (x, np.abs(x), np.abs(x[np.isfinite(x)]) + np.float32(1e-3)):
        with np.errstate(all="ignore"):
            wanted = np.power(base.astype(np.float64), exponent)
            # IEEE 754: pow(-inf, 0.5) is inf, whatever a vectorized library says
            wanted[np.isneginf(base)] = [np.float64(-np.inf) ** exponent] if exponent != 0.5 else np.inf
        assert_near(single(Op.POW, base, np.array([exponent], np.float32)), wanted, F32)


def test_angles_of_any_size() -> None:
    x = np.random.default_rng(5).standard_normal(1000).astype(np.float32)
    for scale in (1e-20, 1e-3, 1, 100, 1e5, 1e7, 1e30):
        for op in (Op.SIN, Op.COS, Op.TAN):
            y = x * np.float32(scale)
            assert_near(single(op, y), UNARY[op](y.astype(np.float64)), F32)


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integers(dtype: np.dtype) -> None:
    a, b = integers(dtype, 200, 1), integers(dtype, 200, 2)
    with np.errstate(all="ignore"):
        for op in (
            Op.ADD,
            Op.SUB,
            Op.MUL,
            Op.MIN,
            Op.MAX,
            Op.BIT_AND,
            Op.BIT_OR,
            Op.BIT_XOR,
            Op.FMOD,
            Op.MOD,
        ):
            np.testing.assert_array_equal(single(op, a, b), BINARY[op](a, b), op.name)
        for op in (Op.EQUAL, Op.LESS, Op.LESS_EQUAL):
            np.testing.assert_array_equal(single(op, a, b), BINARY[op](a, b), op.name)
        for op in (Op.NEG, Op.ABS, Op.SIGN, Op.COPY):
            np.testing.assert_array_equal(single(op, a), UNARY[op](a), op.name)
        np.testing.assert_array_equal(single(Op.RELU, a), np.maximum(a, 0))
        np.testing.assert_array_equal(single(Op.BIT_NOT, a), ~a)
        np.testing.assert_array_equal(
            single(Op.POW, a, np.abs(b) % 7), np.power(a, np.abs(b) % dtype.type(7))
        )
        np.testing.assert_array_equal(single(Op.PRELU, a, b), np.where(a < 0, a * b, a))
        bounds = np.array(2, dtype), np.array(9, dtype)
        np.testing.assert_array_equal(single(Op.CLIP, a, *bounds), np.clip(a, *bounds))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_integer_division_truncates_and_never_traps(dtype: np.dtype) -> None:
    info = np.iinfo(dtype)
    a = np.array([7, info.max, info.min, 5, info.min, 0], dtype)
    b = np.array([2, 3, info.max, 0, 1, 9], dtype)
    wanted = [
        int(abs(int(p)) // abs(int(q))) * (1 if p >= 0 else -1) if q else 0 for p, q in zip(a, b, strict=True)
    ]
    np.testing.assert_array_equal(single(Op.DIV, a, b), np.array(wanted, dtype))
    if info.min < 0:
        least, minus = np.array([info.min, -7], dtype), np.array([-1, 2], dtype)
        np.testing.assert_array_equal(single(Op.DIV, least, minus), np.array([info.min, -3], dtype))
        np.testing.assert_array_equal(single(Op.MOD, least, minus), np.array([0, 1], dtype))
        np.testing.assert_array_equal(single(Op.FMOD, least, minus), np.array([0, -1], dtype))


@pytest.mark.parametrize("dtype", INTEGERS, ids=str)
def test_shifts(dtype: np.dtype) -> None:
    width = dtype.itemsize * 8
    a = integers(dtype, 60)
    by = np.arange(60).astype(dtype) % dtype.type(width)
    np.testing.assert_array_equal(single(Op.SHIFT_LEFT, a, by), np.left_shift(a, by))
    np.testing.assert_array_equal(single(Op.SHIFT_RIGHT, a, by), np.right_shift(a, by))
    far = np.array([width], dtype)
    np.testing.assert_array_equal(single(Op.SHIFT_LEFT, a, far), np.zeros_like(a))
    np.testing.assert_array_equal(single(Op.SHIFT_RIGHT, a, far), np.where(a < 0, -1, 0).astype(dtype))


@pytest.mark.parametrize("dtype", [*FLOATS, *INTEGERS, np.dtype(np.bool_), np.dtype(np.complex64)], ids=str)
def test_where(dtype: np.dtype) -> None:
    rng = np.random.default_rng(4)
    condition = rng.random((3, 1, 50)) > 0.5
    yes, no = rng.integers(0, 2, (4, 1)).astype(dtype), rng.integers(0, 9, (3, 4, 50)).astype(dtype)
    np.testing.assert_array_equal(single(Op.WHERE, condition, yes, no), np.where(condition, yes, no))


def test_bool() -> None:
    a, b = np.array([0, 0, 1, 1], np.bool_), np.array([0, 1, 0, 1], np.bool_)
    for op in (Op.BIT_AND, Op.BIT_OR, Op.BIT_XOR, Op.EQUAL):
        np.testing.assert_array_equal(single(op, a, b), BINARY[op](a, b))
    np.testing.assert_array_equal(single(Op.NOT, a), ~a)


def test_what_is_not_supported_is_refused() -> None:
    for op in Op:
        for dtype in (ir.DataType.FLOAT, ir.DataType.BFLOAT16, ir.DataType.INT32, ir.DataType.BOOL):
            if op in (Op.CAST, Op.QUANTIZE, Op.DEQUANTIZE):
                continue
            x = np.ones(3, dtype.numpy())
            inputs = [x] * op.sources if op is not Op.WHERE else [np.ones(3, np.bool_), x, x]
            if is_supported(op, dtype):
                single(op, *inputs, dtype=dtype, immediates=(1.0, 1.0))
            else:
                with pytest.raises(ExecutionError, match="there is no element-wise"):
                    single(op, *inputs, dtype=dtype, to=dtype)


def test_shapes_that_do_not_broadcast() -> None:
    program = ElementwiseProgram(2)
    program.add(Step(Op.ADD, 1, 1, (Ref(Source.INPUT, 0), Ref(Source.INPUT, 1))))
    program.outputs = [0]
    x, y = np.ones((2, 3), np.float32), np.ones(4, np.float32)
    with pytest.raises(ExecutionError, match=re.escape("input 1 of shape [4] can't be broadcast to [2, 3]")):
        run(program, [x, y], [(ir.DataType.FLOAT, None)])


@st.composite
def layouts(draw: st.DrawFn) -> tuple[tuple[int, ...], list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Dims of a result, dims of operands that broadcast to them, and an order of dims in memory for each."""
    dims = tuple(draw(st.lists(st.sampled_from([0, 1, 2, 3, 5, 8, 17, 40]), max_size=4)))
    operands = []
    for _ in range(draw(st.integers(1, 3))):
        kept = draw(st.integers(0, len(dims)))
        operands.append(tuple(1 if draw(st.booleans()) and d else d for d in dims[len(dims) - kept :]))
    operands.append(dims)
    orders = [tuple(draw(st.permutations(range(len(o))))) for o in [*operands, dims]]
    return dims, operands, orders


def laid_out(values: np.ndarray, order: tuple[int, ...], gap: int) -> np.ndarray:
    """The same array, its dims in memory in this order, with gaps between the innermost elements."""
    memory = np.zeros((*(values.shape[k] for k in order), gap), values.dtype)
    view = memory[..., 0].transpose(np.argsort(order)) if order else memory[..., 0]
    view[...] = values
    return view


@settings(max_examples=150, deadline=None)
@given(layouts(), st.integers(1, 2), st.integers(1, 2), st.sampled_from(["f4", "f8", "i2", "i8", "u1"]))
def test_broadcasting_and_strides(
    layout: tuple[tuple[int, ...], list[tuple[int, ...]], list[tuple[int, ...]]],
    gap: int,
    threads: int,
    kind: str,
) -> None:
    dims, operands, orders = layout
    rng = np.random.default_rng(len(dims))
    dtype = ir.DataType.from_numpy(np.dtype(kind))
    inputs = [
        laid_out(rng.integers(0, 50, o).astype(kind), order, gap)
        for o, order in zip(operands, orders, strict=False)
    ]
    program = ElementwiseProgram(len(inputs))
    total = Ref(Source.INPUT, 0)
    for k in range(1, len(inputs)):
        total = program.add(Step(Op.ADD, int(dtype), int(dtype), (total, Ref(Source.INPUT, k))))
    program.outputs = [total.number]
    strides, step = [0] * len(dims), 1
    for axis in reversed(orders[-1]):
        strides[axis] = step
        step *= dims[axis]
    [y] = run(program, inputs, [(dtype, dims, strides)], threads)
    wanted = np.broadcast_to(sum(x.astype(np.int64) for x in inputs), dims).astype(kind)
    np.testing.assert_array_equal(y, wanted)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("count", [5000, 300_001])
def test_long(count: int, threads: int) -> None:
    x = np.random.default_rng(0).standard_normal(count, np.float32)
    np.testing.assert_array_equal(single(Op.ADD, x, x[::-1], threads=threads), x + x[::-1])
    np.testing.assert_array_equal(single(Op.MUL, x, x[:1], threads=threads), x * x[0])
    grid = x[: count // 100 * 100].reshape(-1, 100)
    np.testing.assert_array_equal(single(Op.SUB, grid, grid[:1], threads=threads), grid - grid[:1])
    np.testing.assert_array_equal(single(Op.SUB, grid, grid[:, :1], threads=threads), grid - grid[:, :1])


CHOICES = [
    *(
        op
        for op in (*UNARY, *PARAMETERS)
        if op not in (Op.TAN, Op.SINH, Op.COSH, Op.EXP, Op.RECIPROCAL, Op.LOG)
    ),
    *(Op.ADD, Op.SUB, Op.MUL, Op.MIN, Op.MAX, Op.PRELU, Op.LESS, Op.EQUAL, Op.WHERE, Op.CLIP),
]
SMOOTH = frozenset(CHOICES) - {Op.FLOOR, Op.CEIL, Op.ROUND, Op.SIGN, Op.THRESHOLDED_RELU, Op.SHRINK, Op.EQUAL}
F, B = int(ir.DataType.FLOAT), int(ir.DataType.BOOL)


@st.composite
def programs(draw: st.DrawFn) -> ElementwiseProgram:
    """Programs over two float inputs, a bool input and constants."""
    program = ElementwiseProgram(3)
    numbers = [
        Ref(Source.INPUT, 0),
        Ref(Source.INPUT, 1),
        program.constant(F, draw(st.floats(-2, 2, width=32))),
    ]
    bools = [Ref(Source.INPUT, 2)]
    for _ in range(draw(st.integers(1, 14))):
        op = draw(st.sampled_from(sorted(SMOOTH)))
        kinds = "bff"[: op.sources] if op is Op.WHERE else "fff"[: op.sources]
        sources = tuple([draw(st.sampled_from(bools if k == "b" else numbers)) for k in kinds])
        immediates = PARAMETERS[op][0] if op in PARAMETERS else None
        made = program.add(Step(op, F, B if op.gives_bool else F, sources, immediates))
        (bools if op.gives_bool else numbers).append(made)
    steps = [ref.number for ref in (*numbers, *bools) if ref.source == Source.STEP]
    program.outputs = draw(st.lists(st.sampled_from(steps), min_size=1, max_size=3, unique=True))
    return program


@settings(max_examples=150, deadline=None)
@given(programs(), st.sampled_from([((7,), (7,)), ((5, 1, 33), (4, 33)), ((3, 300), (300,)), ((40, 40), ())]))
def test_random_programs(program: ElementwiseProgram, dims: tuple[tuple[int, ...], tuple[int, ...]]) -> None:
    rng = np.random.default_rng(7)
    x, y = (rng.standard_normal(d).astype(np.float32) for d in dims)
    condition = rng.random(dims[0]) > 0.5
    wanted = interpret(program, [x, y, condition])
    types = [ir.DataType(program.steps[number].to) for number in program.outputs]
    got = run(program, [x, y, condition], [(t, None) for t in types])
    again = decode(*program.encode(), 3, len(program.outputs))
    for g, other in zip(got, run(again, [x, y, condition], [(t, None) for t in types]), strict=True):
        np.testing.assert_array_equal(g, other)
    for g, w in zip(got, wanted, strict=True):
        if w.dtype == np.bool_:
            # a comparison may go either way where its sides are a rounding apart
            assert np.mean(g != w) < 0.05 or g.size < 100
        elif any(ir.DataType(s.to) == ir.DataType.BOOL for s in program.steps):
            assert np.mean(~np.isclose(g, w, rtol=1e-4, atol=1e-4, equal_nan=True)) < 0.05 or g.size < 100
        else:
            np.testing.assert_allclose(g, w, rtol=1e-4, atol=1e-4 * max(1.0, float(np.abs(w).max(initial=0))))
