"""The rows of `benchmarks.runtime`: a model, what it is fed with, beside whom it runs."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.children import run_python
from benchmarks.models import growing_caches, pre_norm, recogniser, tiny_nodes
from benchmarks.models.builder import save, uniform
from benchmarks.recipes import Recipe

Feeds = dict[str, NDArray[Any]]

LENGTHS = (10, 30, 100)
QUANTIZED_RECOGNISER = "recogniser.int8.onnx"
STEPS = 400
TINY = 1000
# Largest error of a precision, relative to the largest value of an output.
ERRORS = {"f32": 1e-5, "bf16": 1e-2, "int8": 4e-2, "static int8": 2e-1}


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison.

    Attributes:
        name: What ARGS choose it by.
        path: The model.
        feeds: All of them are run, one after the other; their time is added up.
        peers: Names in `benchmarks.runtime_engines.PEERS`.
        reach: The ratio that is aimed at, to the first peer.
        reach_ms: The time that is aimed at.
        per: The time is given for one of so many.
        tolerance: Of the largest error.
        original: What the model was made of: peers run it, and errors are to it.
        prepare: Makes the model, if the row is wanted.
    """

    name: str
    path: Path
    feeds: tuple[Feeds, ...]
    reach: float | None = None
    reach_ms: float | None = None
    peers: tuple[str, ...] = ("onnxruntime",)
    precision: str = "f32"
    optimize: bool = True
    per: int = 1
    tolerance: float = field(default=1e-4)
    original: Path | None = None
    prepare: Callable[[], object] | None = None

    @property
    def compared(self) -> Path:
        """What peers run."""
        return self.original or self.path


def rows(folder: Path) -> list[Callable[[], list[Row]]]:
    """Every group of rows; models are built in `folder` when a group is asked for."""
    return [
        lambda: _encoders(folder),
        lambda: _recogniser(folder),
        lambda: _quantized_recogniser(folder),
        _zoo,
        lambda: _tiny(folder),
        lambda: _loop(folder),
    ]


def encoder(folder: Path, width: int) -> Path:
    """The encoder of six layers."""
    path = folder / f"pre_norm_6x{width}.onnx"
    if not path.exists():
        save(pre_norm.build(6, width), path)
    return path


def frames(length: int, width: int) -> Feeds:
    """An input of the encoders."""
    return {"x": uniform((1, length, width), f"frames.{length}", -1.7, 1.7)}


_ENCODER_REACH = {
    ("f32", 256): (1.7, 1.35, 1.2),
    ("f32", 512): (1.7, 1.3, 1.1),
    ("bf16", 256): (2.0, 1.5, 1.15),
    ("bf16", 512): (1.8, 1.35, 1.05),
    ("int8", 256): (2.2, 1.7, 1.3),
    ("int8", 512): (1.8, 1.35, 1.15),
}
_ENCODER_PEERS = {
    "f32": ("onnxruntime", "openvino"),
    "bf16": ("openvino bf16", "onnxruntime"),
    "int8": ("onnxruntime int8", "openvino int8"),
}


def _encoders(folder: Path) -> list[Row]:
    return [
        Row(
            f"encoder 6x{width} T={length} {precision}",
            encoder(folder, width),
            (frames(length, width),),
            reach,
            peers=_ENCODER_PEERS[precision],
            precision=precision,
            tolerance=ERRORS[precision],
        )
        for (precision, width), reaches in _ENCODER_REACH.items()
        for length, reach in zip(LENGTHS, reaches, strict=True)
    ]


def recogniser_files(folder: Path) -> tuple[Path, tuple[Feeds, ...]]:
    """The recogniser of the folder GRAPHOPT_ASR with recordings, or the one of `benchmarks.models`."""
    given = os.environ.get("GRAPHOPT_ASR")
    if given:
        return Path(given) / "asr.onnx", _recordings(Path(given) / "val.npz")
    path = folder / "recogniser.onnx"
    if not path.exists():
        save(recogniser.build(), path)
    return path, tuple({"feats": uniform((1, n, 80), f"feats.{n}", -1.7, 1.7)} for n in (64, 100, 200))


