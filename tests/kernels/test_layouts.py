"""Constants that any instruction set packed are read on any: the layouts of all are known as plain code."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest

from graphopt.errors import ExecutionError
from graphopt.kernels import _engine

ISAS = ("generic", "v3", "v4", "v4dot")
FLOAT, UINT8, INT8, INT32 = 1, 2, 3, 6

Arrays = list[tuple[npt.NDArray[np.generic], int]]


def sources(seed: int = 0) -> dict[str, list[tuple[Arrays, list[int]]]]:
    """For each packed form sources, and the packer's integers: sizes that leave tails in every layout."""
    draw = np.random.default_rng(seed)

    def floats(*dims: int) -> tuple[npt.NDArray[np.generic], int]:
        # Exact in half precision and in bfloat16.
        return draw.integers(-64, 64, dims).astype(np.float32), FLOAT

    def codes(*dims: int) -> tuple[npt.NDArray[np.generic], int]:
        return draw.integers(-127, 128, dims).astype(np.int8), INT8

    def starts(*dims: int) -> tuple[npt.NDArray[np.generic], int]:
        return draw.integers(-9999, 9999, dims).astype(np.int32), INT32

    matrices = [([floats(k, n)], [t]) for k, n in ((7, 37), (1, 5), (32, 64), (0, 3)) for t in (0, 1)]
    u4 = (draw.integers(0, 256, (37, 3, 8)).astype(np.uint8), UINT8)
    return {
        "gemm.f32": matrices,
        "gemm.f16": matrices,
        "gemm.bf16": matrices,
        "gemm.s8": [([codes(7, 37)], [0]), ([codes(37, 6)], [1])],
        "gemm.u8s8": [([codes(7, 37)], [0]), ([codes(37, 6)], [1])],
        "gemm.u4": [([u4, floats(37, 3), floats(37, 3)], [48, 37, 16])],
        "conv.direct": [([floats(37, 5, 3, 3)], [1]), ([floats(12, 3, 2)], [3])],
        "conv.winograd": [([floats(37, 5, 3, 3)], []), ([floats(3, 1, 3, 3)], [])],
        "conv.depthwise": [([floats(37, 1, 3, 3)], [])],
        "conv.bytes.depthwise": [
            ([codes(c, 1, *taps), starts(c), *([floats(c)] if scaled else [])], [])
            for c, taps, scaled in (
                (37, (3, 3), True),
                (64, (5,), False),
                (200, (5, 5), True),
                (1, (2, 2, 2), True),
            )
        ],
        "conv.bytes": [([codes(37, 5, 3, 3)], [1]), ([codes(12, 3, 2)], [3])],
        "conv.transpose.direct": [([floats(5, 37, 3, 3)], [1, 2, 2])],
    }


def test_every_packed_form_is_tried() -> None:
    assert sorted(sources()) == sorted(_engine.packer_names())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("name", sorted(sources()))
def test_gives_back_what_was_packed(name: str, isa: str) -> None:
    for given, ints in sources()[name]:
        packed = _engine.pack(name, given, ints, isa)
        dims = [(dtype, list(array.shape)) for array, dtype in given]
        unpacked = _engine.unpack(isa, name, dims, ints, np.asarray(packed))
        for (array, _), back in zip(given, unpacked, strict=True):
            np.testing.assert_array_equal(np.asarray(back).view(array.dtype), array)


@pytest.mark.parametrize("name", sorted(sources()))
def test_the_layout_is_that_of_the_kernels(name: str) -> None:
    for given, ints in sources(1)[name]:
        own = np.asarray(_engine.pack(name, given, ints))
        np.testing.assert_array_equal(own, np.asarray(_engine.pack(name, given, ints, _engine.isa())))


def test_refuses_sets_and_forms_that_there_are_not() -> None:
    given, ints = sources()["gemm.f32"][0]
    with pytest.raises(ExecutionError, match="packed for v9, which this graphopt .* does not know"):
        _engine.pack("gemm.f32", given, ints, "v9")
    with pytest.raises(ExecutionError, match=r"packed for ../v3, which"):
        _engine.unpack("../v3", "gemm.f32", [(FLOAT, [7, 37])], ints, np.zeros(8, np.uint8))
    with pytest.raises(ExecutionError, match="there is no packed form gemm.f99 for v3"):
        _engine.pack("gemm.f99", given, ints, "v3")
    with pytest.raises(ExecutionError, match="8 bytes of packed form gemm.f32, wanted"):
        _engine.unpack("v3", "gemm.f32", [(FLOAT, [7, 37])], [0], np.zeros(8, np.uint8))
