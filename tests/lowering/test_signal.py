"""The short-time Fourier transform as a product over overlapping frames."""

from __future__ import annotations

import numpy as np
import pytest

from tests.lowering.comparing import Feeds, assert_same, parsed
from tests.lowering.running import kernels_of, node_model, run

RNG = np.random.default_rng(0)


def feeds_of(shape: tuple[int, ...], length: int, step: int, has_window: bool) -> dict[str, np.ndarray]:
    feeds = {"x": RNG.standard_normal(shape).astype(np.float32), "step": np.array(step)}
    if has_window:
        feeds["w"] = RNG.random(length).astype(np.float32)
    return {**feeds, "length": np.array(length)}


def spectrum(x: np.ndarray, window: np.ndarray, step: int, onesided: bool) -> np.ndarray:
    """In float64, of a signal (batch, samples)."""
    frames = np.lib.stride_tricks.sliding_window_view(x.astype(np.float64), len(window), axis=1)[:, ::step]
    found = (np.fft.rfft if onesided else np.fft.fft)(frames * window)
    return np.stack([found.real, found.imag], axis=-1)


@pytest.mark.parametrize("has_window", [True, False])
@pytest.mark.parametrize("onesided", [True, False])
@pytest.mark.parametrize(
    ("shape", "length", "step"),
    [
        ((2, 50), 7, 3),
        ((3, 50, 1), 8, 8),
        ((1, 400), 64, 100),
        ((2, 9, 1), 9, 1),
        ((1, 5), 1, 2),
        ((0, 20), 5, 2),
    ],
)
def test_frames(shape: tuple[int, ...], length: int, step: int, onesided: bool, has_window: bool) -> None:
    feeds = feeds_of(shape, length, step, has_window)
    inputs = ["x", "step", "w" if has_window else "", "length"]
    constants = [name for name in feeds if name != "x"]
    for dims in (list(shape), ["b", "n", *shape[2:]]):
        model = node_model(
            "STFT",
            feeds,
            opset=17,
            inputs=inputs,
            constants=constants,
            dims={"x": dims},
            onesided=int(onesided),
        )
        assert kernels_of(model) == ["gemm"]
        (got,) = run(model, feeds)
        window = feeds.get("w", np.ones(length, np.float32)).astype(np.float64)
        wanted = spectrum(feeds["x"].reshape(shape[:2]), window, step, onesided)
        assert got.shape == wanted.shape and got.dtype == np.float32
        np.testing.assert_allclose(got, wanted, rtol=0, atol=1e-6 * max(1, np.abs(wanted).max(initial=0)))


def test_bins_that_are_real() -> None:
    """The first and the middle one of a real signal have no imaginary part, not even a small one."""
    feeds = feeds_of((2, 60), 20, 5, has_window=True)
    model = node_model("STFT", feeds, opset=17, inputs=list(feeds), constants=["step", "w", "length"])
    imaginary = run(model, feeds)[0][..., 1]
    np.testing.assert_array_equal(imaginary[..., [0, 10]], 0)
    assert (imaginary[..., 1:10] != 0).all()


def test_as_onnxruntime_on_a_view() -> None:
    graph = """g (float[N,B] x) => (float[B,p,k] y) {
        step = Constant<value_int = 3>() w = Constant<value_floats = [0.5, 1.0, 2.0, 1.0, 0.25]>()
        t = Transpose<perm = [1, 0]>(x) s = STFT(t, step, w) y = ReduceL2<axes = [3], keepdims = 0>(s) }"""
    model = parsed(graph, opset=17)
    given: list[Feeds] = [{"x": RNG.standard_normal((n, 2)).astype(np.float32)} for n in (20, 5, 33)]
    assert kernels_of(model)[0] == "gemm"
    assert_same(model, *given, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("shape", "constants"),
    [((1, 2000), ["step"]), ((1, 40, 2), ["step", "length"]), ((1, 40), ["length"])],
    ids=["frames of any length", "a complex signal", "any step"],
)
def test_what_the_reference_runs(shape: tuple[int, ...], constants: list[str]) -> None:
    feeds = feeds_of(shape, 16, 4, has_window=False)
    inputs = ["x", "step", "", "length"]
    model = node_model("STFT", feeds, opset=17, inputs=inputs, constants=constants, onesided=0)
    assert kernels_of(model) == ["reference"]
    assert_same(model, {n: a for n, a in feeds.items() if n not in constants}, rtol=1e-4, atol=1e-4)
