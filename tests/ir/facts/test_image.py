"""Facts of image and detection operators against runs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.facts.checking import Runtime, check, facts_of, one_node

SIZES = ({"N": 2, "C": 3, "H": 6, "W": 5}, {"N": 1, "C": 1, "H": 4, "W": 7})


def test_non_max_suppression():
    limit = np.array(2, np.int64)
    check("NonMaxSuppression", ["float[N,H,4]", "float[N,C,H]", limit], *SIZES, exact=False)


def test_grids():
    check("GridSample", ["float[N,C,H,W]", "float[N,3,W,2]"], *SIZES, opset=16, dims=("N, C, 3, W",))
    check("GridSample", ["float[N,C,H,W,2]", "float[N,3,W,4,3]"], SIZES[0], opset=20, dims=("N, C, 3, W, 4",))
    size = np.array([2, 3, 5, 6], np.int64)
    check("AffineGrid", ["float[N,2,3]", size], SIZES[0], opset=20, dims=("2, 5, 6, 2",))
    check("AffineGrid", ["float[N,2,3]", Runtime(size)], SIZES[0], opset=20, exact=False)
    size = np.array([2, 3, 4, 5, 6], np.int64)
    check("AffineGrid", ["float[N,3,4]", size], SIZES[0], opset=20, dims=("2, 4, 5, 6, 3",))


def test_center_crop_pad():
    inputs = ["float[N,H,W]", np.array([4, 9], np.int64)]
    check("CenterCropPad", inputs, *SIZES, opset=18, dims=("N, 4, 9",), axes=[1, -1])
    check(
        "CenterCropPad", ["float[N,H,W]", np.array([4, 9, 0], np.int64)], *SIZES, opset=18, dims=("4, 9, 0",)
    )
    check("CenterCropPad", ["float[N,H,W]", Runtime(inputs[1])], *SIZES, opset=18, axes=[1, -1], exact=False)


@pytest.mark.parametrize(("pixels", "channels"), [("RGB", 3), ("BGR", 3), ("Grayscale", 1)])
def test_image_decoder(pixels, channels):
    model = one_node("ImageDecoder", ["uint8[L]"], opset=20, domain="", outputs=1, pixel_format=pixels)
    facts, node = facts_of(model)
    assert facts.describe(node.outputs[0]).endswith(f", {channels}]")
    assert facts.describe(node.outputs[0]).startswith("uint8[")
