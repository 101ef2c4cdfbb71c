"""Transposed convolution, plain and by phases, against onnxruntime and sums in float64."""

from __future__ import annotations

from dataclasses import dataclass

import ml_dtypes
import numpy as np
import pytest

from graphopt.kernels import _engine
from tests.kernels.calling import call
from tests.kernels.convolutions import AUTO_PADS, channels_last, channels_last_strides, ort


@dataclass(frozen=True)
class Case:
    x: tuple[int, ...]
    w: tuple[int, ...]
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    output_padding: tuple[int, ...] = ()
    output_shape: tuple[int, ...] = ()
    groups: int = 1
    auto_pad: str = "NOTSET"

    @property
    def rank(self) -> int:
        return len(self.x) - 2

    @property
    def filters(self) -> int:
        return self.w[1] * self.groups

    def ints(self) -> list[int]:
        ones, zeros = (1,) * self.rank, (0,) * self.rank
        return [
            self.filters,
            self.groups,
            AUTO_PADS.index(self.auto_pad),
            *self.w[2:],
            *(self.strides or ones),
            *(self.dilations or ones),
            *(self.pads or zeros * 2),
            *(self.output_padding or zeros),
            *(self.output_shape or zeros),
        ]

    def attributes(self) -> dict[str, object]:
        made: dict[str, object] = {"group": self.groups, "kernel_shape": list(self.w[2:])}
        for name in ("strides", "pads", "dilations", "output_padding", "output_shape"):
            if getattr(self, name):
                made[name] = list(getattr(self, name))
        if self.auto_pad != "NOTSET":
            made["auto_pad"] = self.auto_pad
        return made

    def arrays(self, dtype: np.dtype = np.float32) -> list[np.ndarray]:
        rng = np.random.default_rng(0)
        return [rng.standard_normal(dims).astype(dtype) for dims in (self.x, self.w, (self.filters,))]


CASES = [
    Case((2, 3, 7), (3, 5, 4), (2,)),
    Case((1, 4, 5, 6), (4, 6, 2, 2), (2, 2)),
    Case((1, 4, 5, 6), (4, 33, 4, 4), (2, 2), (1, 1, 1, 1)),
    Case((2, 4, 5, 6), (4, 6, 3, 3), (2, 3), (1, 0, 1, 2), output_padding=(1, 2)),
    Case((1, 4, 5, 6), (4, 6, 3, 3)),
    Case((1, 4, 5, 6), (4, 6, 1, 1), (3, 2)),
    Case((1, 4, 5, 6), (4, 6, 2, 3), (3, 1), (0, 1, 0, 1)),
    Case((1, 6, 5, 6), (6, 4, 3, 3), (2, 2), groups=3),
    Case((1, 6, 5, 6), (6, 1, 3, 3), (2, 2), groups=6),
    Case((1, 4, 5, 6), (4, 6, 3, 3), (2, 2), auto_pad="SAME_UPPER"),
    Case((1, 4, 5, 6), (4, 6, 3, 4), (2, 3), auto_pad="SAME_LOWER"),
    Case((1, 4, 5, 6), (4, 6, 3, 3), (2, 2), output_shape=(10, 12)),
    Case((1, 4, 5, 6), (4, 6, 3, 3), (3, 2), output_shape=(9, 9)),
    Case((1, 4, 3, 4, 5), (4, 6, 2, 3, 3), (1, 2, 2), (0, 1, 1, 1, 1, 0)),
    Case((1, 4, 5, 6), (4, 6, 3, 3), (2, 2), (1, 1, 1, 1), dilations=(2, 2)),
    Case((1, 4, 60, 70), (4, 8, 5, 5), (2, 2), (4, 4, 4, 4)),
    Case((1, 4, 2, 2), (4, 6, 3, 3), (1, 1), (1, 2, 2, 1)),
]
PHASES = [c for c in CASES if not c.dilations]


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize("case", CASES, ids=str)
def test_plain(case: Case, dtype: np.dtype) -> None:
    x, w, b = case.arrays(dtype)
    expected = ort("ConvTranspose", [a.astype(np.float32) for a in (x, w, b)], case.attributes())[0]
    (got,) = call("conv.transpose", [channels_last(x), w, b], [(dtype, None)], case.ints(), threads=2)
    near = {np.float16: 2e-3, ml_dtypes.bfloat16: 1.6e-2}.get(dtype, 2e-5)
    np.testing.assert_allclose(got.astype(np.float32), expected, rtol=near, atol=near)


@pytest.mark.parametrize("case", PHASES, ids=str)
def test_phases_are_exact_but_for_rounding(case: Case) -> None:
    x, w, b = case.arrays()
    wide = [(np.float64, None)]
    (sums,) = call("conv.transpose", [a.astype(np.float64) for a in (x, w, b)], wide, case.ints())
    (sizes,) = call("conv.transpose", [np.abs(a).astype(np.float64) for a in (x, w, b)], wide, case.ints())
    packed = _engine.pack(
        "conv.transpose.direct", [(w, 1)], [case.groups, *(case.strides or (1,) * case.rank)]
    )
    asked = [(np.float32, sums.shape, channels_last_strides(sums.shape))]
    bound = 2.0**-24 * (int(np.prod(case.w[2:])) * case.x[1] + 3) * sizes
    for threads in (1, 2):
        for image, outputs in ((channels_last(x), asked), (x, [(np.float32, None)])):
            (got,) = call(
                "conv.transpose.direct", [image, packed, b, None], outputs, case.ints(), threads=threads
            )
            assert (np.abs(got - sums) <= bound).all()


@pytest.mark.parametrize("kind", [1, 4])
def test_activation(kind: int) -> None:
    case = CASES[2]
    x, w, b = case.arrays()
    (expected,) = call("conv.transpose", [x, w, b], [(np.float32, None)], [*case.ints(), kind, 0])
    packed = _engine.pack("conv.transpose.direct", [(w, 1)], [1, 2, 2])
    (got,) = call(
        "conv.transpose.direct", [x, packed, b, None], [(np.float32, None)], [*case.ints(), kind, 0]
    )
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [(0, 4, 5, 6), (1, 4, 0, 6)])
def test_no_elements(dims: tuple[int, ...]) -> None:
    case = Case(dims, (4, 6, 2, 2), (2, 2))
    x, w, b = case.arrays()
    packed = _engine.pack("conv.transpose.direct", [(w, 1)], [1, 2, 2])
    for kernel, weights in (("conv.transpose", w), ("conv.transpose.direct", packed)):
        (got,) = call(kernel, [x, weights, b, None], [(np.float32, None)], case.ints())
        assert got.shape == (dims[0], 6, dims[2] * 2, 12)
