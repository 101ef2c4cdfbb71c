"""Models, tables and benches that tests of sensitivity and decision share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.ir.quant_table import CalibrationNote, ModelIdentity, QuantTable
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization import planning
from graphopt.quantization.calibration import calibrate
from graphopt.quantization.statistics import Statistics
from graphopt.quantization.trials import Bench, prepare_bench

Feeds = Mapping[str, np.ndarray]
RNG = np.random.default_rng(0)


def matrix(*dims: int, seed: int = 0) -> np.ndarray:
    scale = np.sqrt(dims[0])
    return (np.random.default_rng(seed).standard_normal(dims) / scale).astype(np.float32)


def parsed(text: str, **weights: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]>\n{text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    found = ir.from_proto(proto)
    name_nodes(found)
    return found


# Scores of 40 words; the next input is the row of the word that was chosen. It ends after 12 words.
DECODER = """g (float[1,64] x, int64 most) => (int64[N] words, float[N,40] scores) {
    go = Constant <value = bool {1}> ()
    none = Constant <value = int64[0] {}> ()
    two = Constant <value = int64[2] {0, 40}> ()
    empty = ConstantOfShape <value = float[1] {0}> (two)
    [encode] state = MatMul(x, w0)
    [loop] last, words, scores = Loop (most, go, state, none, empty) <body = b (int64 i, bool c, float[1,64] h, int64[K] said, float[K,40] heard) => (bool again, float[1,64] next, int64[K2] more, float[K2,40] all) {
        [up] a = MatMul(h, w1)  r = Relu(a)  [down] d = MatMul(r, w2)  n = Tanh(d)
        [classify] logits = MatMul(n, w3)
        [choose] word = ArgMax <axis = 1, keepdims = 0> (logits)
        [look] row = Gather(table, word)
        sum = Add(n, row)
        next = Tanh(sum)
        more = Concat <axis = 0> (said, word)
        all = Concat <axis = 0> (heard, logits)
        again = Identity(c)
    }>
}"""


def decoder() -> ir.Model:
    return parsed(
        DECODER,
        w0=matrix(64, 64, seed=1),
        w1=matrix(64, 128, seed=2),
        w2=matrix(128, 64, seed=3),
        w3=matrix(64, 40, seed=4) * 2,
        table=matrix(40, 64, seed=5) * 4,
    )


def sentences(count: int, words: int = 12) -> list[dict[str, np.ndarray]]:
    return [
        {"x": RNG.standard_normal((1, 64)).astype(np.float32) * 2, "most": np.asarray(words)}
        for _ in range(count)
    ]


CLASSIFIER = """g (float[N,64] x) => (float[N,32] y) {
    [q] a = MatMul(x, w1)  [k] b = MatMul(x, w2)  c = Mul(a, b)  r = Relu(c)
    [out] y = MatMul(r, w3)
}"""


def classifier() -> ir.Model:
    return parsed(
        CLASSIFIER, w1=matrix(64, 64, seed=1), w2=matrix(64, 64, seed=2), w3=matrix(64, 32, seed=3) * 4
    )


def rows(count: int) -> list[dict[str, np.ndarray]]:
    return [{"x": RNG.standard_normal((20 + i, 64)).astype(np.float32)} for i in range(count)]


def first(model: ir.Model, samples: Sequence[Feeds]) -> tuple[QuantTable, Statistics]:
    found = planning.candidates(model)
    others = planning.between(model, found)
    statistics = Statistics(found)
    seen = calibrate(model, planning.values_to_observe(found, others), samples, None, statistics)
    tensors, operators = planning.plan(found, seen, "mse", others)
    note = CalibrationNote(seen.samples, "mse")
    return QuantTable(ModelIdentity("0" * 64, 21), tensors, operators, note), statistics


def bench(model: ir.Model, samples: Sequence[Feeds]) -> tuple[Bench, Statistics]:
    table, statistics = first(model, samples)
    return prepare_bench(model, table, samples, len(samples)), statistics
