"""Quantized models beside those of other tools: bytes, operators, time, memory, and what they still say.

    make bench-quantize [ASR=folder] [MODELS=folder] [ARGS="--limit 40 --only graphopt dynamic"]
    make bench-quantize [ASR=folder] [MODELS=folder] ARGS="--ablation"

ASR names a folder with `asr.onnx`, `calib.npz` (`feats` and `offsets`) and perhaps `score.py`; without it,
the recogniser of benchmarks/models is quantized with random samples. MODELS names a folder of models with
recipes: their signal to noise stands beside that of onnxruntime's calibrators. All tools get the same
samples; peers get the model as `graphopt optimize` leaves it. With --ablation: what each of our algorithms
gains, alone and among the others.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import quantize_ablation, quantize_zoo
from benchmarks import quantize_models as models
from benchmarks import quantize_yardstick as yardstick
from benchmarks.models import recogniser
from benchmarks.models.builder import save
from benchmarks.quantize_makers import BINS, samples
from benchmarks.quantize_models import Made
from benchmarks.runtime_engines import Engine

Feeds = dict[str, NDArray[Any]]
MAKERS = (
    "graphopt",
    "graphopt onnxruntime",
    "graphopt graphopt",
    "graphopt 8.2 MB",
    "graphopt weights int8",
    "graphopt weights int4",
    "dynamic",
    "dynamic per channel",
    "static minmax",
    "static percentile",
    "static entropy",
    "nncf",
)
SAMPLES, RANDOM, UNSEEN = 64, 16, 40
TIMED = 8


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.quantize")
    parser.add_argument("--asr", type=Path, help="folder of a recogniser")
    parser.add_argument("--models", type=Path, help="folder of models with recipes")
    parser.add_argument(
        "--only", nargs="*", default=[], help="makers, or parts of the ablation, whose name begins so"
    )
    parser.add_argument("--names", nargs="*", default=[], help="words of models of --models to take")
    parser.add_argument("--limit", type=int, help="utterances a set that are scored")
    parser.add_argument("--seconds", type=float, default=3.0, help="of timing, for each model")
    parser.add_argument("--no-recogniser", action="store_true", help="leave it out")
    parser.add_argument("--ablation", action="store_true", help="what each algorithm gains; no other tools")
    parser.add_argument("--keep", type=Path, help="folder that the models are made in")
    options = parser.parse_args(arguments)
    if not options.ablation:
        print_kl_times()
    with tempfile.TemporaryDirectory() as scratch:
        folder = options.keep or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        if options.ablation:
            ablations(options, folder)
            return
        makers = [m for m in MAKERS if not options.only or any(m.startswith(o) for o in options.only)]
        if not options.no_recogniser:
            recogniser_rows(options.asr, folder, makers, options.limit, options.seconds)
        if options.models:
            quantize_zoo.rows(options.models, folder, options.names, options.only)


def ablations(options: argparse.Namespace, folder: Path) -> None:
    """What each algorithm gains, on the recogniser and on models of a folder."""
    if not options.no_recogniser:
        model, data = _recogniser(options.asr, folder)
        unseen = yardstick.unseen(options.asr, options.limit or UNSEEN) if options.asr else _random(UNSEEN, 1)
        quantize_ablation.rows(model, list(samples(data)), unseen, options.only)
    for path in quantize_zoo.chosen(options.models, options.names) if options.models else ():
        found = [quantize_zoo.feeds_of(path, i) for i in range(quantize_zoo.SAMPLES + UNSEEN)]
        calibrating, others = found[: quantize_zoo.SAMPLES], found[quantize_zoo.SAMPLES :]
        quantize_ablation.rows(path, calibrating, others, options.only)


def recogniser_rows(
    given: Path | None, folder: Path, makers: Sequence[str], limit: int | None, seconds: float
) -> None:
    """Quantize a recogniser in every way and print a line for each."""
    model, data = _recogniser(given, folder)
    feeds = list(samples(data))
    chosen = [feeds[i] for i in np.linspace(0, len(feeds) - 1, TIMED).astype(int)]
    folded = models.fold(model, folder)
    made = [Made("float", model), Made("float optimized", folded)]
    for name in makers:
        made.append(models.make(name, model, folded, data, folder))
        print(f"made {name} in {made[-1].seconds:.0f} s: {made[-1].why or 'done'}", flush=True)
    runs = models.runs_of(made, chosen[0])
    scores = _scores(given, made, runs, chosen, limit)
    models.time_all(made, runs, chosen, seconds)
    models.weigh_all(made, folder)
    print()
    print(
        f"{'model':22} {'bytes':>11} {'':>6} {'ops':>6} {'ort ms':>7} {'':>6} {'ours ms':>7} {'':>6} "
        f"{'ort MiB':>7} {'ours MiB':>8} {'made in s':>9} {'MiB':>6}  "
        "change of CER, SER; identical; mean difference of floats"
    )
    for one in made:
        print(_line(one, made[0], scores.get(one.name, ())), flush=True)


def _recogniser(given: Path | None, folder: Path) -> tuple[Path, Path]:
    """The model, and a folder of samples to calibrate with."""
    data = folder / "samples"
    data.mkdir(exist_ok=True)
    if given is not None:
        with np.load(given / "calib.npz") as content:
            features, offsets = content["feats"].astype(np.float32), content["offsets"]
        for i in range(min(SAMPLES, len(offsets) - 1)):
            np.savez(data / f"{i:03}.npz", feats=features[None, offsets[i] : offsets[i + 1]])
        return given / "asr.onnx", data
    for i, feeds in enumerate(_random(RANDOM, 0)):
        np.savez(data / f"{i:03}.npz", feats=feeds["feats"])
    save(recogniser.build(), folder / "recogniser.onnx")
    return folder / "recogniser.onnx", data


def _random(count: int, seed: int) -> list[Feeds]:
    """Inputs of a recogniser that mean nothing."""
    random = np.random.default_rng(seed)
    lengths = random.integers(60, 200, count)
    return [{"feats": random.uniform(-1.7, 1.7, (1, n, 80)).astype(np.float32)} for n in lengths]


def _scores(
    given: Path | None,
    made: Sequence[Made],
    runs: dict[str, dict[str, Engine]],
    feeds: Sequence[Feeds],
    limit: int | None,
) -> dict[str, list[yardstick.Score]]:
    """What each model still says: in onnxruntime, or in the engine where only that runs it."""
    module = yardstick.scorer(given) if given is not None else None
    right = runs["onnxruntime"].get("float") or runs["onnxruntime"]["float optimized"]
    truth = yardstick.by_scorer(module, right, limit) if module is not None else {}
    found: dict[str, list[yardstick.Score]] = {}
    for one in made[1:]:
        engine = runs["onnxruntime"].get(one.name) or runs["graphopt"].get(one.name)
        if engine is None:
            continue
        if module is not None:
            said = yardstick.by_scorer(module, engine, limit)
            found[one.name] = yardstick.compared(module, truth, said)
        else:
            found[one.name] = [yardstick.on_random(right, engine, feeds)]
    return found


def _line(one: Made, first: Made, scores: Sequence[yardstick.Score]) -> str:
    if one.why:
        return f"{one.name:22} {one.why[:150]}"
    times = ""
    for engine in ("onnxruntime", "graphopt"):
        if engine in one.milliseconds:
            times += f" {one.milliseconds[engine]:7.2f} {one.ratios[engine]:5.2f}x"
        else:
            times += f" {'-':>7} {'':6}"
    memory = "".join(
        f" {one.memory_mib[engine]:{width}.1f}" if engine in one.memory_mib else f" {'-':>{width}}"
        for engine, width in (("onnxruntime", 7), ("graphopt", 8))
    )
    said = "   ".join(f"{score.what} {yardstick.cell(score)}" for score in scores)
    return (
        f"{one.name:22} {one.bytes:11,} {first.bytes / one.bytes:5.2f}x {models.operators(one.path):6,}"
        f"{times}{memory} {one.seconds:9.0f} {one.peak_mib:6.0f}  {said}"
    )


def print_kl_times() -> None:
    """KL divergence of one tensor, all candidates of a histogram: ours and onnxruntime's."""
    from onnxruntime.quantization.calibrate import HistogramCollector

    from graphopt.quantization.thresholds import kl

    numbers = np.random.default_rng(0).standard_normal(1 << 20)
    limit = float(np.abs(numbers).max())
    counts = np.histogram(np.abs(numbers), BINS, range=(0, limit))[0]
    start = time.perf_counter()
    for _ in range(5):
        kl(counts, 128)
    ours = (time.perf_counter() - start) / 5
    signed, edges = np.histogram(numbers, BINS, range=(-limit, limit))
    collector = HistogramCollector("entropy", False, BINS, 128, 99.99, "same")
    start = time.perf_counter()
    collector.get_entropy_threshold((signed, edges, -limit, limit, limit), 128)
    theirs = time.perf_counter() - start
    print(f"KL of a tensor at {BINS:,} bins: {ours * 1e3:.1f} ms, onnxruntime {theirs * 1e3:,.0f} ms")


if __name__ == "__main__":
    main(sys.argv[1:])
