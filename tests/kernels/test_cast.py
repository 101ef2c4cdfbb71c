"""Casts between all pairs of element types, against numpy and ml_dtypes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from graphopt.lowering.elementwise_program import CASTABLE, FLOATS, FLOATS8, INTEGERS, SMALL, Op
from tests.kernels.elementwise_programs import raw, single

T = ir.DataType
WIDE_FLOATS = sorted(FLOATS)
EIGHT = [T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ]
SATURATE, OVERFLOW = (1.0, 0.0), (0.0, 0.0)


def values_for(of: T, to: T, count: int = 400) -> np.ndarray:
    """Numbers that both types have room for: float to integer is only defined for these."""
    rng = np.random.default_rng(3)
    kind = of.numpy()
    if of == T.BOOL:
        return rng.random(count) > 0.5
    if of in INTEGERS | SMALL:
        info = ml_dtypes.iinfo(kind)
        least, most = int(info.min), int(info.max)
        values = rng.integers(max(least, -(2**40)), min(most, 2**40), count, endpoint=True)
        values[::2] = rng.integers(max(least, -20), min(most, 20), values[::2].size, endpoint=True)
        values[:2] = [least, min(most, 2**63 - 1)]
        return values.astype(np.int64).astype(kind)
    if of == T.FLOAT8E8M0:
        return np.exp2(rng.integers(0, 5, count)).astype(np.float32).astype(kind)
    values = rng.standard_normal(count) * rng.choice([0.01, 1, 4], count)
    if to in INTEGERS | SMALL:
        info = ml_dtypes.iinfo(to.numpy())
        values = np.clip(values * 3, max(int(info.min), -100), min(int(info.max), 100))
    elif to != T.FLOAT8E8M0:
        values[:5] = [np.inf, -np.inf, np.nan, 0, -0.0] if to not in FLOATS8 else [0, -0.0, 1, 2, 3]
    with np.errstate(all="ignore"):
        return np.abs(values).astype(kind) if to == T.FLOAT8E8M0 else values.astype(kind)


def assert_same(got: np.ndarray, wanted: np.ndarray) -> None:
    if got.dtype.kind in "biu" or T.from_numpy(got.dtype) in SMALL:
        np.testing.assert_array_equal(got.astype(np.int64), wanted.astype(np.int64))
        return
    np.testing.assert_array_equal(got.astype(np.float64), wanted.astype(np.float64))
    numbers = ~np.isnan(wanted.astype(np.float64))
    np.testing.assert_array_equal(raw(got)[numbers], raw(wanted)[numbers])


@pytest.mark.parametrize("of", sorted(CASTABLE), ids=lambda t: t.name)
def test_all_pairs(of: T) -> None:
    for to in sorted(CASTABLE - {T.FLOAT8E8M0, of}):
        x = values_for(of, to)
        with np.errstate(all="ignore"):
            # by float32 where the two narrow types have no direct way
            small = of in FLOATS8 | SMALL | {T.FLOAT8E8M0, T.BFLOAT16}
            wide = x.astype(np.float32) if small and to not in FLOATS else x
            wide = wide.astype(np.int8) if of in SMALL and to in SMALL else wide
            wanted = wide.astype(to.numpy())
        assert_same(single(Op.CAST, x, to=to, immediates=OVERFLOW), wanted)  # ml_dtypes does not saturate


@pytest.mark.parametrize("to", EIGHT, ids=lambda t: t.name)
@pytest.mark.parametrize("of", [T.FLOAT16, T.BFLOAT16], ids=lambda t: t.name)
def test_every_half_to_eight_bits(of: T, to: T) -> None:
    x = np.arange(1 << 16, dtype=np.uint16).view(of.numpy())
    with np.errstate(all="ignore"):
        plain = x.astype(np.float32).astype(to.numpy())
    assert_same(single(Op.CAST, x, to=to, immediates=OVERFLOW), plain)
    largest = float(ml_dtypes.finfo(to.numpy()).max)
    wide = x.astype(np.float32)
    with np.errstate(all="ignore"):
        bounded = np.where(np.isnan(wide), wide, np.clip(wide, -largest, largest)).astype(to.numpy())
    assert_same(single(Op.CAST, x, to=to, immediates=SATURATE), bounded)


@pytest.mark.parametrize("of", [*EIGHT, T.FLOAT8E8M0], ids=lambda t: t.name)
def test_every_code_of_eight_bits(of: T) -> None:
    x = np.arange(256, dtype=np.uint8).view(of.numpy())
    for to in WIDE_FLOATS:
        if to == T.FLOAT16 and of == T.FLOAT8E8M0:
            continue
        with np.errstate(all="ignore"):
            assert_same(single(Op.CAST, x, to=to), x.astype(np.float32).astype(to.numpy()))


@pytest.mark.parametrize("to", [T.FLOAT16, *EIGHT], ids=lambda t: t.name)
def test_doubles_round_once(to: T) -> None:
    # Just beside the middle of two neighbours: rounding to float32 first would land on the middle.
    step = float(ml_dtypes.finfo(to.numpy()).eps)
    middle = 1 + step / 2
    x = np.array(
        [middle, middle + 1e-12, middle - 1e-12, -middle - 1e-12, middle + step, middle + step - 1e-12]
    )
    wanted = np.array([1, 1 + step, 1, -1 - step, 1 + 2 * step, 1 + step])
    np.testing.assert_array_equal(single(Op.CAST, x, to=to, immediates=SATURATE).astype(np.float64), wanted)


def test_bfloat16_rounds_halves_to_even() -> None:
    bits = np.array([0x3F808000, 0x3F818000, 0x3F808001, 0x3F807FFF, 0x7F7FFFFF, 0xFF800000], np.uint32)
    got = single(Op.CAST, bits.view(np.float32), to=T.BFLOAT16).view(np.uint16)
    np.testing.assert_array_equal(got, np.array([0x3F80, 0x3F82, 0x3F81, 0x3F80, 0x7F80, 0xFF80], np.uint16))


def test_scale8() -> None:
    x = np.array([1, 1.5, 3, 0.75, 1e38, 3e38, np.inf, np.nan], np.float32)
    exponents = {0: [0, 1, 2, 0, 127], 1: [0, 0, 1, -1, 126], 2: [0, 1, 2, 0, 126]}
    for rounding, wanted in exponents.items():
        got = single(Op.CAST, x, to=T.FLOAT8E8M0, immediates=(1.0, float(rounding))).view(np.uint8)
        np.testing.assert_array_equal(got[:5].astype(int) - 127, wanted)
        np.testing.assert_array_equal(got[6:], [254, 255])
    assert single(Op.CAST, x[6:7], to=T.FLOAT8E8M0, immediates=OVERFLOW).view(np.uint8)[0] == 255


@pytest.mark.parametrize("to", sorted(SMALL), ids=lambda t: t.name)
def test_integers_keep_their_lower_bits(to: T) -> None:
    x = np.arange(-130, 400).astype(np.int16)
    bits = to.bitwidth
    low = x.astype(np.int64) & ((1 << bits) - 1)
    wanted = np.where((low >= 1 << (bits - 1)) & (to in (T.INT4, T.INT2)), low - (1 << bits), low)
    np.testing.assert_array_equal(single(Op.CAST, x, to=to).astype(np.int64), wanted)


@pytest.mark.parametrize("of", sorted(SMALL), ids=lambda t: t.name)
def test_upper_bits_do_not_matter(of: T) -> None:
    bits = of.bitwidth
    clean = np.arange(1 << bits, dtype=np.uint8)
    dirty = (clean | np.uint8(0xFF << bits & 0xFF)).view(of.numpy())
    np.testing.assert_array_equal(
        single(Op.CAST, dirty, to=T.FLOAT), single(Op.CAST, clean.view(of.numpy()), to=T.FLOAT)
    )
