"""Channels are rescaled where quantizing loses less by it, and only there."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization.applying import scaled
from graphopt.quantization.calibration import calibrate
from graphopt.quantization.compensation import Compensation, compensate
from graphopt.quantization.equalization import adjusting, equalize, equalizing, side_ranges
from graphopt.quantization.planning import candidates
from graphopt.quantization.rescaling import seams
from graphopt.quantization.smoothing import smoothing
from graphopt.quantization.statistics import Statistics
from graphopt.runtime import InferenceSession

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Each test gets the same ones, whatever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


def model(text: str, **weights: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]>\n{text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    found = ir.from_proto(proto)
    name_nodes(found)
    return found


def test_equalizing_two_channels() -> None:
    made, taken = np.array([8, 0.5]), np.array([0.5, 2])
    s = equalizing(made, taken)
    np.testing.assert_allclose(s, [4, 0.5], rtol=1e-6)
    np.testing.assert_allclose(made / s, [2, 1], rtol=1e-6)
    np.testing.assert_allclose(taken * s, [2, 1], rtol=1e-6)
    np.testing.assert_array_equal(equalizing(np.array([0.0, 3]), np.array([1.0, 0])), [1, 1])


def test_adjusting_to_one_scale() -> None:
    made = np.array([8, 0.5, 0])
    np.testing.assert_allclose(adjusting(made), [1, 0.0625, 1])
    np.testing.assert_array_equal(adjusting(np.zeros(2)), [1, 1])


@pytest.mark.parametrize(
    ("alpha", "expected", "inputs", "weights"),
    [(0.5, [4, 1], [4, 1], [4, 1]), (0.75, [8, 1], [2, 1], [8, 1])],
)
def test_smoothing_two_channels(
    alpha: float, expected: list[float], inputs: list[float], weights: list[float]
) -> None:
    x, w = np.array([[16, 0.5], [-8, 1]]), np.array([[0.25, -1], [0.5, 1]])
    sizes = np.abs(x).max(0), np.abs(w).max(1)
    # The second channel has 1 on both sides, the first 16 and 1.
    s = smoothing(*sizes, alpha)
    np.testing.assert_allclose(s, expected, rtol=1e-6)
    np.testing.assert_allclose(np.abs(x / s).max(0), inputs, rtol=1e-6)
    np.testing.assert_allclose(np.abs(w * s[:, None]).max(1), weights, rtol=1e-6)
    np.testing.assert_allclose((x / s) @ (w * s[:, None]), x @ w)
    np.testing.assert_array_equal(smoothing(np.array([0.0, 2]), np.array([1.0, 0]), alpha), [1, 1])


FFN = "g (float[N,64] x) => (float[N,64] y) { h = MatMul(x, w)  r = Relu(h)  [down] y = MatMul(r, v) }"
CHAIN = """g (float[N,64] x) => (float[N,64] y) {
    h = MatMul(x, w)  r = Relu(h)  k = MatMul(r, v)  s = Relu(k)  y = MatMul(s, u) }"""


def test_neighbours_are_equalized_until_nothing_moves() -> None:
    weights = {n: numbers(64, 64) * np.exp(RNG.uniform(-2, 2, (64, 64))) for n in "wvu"}
    found = seams(model(CHAIN, **{n: a.astype(np.float32) for n, a in weights.items()}))
    chosen = equalize(found, weights, [None, None])
    after = {n: a.copy() for n, a in weights.items()}
    for seam, s in zip(found, chosen, strict=True):
        for part in seam.constants:
            after[part.name] *= part.factors(s).reshape([-1 if i == part.axis else 1 for i in range(2)])
    for seam in found:
        made, taken = (side_ranges(seam, after, made=side) for side in (True, False))
        np.testing.assert_allclose(made, taken, rtol=3e-3)


def compensation(source: ir.Model, samples: list[np.ndarray], **options: bool) -> Compensation:
    found = candidates(source)
    statistics = Statistics(found)
    calibrate(source, [], [{"x": x} for x in samples], statistics=statistics)
    return compensate(source, found, statistics, "minmax", **options)


def outliers() -> tuple[np.ndarray, list[np.ndarray]]:
    """A weight that makes some channels much larger than others, and samples."""
    w = numbers(64, 64) * np.where(np.arange(64) % 16 == 0, 30, 1).astype(np.float32)
    return w, [numbers(50, 64) for _ in range(8)]


@pytest.mark.parametrize("options", [{"with_smoothing": False}, {"with_equalization": False}])
def test_channels_much_larger_than_others(options: dict[str, bool]) -> None:
    w, samples = outliers()
    source = model(FFN, w=w, v=numbers(64, 64))
    found = compensation(source, samples, **options)
    assert [note.operator for note in found.notes] == ["down"] and found.notes[0].kept
    assert found.notes[0].after < found.notes[0].before / 2
    assert set(found.scalings) == {"w", "v"}
    after = scaled(source, QuantTable(ModelIdentity("0" * 64, 21), scalings=found.scalings))
    feeds = {"x": samples[0]}
    first, second = (InferenceSession(m).run(None, feeds)[0] for m in (source, after))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3 * np.abs(first).max())


def test_what_does_not_help_is_undone() -> None:
    # Large weights that meet nothing but zeros: their channels are not large, and get too few codes.
    w, v, samples = numbers(64, 64), numbers(64, 64), outliers()[1]
    w[0, ::8] = 1000
    for x in samples:
        x[:, 0] = 0
    found = compensation(model(FFN, w=w, v=v), samples, with_smoothing=False)
    [note] = found.notes
    assert not note.kept and note.after > 2 * note.before
    assert not found.scalings


def test_one_scale_for_a_whole_weight() -> None:
    w, samples = outliers()
    source = model(CHAIN, w=w, v=numbers(64, 64) * np.exp(2 * numbers(64)), u=numbers(64, 64))
    found = compensation(source, samples, per_tensor=True)
    assert {note.step for note in found.notes} == {"equalize", "smooth", "adjust"}
    kept = [note for note in found.notes if note.kept]
    assert kept and all(note.after < note.before for note in kept)


def test_without_seams_nothing_is_tried() -> None:
    found = compensation(
        model(FFN.replace("Relu", "Tanh"), w=numbers(64, 64), v=numbers(64, 64)), outliers()[1]
    )
    assert found == Compensation({}, ())


NORMED = """g (float[N,64] x) => (float[N,64] y, float[N,64] z) {
    n = LayerNormalization(x, gamma, beta)  [left] y = MatMul(n, w)  [right] z = MatMul(n, v) }"""


@pytest.mark.parametrize("options", [{"with_smoothing": False}, {"with_equalization": False}])
def test_outliers_behind_a_norm(options: dict[str, bool]) -> None:
    gamma = np.where(np.arange(64) % 16 == 0, 30, 1).astype(np.float32)
    w, v = (numbers(64, 64) / gamma[:, None] for _ in range(2))
    source = model(NORMED, gamma=gamma, beta=numbers(64), w=w, v=v)
    found = compensation(source, outliers()[1], **options)
    [note] = found.notes
    assert note.kept and note.after < note.before / 2
    # All that takes the norm's output is scaled, and the norm.
    assert set(found.scalings) == {"gamma", "beta", "w", "v"}


# The axes of a depthwise weight are all its own: [channels, 1, 3, 3].
TRIPLE = """g (float[1,32,9,9] x) => (float[1,32,9,9] y) {
    [expand] a = Conv(x, w)  r = Relu(a)
    [depthwise] b = Conv <group = 64, pads = [1,1,1,1]> (r, u)  s = Relu(b)
    [project] y = Conv(s, v)
}"""


def test_a_depthwise_triple_is_equalized_on_both_sides() -> None:
    before, after = (np.where(np.arange(64) % 16 == i, 30, 1).astype(np.float32) for i in (0, 3))
    w, u = numbers(64, 32, 1, 1) * before.reshape(-1, 1, 1, 1), numbers(64, 1, 3, 3)
    u = u * (after / before).reshape(-1, 1, 1, 1)
    source = model(TRIPLE, w=w, u=u, v=numbers(32, 64, 1, 1) / after.reshape(1, -1, 1, 1))
    images = [numbers(1, 32, 9, 9) for _ in range(8)]
    found = compensation(source, images, with_smoothing=False)
    assert [note.operator for note in found.notes] == ["depthwise", "project"]
    assert all(note.kept and note.after < note.before / 2 for note in found.notes)
    assert set(found.scalings) == {"w", "u", "v"}
    result = scaled(source, QuantTable(ModelIdentity("0" * 64, 21), scalings=found.scalings))
    first, second = (InferenceSession(m).run(None, {"x": images[0]})[0] for m in (source, result))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3 * np.abs(first).max())


def test_the_strength_of_smoothing_is_searched(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = outliers()[1]
    chosen = []
    for size in (100, 300):
        sizes = np.where(np.arange(64) % 16 == 0, size, 1).astype(np.float32)
        source = model(FFN, w=numbers(64, 64) * sizes, v=numbers(64, 64) / np.sqrt(sizes)[:, None])
        [best] = compensation(source, samples, with_equalization=False).notes
        chosen.append(best.strength)
        with monkeypatch.context() as patch:
            patch.setattr("graphopt.quantization.compensation.ALPHAS", (0.3,))
            [fixed] = compensation(source, samples, with_equalization=False).notes
        assert best.kept and fixed.strength == 0.3
        assert best.after < 0.9 * fixed.after
    assert None not in chosen


@pytest.mark.parametrize("per_tensor", [False, True])
@pytest.mark.parametrize("groups", [1, 2])
def test_a_transposed_convolution_whose_codes_are_taken_as_they_are(groups: int, per_tensor: bool) -> None:
    graph = """g (float[1,8,12] x) => (float[1,32,48] y) {
        [first] a = Conv(x, u)  r = Relu(a)
        [up] b = ConvTranspose <strides = [4], group = GROUPS> (r, w, c)  s = LeakyRelu(b)
        [project] y = Conv(s, v)
    }"""
    sizes = np.where(np.arange(16) % 4 == 1, 30, 1).astype(np.float32).reshape(-1, 1, 1)
    weights = {"u": numbers(16, 8, 1) * sizes, "w": numbers(16, 32 // groups, 4) / sizes}
    source = model(graph.replace("GROUPS", str(groups)), **weights, c=numbers(32), v=numbers(32, 32, 1))
    samples = [numbers(1, 8, 12) for _ in range(8)]
    found = compensation(source, samples, with_smoothing=False, per_tensor=per_tensor)
    notes = [note for note in found.notes if note.operator == "up"]
    # Channels that a group does not share are left alone.
    assert bool(notes) == (groups == 1)
    assert all(note.kept == (note.after < note.before) for note in notes)
    assert groups > 1 or any(note.kept and note.after < note.before / 2 for note in notes)
    result = scaled(source, QuantTable(ModelIdentity("0" * 64, 21), scalings=found.scalings))
    first, second = (InferenceSession(m).run(None, {"x": samples[0]})[0] for m in (source, result))
    np.testing.assert_allclose(first, second, rtol=1e-3, atol=1e-3 * np.abs(first).max())