@cache
def _recordings(path: Path, count: int = 8) -> tuple[Feeds, ...]:
    """Evenly chosen recordings: features one after the other, and where each begins."""
    with np.load(path) as content:
        features, offsets = content["feats"], content["offsets"]
    chosen = np.linspace(0, len(offsets) - 2, count).astype(int)
    return tuple({"feats": features[None, offsets[i] : offsets[i + 1]].astype(np.float32)} for i in chosen)


def _recogniser(folder: Path) -> list[Row]:
    path, feeds = recogniser_files(folder)
    return [Row("recogniser as exported", path, feeds, 3.9, per=len(feeds))]


def _quantized_recogniser(folder: Path) -> list[Row]:
    """The recogniser as `graphopt quantize` makes it, beside what was exported."""
    path, feeds = recogniser_files(folder)
    quantized = folder / QUANTIZED_RECOGNISER

    def prepare() -> None:
        if quantized.exists():
            return
        samples = folder / "samples"
        samples.mkdir(exist_ok=True)
        given = os.environ.get("GRAPHOPT_ASR")
        for i, one in enumerate(_recordings(Path(given) / "calib.npz", 16) if given else feeds):
            np.savez(samples / f"{i}.npz", feats=one["feats"])
        ended = run_python(
            "graphopt", "quantize", path, "--data", samples, "--target", "graphopt", "-o", quantized
        )
        if ended.code:
            raise RuntimeError(f"{path}: {ended.why}")

    return [
        Row(
            "recogniser, static int8",
            quantized,
            feeds,
            8.0,
            per=len(feeds),
            tolerance=ERRORS["static int8"],
            original=path,
            prepare=prepare,
        )
    ]


# Model, size (None: the largest of its recipe), ratio to reach.
_ZOO: Sequence[tuple[str, dict[str, int] | None, float]] = (
    ("bert_ts11", None, 1.2),
    ("whisper_encoder_ts14", None, 1.25),
    ("gpt2_past_ts13", {"batch": 1, "seq": 1, "past": 127}, 1.5),
    ("llama_ts17", None, 1.3),
    ("mobilenetv3_large_ts13", None, 1.15),
    ("resnet50_ts11", None, 1.0),
)


def _zoo() -> list[Row]:
    given = os.environ.get("GRAPHOPT_ZOO")
    if not given:
        return []
    found = []
    for name, size, reach in _ZOO:
        recipe = Recipe.read(Path(given) / f"{name}.json")
        largest = max(recipe.sizes, key=lambda s: np.prod([max(1, n) for n in s.values()]))
        feeds = recipe.feeds(size or largest, seed=2)
        found.append(Row(name, Path(given) / f"{name}.onnx", (feeds,), reach))
    return found


def _tiny(folder: Path) -> list[Row]:
    found = []
    for kind in ("fused", "apart"):
        path = folder / f"tiny_{kind}.onnx"
        save(tiny_nodes.build(TINY, kind == "apart"), path)
        feeds = {"x": uniform((tiny_nodes.WIDTH,), "tiny", -1.7, 1.7)}
        found.append(
            Row(
                f"dispatch, {TINY} tiny nodes {kind}", path, (feeds,), reach_ms=2e-5, optimize=False, per=TINY
            )
        )
    return found


def _loop(folder: Path) -> list[Row]:
    path = folder / "growing_caches.onnx"
    save(growing_caches.build(), path)
    feeds = {"steps": np.array(STEPS), "row": uniform((1, 1, 256), "row", -1.7, 1.7)}
    return [Row(f"loop of {STEPS} steps growing 12 caches", path, (feeds,), reach_ms=2.0)]
