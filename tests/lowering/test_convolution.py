"""Convolutions through the whole engine."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

from tests.kernels.convolutions import Case, ort
from tests.lowering.running import backend_cases, kernels_of, node_model, run

CASES = {
    "conv.direct": [
        Case((2, 3, 17, 19), (8, 3, 3, 3), strides=(2, 2), pads=(1, 1, 1, 1)),
        Case((1, 20, 9, 7), (33, 20, 1, 1), bias=False),
        Case((1, 8, 40), (16, 4, 3), groups=2, dilations=(2,), pads=(1, 2)),
        Case((1, 4, 5, 6, 7), (5, 4, 3, 3, 3), auto_pad="SAME_UPPER"),
    ],
    "conv.depthwise": [Case((1, 20, 9, 7), (20, 1, 3, 3), groups=20, pads=(1, 1, 1, 1))],
}
WITH_KERNEL = [(kernel, case) for kernel, cases in CASES.items() for case in cases]


def feeds_of(case: Case, dtype: np.dtype = np.float32) -> dict[str, np.ndarray]:
    return {n: a for n, a in zip(("x", "w", "b"), case.arrays(dtype), strict=True) if a is not None}


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("kernel", "case"), WITH_KERNEL, ids=str)
def test_constant_weights_are_packed(kernel: str, case: Case, threads: int) -> None:
    feeds = feeds_of(case)
    model = node_model("Conv", feeds, constants=["w", "b"][: len(feeds) - 1], **case.attributes())
    assert kernel in kernels_of(model)
    (expected,) = ort("Conv", case.arrays(), case.attributes())
    (got,) = run(model, feeds, threads)
    np.testing.assert_allclose(got, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("kernel", "case"), WITH_KERNEL, ids=str)
def test_weights_may_be_made_at_run_time(kernel: str, case: Case) -> None:
    feeds = feeds_of(case)
    model = node_model("Conv", feeds, **case.attributes())
    assert kernels_of(model) == ["conv"]
    (expected,) = ort("Conv", case.arrays(), case.attributes())
    np.testing.assert_allclose(run(model, feeds)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
@pytest.mark.parametrize(("kernel", "case"), WITH_KERNEL, ids=str)
def test_narrow_floats_are_computed_in_float32(kernel: str, case: Case, dtype: np.dtype) -> None:
    feeds = feeds_of(case, dtype)
    model = node_model("Conv", feeds, constants=["w", "b"][: len(feeds) - 1], **case.attributes())
    assert kernel in kernels_of(model)
    wide = [None if a is None else a.astype(np.float32) for a in case.arrays(dtype)]
    (expected,) = ort("Conv", wide, case.attributes())
    got = run(model, feeds)[0]
    assert got.dtype == dtype
    near = 2.0**-10 if dtype == np.float16 else 2.0**-7
    np.testing.assert_allclose(got.astype(np.float32), expected, rtol=near, atol=1e-4)


@pytest.mark.parametrize("sizes", [(1, 9, 7), (3, 4, 30), (0, 5, 5)])
@pytest.mark.parametrize("constant", [True, False])
def test_one_program_for_all_sizes(sizes: tuple[int, int, int], constant: bool) -> None:
    batch, height, width = sizes
    case = Case((batch, 5, height, width), (7, 5, 3, 3), strides=(2, 1), auto_pad="SAME_LOWER")
    feeds = feeds_of(case)
    dims = {"x": ["N", 5, "H", "W"]}
    model = node_model("Conv", feeds, constants=["w", "b"] * constant, dims=dims, **case.attributes())
    (got,) = run(model, feeds)
    assert got.shape == (batch, 7, (height + 1) // 2, width)
    if batch:
        np.testing.assert_allclose(
            got, ort("Conv", case.arrays(), case.attributes())[0], rtol=1e-4, atol=1e-4
        )


def test_a_rank_that_is_not_known() -> None:
    case = Case((1, 5, 6, 7), (7, 5, 3, 3))
    feeds = feeds_of(case)
    model = node_model("Conv", feeds, constants=["w", "b"], dims={"x": None}, **case.attributes())
    (expected,) = ort("Conv", case.arrays(), case.attributes())
    np.testing.assert_allclose(run(model, feeds)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("activation", "parameters", "function"),
    [
        ("Relu", None, lambda v: np.maximum(v, 0)),
        ("Clip", [-0.5, 1.5], lambda v: np.clip(v, -0.5, 1.5)),
        ("LeakyRelu", [0.25], lambda v: np.where(v < 0, 0.25 * v, v)),
        ("HardSigmoid", [0.2, 0.5], lambda v: np.clip(0.2 * v + 0.5, 0, 1)),
    ],
)
def test_fused(activation: str, parameters: list[float] | None, function) -> None:
    case = Case((1, 20, 9, 7), (33, 20, 3, 3), pads=(1, 1, 1, 1))
    feeds = feeds_of(case)
    (plain,) = ort("Conv", case.arrays(), case.attributes())
    feeds["z"] = np.random.default_rng(3).standard_normal(plain.shape).astype(np.float32)
    attributes = case.attributes() | {"activation": activation}
    if parameters is not None:
        attributes["activation_params"] = parameters
    model = node_model("FusedConv", feeds, domain="com.microsoft", constants=["w", "b"], **attributes)
    expected = function(plain + feeds["z"])
    np.testing.assert_allclose(run(model, feeds)[0], expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("constant", [True, False])
@pytest.mark.parametrize(
    ("x", "w", "attributes"),
    [
        ((2, 3, 7), (3, 5, 4), {"strides": [2]}),
        ((1, 4, 5, 6), (4, 9, 4, 4), {"strides": [2, 2], "pads": [1, 1, 1, 1]}),
        ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 3], "group": 2, "output_padding": [1, 2]}),
        ((1, 4, 5, 6), (4, 3, 3, 3), {"dilations": [2, 1], "auto_pad": "SAME_UPPER"}),
        ((1, 4, 5, 6), (4, 3, 3, 3), {"strides": [2, 2], "output_shape": [10, 12]}),
    ],
)
def test_transposed(x: tuple[int, ...], w: tuple[int, ...], attributes: dict, constant: bool) -> None:
    rng = np.random.default_rng(0)
    bias = w[1] * attributes.get("group", 1)
    feeds = {n: rng.standard_normal(d).astype(np.float32) for n, d in {"x": x, "w": w, "b": (bias,)}.items()}
    model = node_model("ConvTranspose", feeds, constants=["w", "b"] * constant, **attributes)
    direct = constant and "dilations" not in attributes
    assert ("conv.transpose.direct" if direct else "conv.transpose") in kernels_of(model)
    (expected,) = ort("ConvTranspose", list(feeds.values()), attributes)
    np.testing.assert_allclose(run(model, feeds)[0], expected, rtol=1e-4, atol=1e-4)


CASES_OF_OTHERS = backend_cases("test_conv_") | backend_cases("test_convtranspose")


@pytest.mark.parametrize("name", [n for n in CASES_OF_OTHERS if "integer" not in n])
def test_standard_cases(name: str) -> None:
    model, inputs, outputs = CASES_OF_OTHERS[name]
    got = run(model, {i.name: a for i, a in zip(model.graph.input, inputs, strict=True)})
    for a, b in zip(got, outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
