"""The benchmark models are valid, run, depend on their inputs and are the same file every time."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray

from benchmarks.models import big, chain, encoder, loop_caches, recogniser
from benchmarks.recipes import Recipe

ROOT = Path(__file__).parents[2]
SMALL_RECOGNISER = recogniser.Config(width=16, hidden=24, encoder_layers=1, decoder_layers=1)

MODELS = {
    "recogniser": lambda: recogniser.build(SMALL_RECOGNISER),
    "chain": lambda: chain.build(3),
    "encoder-relu": lambda: encoder.build(2, 16, 2, 32),
    "encoder-gelu": lambda: encoder.build(2, 16, 2, 32, "gelu"),
    "loop-caches": lambda: loop_caches.build(8),
}


def session(model: onnx.ModelProto | Path) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3  # shapes declared for the first step of a loop are wrong on purpose
    return ort.InferenceSession(str(model) if isinstance(model, Path) else model.SerializeToString(), options)


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from nodes(attribute.g)


def normal(*shape: int, seed: int = 0) -> NDArray[np.float32]:
    return np.random.default_rng(seed).standard_normal(shape, np.float32)


@pytest.mark.parametrize("name", MODELS)
def test_valid_and_deterministic(name: str) -> None:
    model = MODELS[name]()
    onnx.checker.check_model(model, full_check=True)
    assert model.SerializeToString(deterministic=True) == MODELS[name]().SerializeToString(deterministic=True)


@pytest.mark.parametrize("name", MODELS)
def test_names_are_unique_over_all_scopes(name: str) -> None:
    made = Counter(output for node in nodes(MODELS[name]().graph) for output in node.output)
    assert set(made.values()) == {1}


@pytest.mark.parametrize("frames", [1, 2, 7, 30])
def test_recogniser_decodes_every_length(frames: int) -> None:
    tokens, logits = session(recogniser.build(SMALL_RECOGNISER)).run(None, {"feats": normal(1, frames, 80)})
    assert 1 <= len(tokens) <= SMALL_RECOGNISER.steps
    assert logits.shape == (len(tokens), SMALL_RECOGNISER.vocabulary)
    assert np.isfinite(logits).all()
    assert (tokens == logits.argmax(axis=1)).all()


def test_recogniser_stops_at_its_end_token_or_at_the_limit() -> None:
    run = session(recogniser.build())
    endings = {len(t) for t in (run.run(None, {"feats": normal(1, 20, 80, seed=s)})[0] for s in range(30))}
    assert recogniser.Config().steps in endings
    assert len(endings) > 1


def test_recogniser_has_what_makes_it_hard() -> None:
    model = recogniser.build()
    kinds = Counter(node.op_type for node in nodes(model.graph))
    assert kinds["Loop"] == 1 and kinds["If"] == 2 and kinds["Conv"] == 2 and kinds["Constant"] > 200
    (loop,) = (node for node in model.graph.node if node.op_type == "Loop")
    caches = [i for i in loop.attribute[0].g.input if i.name[0] in "kv"]
    assert [[d.dim_value for d in c.type.tensor_type.shape.dim] for c in caches] == [[1, 0, 64]] * 4


def test_chain_has_22_operators_a_block() -> None:
    model = chain.build(5)
    assert len(model.graph.node) == 5 * chain.OPERATORS_PER_BLOCK
    run = session(model)
    for batch in (1, 4):
        (y,) = run.run(None, {"x": normal(batch, 32)})
        assert y.shape == (batch, 32) and y.std() > 0


@pytest.mark.parametrize("activation", ["relu", "gelu"])
def test_encoder_runs_at_every_length(activation: encoder.Activation) -> None:
    run = session(encoder.build(2, 16, 2, 32, activation))
    for length in (1, 9):
        (y,) = run.run(None, {"x": normal(1, length, 16)})
        assert y.shape == (1, length, 16) and np.isfinite(y).all()


def test_big_keeps_its_weights_in_another_file(tmp_path: Path) -> None:
    path = tmp_path / "big.onnx"
    assert big.build(2, path, width=256) == 8
    assert (tmp_path / "big.onnx.data").stat().st_size == 2 << 20
    assert path.stat().st_size < 50_000
    onnx.checker.check_model(str(path), full_check=True)
    (y,) = session(path).run(None, {"x": normal(2, 256)})
    assert y.shape == (2, 256) and y.std() > 0


def test_loop_grows_twelve_caches() -> None:
    run = session(loop_caches.build(8))
    for steps in (0, 1, 5):
        y, *caches = run.run(None, {"steps": np.array(steps), "x": normal(1, 1, 8)})
        assert y.shape == (1, 1, 8)
        assert [c.shape for c in caches] == [(1, steps, 8)] * 12


def test_all_models_are_built_with_recipes_that_feed_them(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "benchmarks.models", tmp_path], cwd=ROOT, check=True)
    found = sorted(path.stem for path in tmp_path.glob("*.onnx"))
    assert found == ["chain", "encoder_gelu", "encoder_relu", "loop_caches", "recogniser"]
    for name in found:
        recipe = Recipe.read(tmp_path / f"{name}.json")
        assert session(tmp_path / f"{name}.onnx").run(None, recipe.feeds(recipe.sizes[0]))
