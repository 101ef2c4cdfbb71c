"""Time over the length of a chain, and memory over weights that are larger than it.

python -m benchmarks.scaling [OUT.json]
"""

from __future__ import annotations

import json
import sys
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.children import Ended, run, run_python
from benchmarks.counting import contents
from benchmarks.models import big, builder, chain

CHAINS = (160, 640)
BIG_MIB = 1024

# What a run has in memory before it has opened anything: everything that it will import.
IMPORTS_ONLY = "import graphopt.compiler, graphopt.ir.save, graphopt.reporting.summary, graphopt.passes"


@dataclass(frozen=True, slots=True)
class ChainTime:
    """One chain: operators in and out, and the whole command's time without and with verification."""

    blocks: int
    before: int
    after: int
    seconds: float
    seconds_verified: float


@dataclass(frozen=True, slots=True)
class BigMemory:
    """One model with external weights: anonymous memory above that of a process that has only imported."""

    weights_mib: int
    before: int
    after: int
    seconds: float
    above_imports_mib: float
    result_mib: float


def chain_time(blocks: int, folder: Path) -> ChainTime:
    """Optimize a chain of blocks, without and with verification."""
    source, result = folder / f"chain_{blocks}.onnx", folder / f"chain_{blocks}.opt.onnx"
    builder.save(chain.build(blocks), source)
    seconds = [_optimize(source, result, *options).seconds for options in (("--no-verify",), ())]
    return ChainTime(blocks, contents(source).operators, contents(result).operators, seconds[0], seconds[1])


def big_memory(mib: int, folder: Path, width: int = 4096) -> BigMemory:
    """Optimize a model with external weights, without verification (the judge holds the weights)."""
    source, result = folder / "big.onnx", folder / "big.opt.onnx"
    big.build(mib, source, width)
    base = run([sys.executable, "-c", IMPORTS_ONLY + "; import time; time.sleep(.05)"], watch_memory=True)
    ended = _optimize(source, result, "--no-verify")
    return BigMemory(
        weights_mib=mib,
        before=contents(source).operators,
        after=contents(result).operators,
        seconds=ended.seconds,
        above_imports_mib=ended.peak_anonymous_mib - base.peak_anonymous_mib,
        result_mib=sum(p.stat().st_size for p in folder.glob("big.opt.onnx*")) / (1 << 20),
    )


def _optimize(source: Path, result: Path, *options: str) -> Ended:
    ended = run_python("graphopt", "optimize", source, "-o", result, "--quiet", *options, watch_memory=True)
    if ended.code != 0:
        raise SystemExit(f"{source.name}: {ended.why}")
    return ended


def measure(blocks: tuple[int, ...] = CHAINS, mib: int = BIG_MIB) -> tuple[list[ChainTime], BigMemory]:
    """All measurements; the models are built in a temporary folder."""
    with tempfile.TemporaryDirectory() as scratch:
        return [chain_time(n, Path(scratch)) for n in blocks], big_memory(mib, Path(scratch))


def table(chains: list[ChainTime], memory: BigMemory) -> str:
    """The measurements as a person reads them."""
    lines = [f"{'chain':>12} {'before':>8} {'after':>8} {'no verify':>10} {'verified':>10}"]
    for c in chains:
        lines.append(
            f"{c.blocks:>5} blocks {c.before:>8,} {c.after:>8,} "
            f"{c.seconds:>8.2f} s {c.seconds_verified:>8.2f} s"
        )
    lines.append(
        f"{memory.weights_mib} MiB of external weights: {memory.before} -> {memory.after} operators in "
        f"{memory.seconds:.2f} s, {memory.above_imports_mib:.0f} MiB of memory above imports, "
        f"result {memory.result_mib:.0f} MiB"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    times, held = measure()
    print(table(times, held))
    if len(sys.argv) > 1:
        measured = {"chains": [asdict(t) for t in times], "big": asdict(held)}
        Path(sys.argv[1]).write_text(json.dumps(measured, indent=1) + "\n", encoding="utf-8")
