"""Which convolutions of 3 x 3 run in tiles, and their answers."""

from __future__ import annotations

import numpy as np
import pytest

from tests.kernels.convolutions import Case, ort
from tests.lowering.running import kernels_of, node_model, run

PADS = (1, 1, 1, 1)
TILES = [
    Case((1, 32, 9, 8), (24, 32, 3, 3), pads=PADS),
    Case((2, 40, 5, 6), (33, 40, 3, 3)),
    Case((1, 24, 7, 7), (24, 24, 3, 3), auto_pad="SAME_LOWER", bias=False),
]
DIRECT = [
    Case((1, 16, 9, 8), (24, 16, 3, 3), pads=PADS),  # few channels
    Case((1, 32, 9, 8), (16, 32, 3, 3), pads=PADS),  # few filters
    Case((1, 32, 2, 2), (32, 32, 3, 3), pads=PADS),  # one tile
    Case((1, 32, 9, 8), (32, 32, 3, 3), pads=PADS, strides=(2, 2)),
    Case((1, 32, 9, 8), (32, 32, 3, 3), dilations=(2, 2)),
    Case((1, 64, 9, 8), (64, 32, 3, 3), pads=PADS, groups=2),
    Case((1, 32, 9, 8), (32, 32, 1, 3)),
    Case((1, 32, 9), (32, 32, 3)),
]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(
    ("kernel", "case"),
    [("conv.winograd", case) for case in TILES] + [("conv.direct", case) for case in DIRECT],
    ids=str,
)
def test_the_kernel_and_its_answers(kernel: str, case: Case, threads: int) -> None:
    feeds = {n: a for n, a in zip(("x", "w", "b"), case.arrays(), strict=True) if a is not None}
    model = node_model("Conv", feeds, constants=["w", "b"][: len(feeds) - 1], **case.attributes())
    assert [k for k in kernels_of(model) if k.startswith("conv")] == [kernel]
    (expected,) = ort("Conv", case.arrays(), case.attributes())
    np.testing.assert_allclose(run(model, feeds, threads)[0], expected, rtol=1e-4, atol=1e-4)


def test_images_of_any_size() -> None:
    case = TILES[0]
    x, w, b = case.arrays()
    feeds = {"x": x, "w": w, "b": b}
    dims = {"x": ["N", 32, "H", "W"]}
    model = node_model("Conv", feeds, constants=["w", "b"], dims=dims, **case.attributes())
    assert "conv.winograd" in kernels_of(model)
    for size in ((1, 32, 9, 8), (3, 32, 1, 1), (2, 32, 40, 3), (0, 32, 4, 4)):
        given = np.random.default_rng(1).standard_normal(size).astype(np.float32)
        (got,) = run(model, {"x": given})
        assert got.shape == (size[0], 24, *size[2:])
        if got.size:
            (expected,) = ort("Conv", [given, w, b], case.attributes())
            np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)
