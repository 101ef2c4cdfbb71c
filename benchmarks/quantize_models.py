"""Make quantized models in processes of their own, and what can be said of each without its meaning."""

from __future__ import annotations

import re
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from benchmarks import runtime_engines as engines
from benchmarks.children import run_python
from benchmarks.quantize_makers import is_peer
from benchmarks.runtime_timing import interleaved, over

Feeds = dict[str, NDArray[Any]]
MAKING_SECONDS = 3600.0
OPSET = 17


@dataclass
class Made:
    """One model, float or quantized.

    Attributes:
        name: Of what made it.
        path: The file.
        why: Why there is none; "" if there is.
        seconds: Making took so long, process start included.
        peak_mib: And so much memory at the highest.
        milliseconds: A run, by engine.
        ratios: How many times faster than the float model, by engine; the median of paired rounds.
        ratios_of_minima: The same of the fastest rounds.
        memory_mib: Peak above the import, by engine.
    """

    name: str
    path: Path
    why: str = ""
    seconds: float = 0.0
    peak_mib: float = 0.0
    milliseconds: dict[str, float] = field(default_factory=dict)
    ratios: dict[str, float] = field(default_factory=dict)
    ratios_of_minima: dict[str, float] = field(default_factory=dict)
    memory_mib: dict[str, float] = field(default_factory=dict)

    @property
    def bytes(self) -> int:
        """On disk, external data included."""
        return sum(path.stat().st_size for path in self.path.parent.glob(f"{self.path.name}*"))

    @property
    def is_of_engine_alone(self) -> bool:
        """Whether onnxruntime can't run it."""
        return self.name == "graphopt graphopt"


def fold(model: Path, folder: Path) -> Path:
    """The float model as graphopt's optimizer leaves it: what peers quantize."""
    out = folder / "folded.onnx"
    # Operators of the latest opsets are more than peers know; below 13 a weight has one scale.
    current = next(o.version for o in onnx.load(model, load_external_data=False).opset_import if not o.domain)
    options = ("--target", "onnx", "--opset", str(max(current, OPSET)), "--no-verify", "--quiet")
    ended = run_python("graphopt", "optimize", model, "-o", out, *options)
    if ended.code != 0:
        raise RuntimeError(f"optimizing failed: {ended.why}")
    return out


def make(name: str, model: Path, folded: Path, data: Path, folder: Path) -> Made:
    """Let a maker work on a model."""
    out = folder / f"{name.replace(' ', '_')}.onnx"
    source = folded if is_peer(name) else model
    ended = run_python(
        "benchmarks.quantize_makers", name, source, data, out, timeout=MAKING_SECONDS, watch_memory=True
    )
    why = "" if ended.code == 0 and out.exists() else ended.why
    return Made(name, out, why, ended.seconds, ended.peak_mib)


def operators(path: Path) -> int:
    """Nodes other than Constant, those of bodies included."""
    pending, count = [onnx.load(path, load_external_data=False).graph], 0
    while pending:
        for node in pending.pop().node:
            count += node.op_type != "Constant"
            pending += [attribute.g for attribute in node.attribute if attribute.HasField("g")]
    return count


def runs_of(made: Sequence[Made], probe: Feeds) -> dict[str, dict[str, engines.Engine]]:
    """By engine, then by name, how each model is run there; what fails on the probe is left out."""
    makers: dict[str, Callable[[Path], engines.Engine]] = {
        "onnxruntime": engines.onnxruntime,
        "graphopt": engines.ours,
    }
    found: dict[str, dict[str, engines.Engine]] = {name: {} for name in makers}
    for one in made:
        for engine, maker in makers.items():
            if one.why or (engine == "onnxruntime" and one.is_of_engine_alone):
                continue
            try:
                run = maker(one.path)
                run(probe)
                found[engine][one.name] = run
            except Exception as error:
                print(f"{one.name}: {engine}: {' '.join(str(error).split())[:120]}", flush=True)
    return found


def time_all(
    made: Sequence[Made],
    runs_by_engine: dict[str, dict[str, engines.Engine]],
    feeds: Sequence[Feeds],
    seconds: float,
) -> None:
    """Run all models in turns; ratios are to the first that runs, paired."""
    for engine, runs in runs_by_engine.items():
        names = list(runs)
        if not names:
            continue
        times = interleaved([over(runs[name], feeds) for name in names], seconds * len(names))
        known = {one.name: one for one in made}
        for name, taken in zip(names, times, strict=True):
            known[name].milliseconds[engine] = statistics.median(taken) * 1e3 / len(feeds)
            pairs = zip(times[0], taken, strict=True)
            known[name].ratios[engine] = statistics.median(a / b for a, b in pairs)
            known[name].ratios_of_minima[engine] = min(times[0]) / min(taken)


def weigh_all(made: Sequence[Made], folder: Path) -> None:
    """Peak memory of loading and running what was timed, each in a process of its own.

    The engine loads a compiled file.
    """
    for one in made:
        if "onnxruntime" in one.milliseconds:
            one.memory_mib["onnxruntime"] = _peak("onnxruntime", one.path)
        compiled = folder / f"{one.path.stem}.gopt"
        if "graphopt" not in one.milliseconds:
            continue
        if run_python("graphopt", "compile", one.path, "-o", compiled).code == 0:
            one.memory_mib["graphopt"] = _peak("ours", compiled)


def _peak(engine: str, path: Path) -> float:
    ended = run_python("benchmarks.runtime_memory", engine, path)
    found = re.search(r"([+-][\d.]+) of all", ended.output)
    return float(found.group(1)) if found else float("nan")


def signal_to_noise(pairs: Sequence[tuple[Sequence[NDArray[Any]], Sequence[NDArray[Any]]]]) -> float:
    """Decibels over all float outputs of pairs of answers; the first of a pair is right."""
    signal = noise = 0.0
    for right, other in pairs:
        for a, b in zip(right, other, strict=True):
            if a.dtype.kind == "f" and a.shape == b.shape:
                signal += float((a.astype(np.float64) ** 2).sum())
                noise += float(((a.astype(np.float64) - b.astype(np.float64)) ** 2).sum())
    return float("inf") if noise == 0 else 10 * float(np.log10(signal / noise))
