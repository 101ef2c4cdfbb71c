"""Quantizing shifts outputs on average; correction takes that off where it shows on other samples, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.ir.quantizing import channel_grid
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization.applying import with_table
from graphopt.quantization.bias_correction import (
    correct_biases,
    correct_by_weights,
    relu_mean,
    weight_shift,
)
from graphopt.quantization.compensating import Compensated, corrected
from graphopt.quantization.first_table import FirstTable, first_table
from graphopt.quantization.judging import Judge
from graphopt.quantization.loss import measure

IDENTITY = ModelIdentity("0" * 64, 21)


def test_worked_case() -> None:
    weight = np.array([[0.52, -0.31], [0.11, 0.97]]).T
    near = np.array([[0.5, -0.25], [0, 1]]).T
    np.testing.assert_allclose(weight_shift(near - weight, np.array([2.0, -1])), [-0.10, -0.25], rtol=1e-6)


def test_mean_behind_a_relu() -> None:
    np.testing.assert_allclose(relu_mean(0.5, 1.0), 0.697797, rtol=1e-6)
    np.testing.assert_allclose(relu_mean(np.array([2.0, -2.0]), 0.0), [2, 0])
    x = np.random.default_rng(0).normal(-0.3, 0.7, 1_000_000)
    np.testing.assert_allclose(relu_mean(-0.3, 0.7), np.maximum(x, 0).mean(), rtol=5e-3)


BIASED = """g (float[N,64] x) => (float[N,64] y) {
    [one] h = MatMul(x, w)  a = Add(h, b)  r = Relu(a)  [two] y = Gemm(r, v, b) }"""
BARE = "g (float[N,64] x) => (float[N,64] y) { h = MatMul(x, w)  r = Relu(h)  [two] y = MatMul(r, v) }"


def shifted(text: str = BIASED) -> tuple[ir.Model, FirstTable, list[dict[str, np.ndarray]]]:
    """Two layers with inputs far from zero and coarse weights."""
    rng = np.random.default_rng(0)
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]>\n{text}')
    for name in "wv":
        array = rng.standard_normal((64, 64)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    if text is BIASED:
        proto.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(64, np.float32), "b"))
    source = ir.from_proto(proto)
    name_nodes(source)
    samples = [{"x": (3 + rng.standard_normal((20, 64))).astype(np.float32)} for _ in range(12)]
    found = first_table(source, samples, IDENTITY, "minmax")
    table = found.table
    # As if weights had 4 bits: what is shifted is seen.
    tensors = dict(table.tensors)
    for name in "wv":
        grid = channel_grid(source.graph.initializers[name].const_value.numpy(), 1)
        tensors[name] = replace(tensors[name], grid=replace(grid, scale=grid.scale * np.float32(16)))
    return source, replace(found, table=replace(table, tensors=tensors)), samples


def decibels(source: ir.Model, table: QuantTable, samples: list[dict[str, np.ndarray]]) -> float:
    found = measure(source, with_table(source, table), samples, 8).sqnr
    assert found is not None
    return found


@pytest.mark.parametrize("way", ["seen", "of weights"])
def test_corrections_make_outputs_nearer(way: str) -> None:
    source, first, samples = shifted()
    if way == "seen":
        found = correct_biases(source, first.table, samples)
    else:
        found = correct_by_weights(source, first.table, first.statistics)
    assert [note.kept for note in found.notes] == [True, True]
    assert all(note.after < note.before / 2 for note in found.notes)
    assert decibels(source, found.table, samples) > decibels(source, first.table, samples) + 3
    assert len(with_table(source, found.table).graph) == len(with_table(source, first.table).graph)


def test_corrections_come_on_top_of_others() -> None:
    source, first, samples = shifted()
    wrong = {"one": np.full(64, 5.0, np.float32)}
    right = correct_biases(source, first.table, samples).table
    found = correct_biases(source, replace(first.table, corrections=wrong), samples).table
    np.testing.assert_allclose(found.corrections["one"], right.corrections["one"], atol=1e-4)


def test_operators_that_add_nothing_are_left_alone() -> None:
    source, first, samples = shifted(BARE)
    assert correct_biases(source, first.table, samples).notes == ()
    assert correct_by_weights(source, first.table, first.statistics).notes == ()


def test_what_shows_on_some_samples_alone_is_not_corrected() -> None:
    source, first, samples = shifted()
    # Held-out samples are of another kind: what the others are shifted by is the other way here.
    for i in range(3, len(samples), 4):
        samples[i] = {"x": -samples[i]["x"]}
    found = correct_biases(source, first.table, samples)
    assert not found.notes[0].kept and found.notes[0].after > found.notes[0].before
    assert found.notes[0].operator not in found.table.corrections


def test_few_samples_correct_nothing() -> None:
    source, first, samples = shifted()
    assert correct_biases(source, first.table, samples[:3]).table.corrections == {}


def test_the_stage_keeps_what_the_whole_model_is_better_by() -> None:
    source, first, samples = shifted()
    judge = Judge(source, samples[:4])
    found = corrected(Compensated(source, first), first.table, samples[4:], judge)
    assert found.sqnr is not None and found.sqnr[1] > found.sqnr[0] + 3
    assert set(found.table.corrections) == {note.operator for note in found.notes if note.kept}
    assert decibels(source, found.table, samples) > decibels(source, first.table, samples) + 3


def test_the_stage_undoes_what_the_whole_model_is_worse_by() -> None:
    source, first, samples = shifted()
    # The judge has samples of another kind: each layer's own mean says to correct, outputs say not to.
    judge = Judge(source, [{"x": -feeds["x"]} for feeds in samples[:4]])
    seen = correct_biases(source, first.table, samples)
    assert all(note.kept for note in seen.notes)
    found = corrected(Compensated(source, first), first.table, samples, judge)
    assert found.table.corrections == {}
    assert not any(note.kept for note in found.notes)
    assert found.sqnr is not None and found.sqnr[0] == found.sqnr[1]
