"""Signal to noise of quantized models with random inputs, beside onnxruntime's calibrators."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks import quantize_models as models
from benchmarks import runtime_engines as engines
from benchmarks.quantize_models import Made, signal_to_noise
from benchmarks.recipes import Recipe

Feeds = dict[str, NDArray[Any]]
# The first model of a folder whose name begins so.
NAMES = ("bert", "vit", "mobilenet", "resnet50")
MAKERS = ("graphopt all", "static minmax", "static percentile", "static entropy", "static distribution")
SAMPLES, JUDGED = 16, 32
SECONDS = 1.0
UNKNOWN_DIM = 8


def rows(folder: Path, scratch: Path, words: Sequence[str], only: Sequence[str] = ()) -> None:
    """Quantize models in every way, or in those whose names begin so, and print a line for each.

    Signal to noise is that of all samples together, then the mean of each one's: of some models one sample
    has most of the noise. Ratios are of the float model's time to the quantized one's in the same engine, in
    turns: the median of rounds, then that of the fastest rounds.
    """
    heads = f"{'ort ratio':>12} {'ours ratio':>12}"
    print(f"\n{'model':28} {'maker':22} {'bytes':>11} {'dB':>7} {'mean dB':>7} {heads} {'s':>6}")
    makers = [name for name in MAKERS if not only or any(name.startswith(word) for word in only)]
    for path in chosen(folder, words):
        place = scratch / path.stem
        data = place / "samples"
        data.mkdir(parents=True, exist_ok=True)
        # Calibrators that stack what they see want one size.
        for i in range(SAMPLES):
            np.savez(data / f"{i:03}.npz", **feeds_of(path, i))  # type: ignore[arg-type]
        folded = models.fold(path, place)
        made = [Made("float", folded)]
        made += [models.make(name, path, folded, data, place) for name in makers]
        judged = [feeds_of(path, SAMPLES + i) for i in range(JUDGED)]
        right = engines.onnxruntime(path)
        answers = [right(feeds) for feeds in judged]
        runs = models.runs_of(made, judged[0])
        models.time_all(made, runs, judged[:1], SECONDS)
        for one in made:
            run = runs["onnxruntime"].get(one.name)
            noise = f"{'-':>7} {'-':>7}"
            if run is not None:
                pairs = [(a, run(feeds)) for a, feeds in zip(answers, judged, strict=True)]
                each = [signal_to_noise([pair]) for pair in pairs]
                noise = f"{signal_to_noise(pairs):7.2f} {np.mean(each):7.2f}"
            print(_line(path.stem, one, noise), flush=True)


def feeds_of(path: Path, seed: int) -> Feeds:
    """Inputs by the model's recipe at its first size; without one, random ones from its signature."""
    recipe = path.with_suffix(".json")
    if recipe.exists():
        found = Recipe.read(recipe)
        return found.feeds(found.sizes[0], seed)
    graph = onnx.load(path, load_external_data=False).graph
    constant = {tensor.name for tensor in graph.initializer}
    random = np.random.default_rng(seed)
    return {value.name: _random(value, random) for value in graph.input if value.name not in constant}


def _random(value: onnx.ValueInfoProto, random: np.random.Generator) -> NDArray[Any]:
    kind = value.type.tensor_type
    shape = [d.dim_value if d.HasField("dim_value") else UNKNOWN_DIM for d in kind.shape.dim]
    dtype = onnx.helper.tensor_dtype_to_np_dtype(kind.elem_type)
    if dtype.kind == "f":
        return random.standard_normal(shape).astype(dtype)
    return random.integers(0, 2, shape).astype(dtype)


def chosen(folder: Path, words: Sequence[str]) -> list[Path]:
    """Models of a folder with one of these words in their names; without words one of each kind."""
    paths = sorted(folder.glob("*.onnx"))
    if words:
        return [path for path in paths if any(word in path.stem for word in words)]
    firsts = (next((path for path in paths if path.stem.startswith(name)), None) for name in NAMES)
    return [path for path in firsts if path is not None]


def _line(model: str, one: Made, noise: str) -> str:
    if one.why:
        return f"{model:28} {one.name:22} {one.why[:120]}"
    ratios = [
        f"{one.ratios[engine]:.2f}x {one.ratios_of_minima[engine]:.2f}x" if engine in one.ratios else "-"
        for engine in ("onnxruntime", "graphopt")
    ]
    return (
        f"{model:28} {one.name:22} {one.bytes:11,} {noise} {ratios[0]:>12} {ratios[1]:>12} {one.seconds:6.0f}"
    )
