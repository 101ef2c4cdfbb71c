"""Operators that are quantized together, and what they take."""

from __future__ import annotations

import numpy as np

from graphopt.quantization.applying import with_table
from graphopt.quantization.choices import chosen, may_be, stored_bytes
from graphopt.quantization.groups import groups_of, weighted_operators
from tests.quantization.deciding import RNG, classifier, decoder, first, matrix, parsed, rows, sentences


def test_consumers_of_one_value_are_one_group() -> None:
    model = classifier()
    table, _ = first(model, rows(2))
    groups = groups_of(model, table)
    assert [g.operators for g in groups] == [("q", "k"), ("out",)]
    assert groups[0].is_integer
    # 41 rows in two samples, through two weights of 64 x 64.
    assert groups[0].work == 2 * 41 / 2 * 64 * 64


def test_a_shared_weight_makes_one_group_of_two() -> None:
    model = parsed(
        "g (float[N,64] x) => (float[N,64] y) { [a] b = MatMul(x, w)  r = Relu(b)  [c] d = MatMul(r, w)  [e] y = MatMul(d, v) }",
        w=matrix(64, 64, seed=1),
        v=matrix(64, 64, seed=2),
    )
    table, _ = first(model, rows(2))
    groups = groups_of(model, table)
    assert [g.operators for g in groups] == [("a", "c"), ("e",)]
    assert stored_bytes(groups[0], "int8") == stored_bytes(groups[1], "int8") == 64 * 64 + 4 * 64


def test_iterations_count() -> None:
    model = decoder()
    table, _ = first(model, sentences(3))
    groups = {g.name: g for g in groups_of(model, table)}
    assert list(groups) == [
        "encode",
        "loop:body/up",
        "loop:body/down",
        "loop:body/classify",
        "loop:body/look",
    ]
    assert groups["loop:body/up"].work == 12 * 64 * 128
    assert groups["loop:body/up"].members[0].rows == 1
    look = groups["loop:body/look"]
    assert not may_be(look, "int8") and not may_be(look, "int4") and may_be(look, "weight_only")


def test_bytes() -> None:
    model = classifier()
    table, _ = first(model, rows(1))
    out = groups_of(model, table)[1]
    found = {
        choice: stored_bytes(out, choice) for choice in ("int8", "weight_only", "int4", "float16", "float")
    }
    assert found == {
        "int8": 2048 + 4 * 32,
        "weight_only": 2048 + 4 * 32,
        "int4": 1024 + 4 * 64,
        "float16": 4096,
        "float": 8192,
    }


def test_a_table_says_what_was_chosen() -> None:
    model = classifier()
    table, _ = first(model, rows(2))
    groups = groups_of(model, table)
    weights = {m.weight: weighted_operators(model)[m.name].tensor.numpy() for g in groups for m in g.members}
    made = chosen(table, groups, {"q": "int4", "out": "float16"}, weights, {}, reasons={"q": "small"})
    assert {n: (o.mode, o.bits) for n, o in made.operators.items()} == {
        "q": ("weight_only", 4),
        "k": ("weight_only", 4),
        "out": ("float16", 16),
    }
    assert made.operators["k"].reason == "small"
    assert set(made.tensors) == {"w1", "w2"} and made.tensors["w1"].grid.block_size == 32
    quantized = with_table(model, made)
    kinds = [node.op_type for node in quantized.graph]
    assert "QuantizeLinear" not in kinds and kinds.count("DequantizeLinear") == 2
    seven = chosen(table, groups, {"q": "int7", "out": "int8"}, weights, {})
    grid = seven.tensors["w1"].grid
    assert np.abs(np.rint(weights["w1"] / grid.scale)).max() == 63
    assert seven.operators["q"].bits == 7 and seven.tensors["w3"] is table.tensors["w3"]


def test_what_passes_codes_on_follows() -> None:
    model = parsed(
        """g (float[1,16,9,9] x) => (float[1,16,9,9] z) {
            [one] a = Conv <pads = [1,1,1,1]> (x, w)  r = Relu(a)
            [pool] p = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (r)
            [two] b = Conv <pads = [1,1,1,1]> (p, v)
            [add] z = Add(b, p)
        }""",
        w=matrix(16, 16, 3, 3, seed=1),
        v=matrix(16, 16, 3, 3, seed=2),
    )
    samples = [{"x": RNG.standard_normal((1, 16, 9, 9)).astype(np.float32)} for _ in range(2)]
    table, _ = first(model, samples)
    assert set(table.operators) == {"one", "two", "pool", "add"}
    groups = groups_of(model, table)
    weights = {m.weight: weighted_operators(model)[m.name].tensor.numpy() for g in groups for m in g.members}
    without = chosen(table, groups, {"one": "weight_only"}, weights, {})
    # The sum is no longer one of two quantized outputs, the second convolution's input still is quantized.
    assert set(without.operators) == {"one", "two"} and "p" in without.tensors and "r" not in without.tensors
    with_table(model, without)
