"""Quantizing shifts outputs on average; correction takes that off where it shows on other samples, too."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.ir.quantizing import channel_grid
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization.applying import with_table
from graphopt.quantization.bias_correction import correct_biases, relu_mean, weight_shift
from graphopt.quantization.first_table import first_table
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


def shifted() -> tuple[ir.Model, QuantTable, list[dict[str, np.ndarray]]]:
    """Two layers with inputs far from zero and coarse weights."""
    rng = np.random.default_rng(0)
    text = "g (float[N,64] x) => (float[N,64] y) { h = MatMul(x, w)  r = Relu(h)  [two] y = MatMul(r, v) }"
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]>\n{text}')
    for name in "wv":
        array = rng.standard_normal((64, 64)).astype(np.float32)
        proto.graph.initializer.append(onnx.numpy_helper.from_array(array, name))
    source = ir.from_proto(proto)
    name_nodes(source)
    samples = [{"x": (3 + rng.standard_normal((20, 64))).astype(np.float32)} for _ in range(12)]
    table = first_table(source, samples, IDENTITY, "minmax").table
    # As if weights had 4 bits: what is shifted is seen.
    tensors = dict(table.tensors)
    for name in "wv":
        grid = channel_grid(source.graph.initializers[name].const_value.numpy(), 1)
        tensors[name] = replace(tensors[name], grid=replace(grid, scale=grid.scale * np.float32(16)))
    return source, replace(table, tensors=tensors), samples


def test_corrections_make_outputs_nearer() -> None:
    source, table, samples = shifted()
    found = correct_biases(source, table, samples)
    assert [note.kept for note in found.notes] == [True, True]
    assert all(note.after < note.before / 2 for note in found.notes)
    first, second = (
        measure(source, with_table(source, given), samples, 8).sqnr for given in (table, found.table)
    )
    assert first is not None and second is not None and second > first + 3


def test_what_shows_on_some_samples_alone_is_not_corrected() -> None:
    source, table, samples = shifted()
    # Held-out samples are of another kind: what the others are shifted by is the other way here.
    for i in range(3, len(samples), 4):
        samples[i] = {"x": -samples[i]["x"]}
    found = correct_biases(source, table, samples)
    assert not found.notes[0].kept and found.notes[0].after > found.notes[0].before
    assert found.notes[0].operator not in found.table.corrections


def test_few_samples_correct_nothing() -> None:
    source, table, samples = shifted()
    assert correct_biases(source, table, samples[:3]).table.corrections == {}
