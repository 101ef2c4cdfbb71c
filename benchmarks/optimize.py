"""What graphopt makes of a folder of models: operators, validity, its own time, and latency in onnxruntime.

    python -m benchmarks.optimize FOLDER [--peers COUNTS.json] [--only NAME] [--out RESULTS.json]

Every `NAME.onnx` with a recipe `NAME.json` is optimized for every target by the command line, in a process
of its own, with and without verification. Without --peers, other optimizers (extra `bench`) are run too.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

from benchmarks import peers, scaling, tables
from benchmarks.children import run_python
from benchmarks.counting import contents
from benchmarks.judging import Judgement
from benchmarks.latency import SECONDS, Ratio

TARGETS = ("onnx", "onnxruntime", "graphopt")
# Calls of graphopt's own operators run as their bodies in onnxruntime: its speed there says nothing.
TIMED = ("onnx", "onnxruntime")
TIMEOUT_S = 300
# A ratio whose whole interval lies above 1 is measured once more, this many times as long, and then believed.
SUSPECTS_LONGER = 4


@dataclass(frozen=True, slots=True)
class Optimized:
    """One model for one target.

    Attributes:
        failure: Why there is no result, or no judgement; "" where all is well.
        seconds: The whole command without verification, process start included.
        seconds_verified: The whole command with verification.
        status: What graphopt itself says: verified, unverified or mismatch.
        dropped: Firings that it left out, since they changed answers.
    """

    failure: str = ""
    seconds: float = 0.0
    seconds_verified: float = 0.0
    peak_mib: float = 0.0
    status: str = ""
    dropped: tuple[str, ...] = ()
    judgement: Judgement | None = None
    latency: Ratio | None = None

    @property
    def works(self) -> bool:
        """Whether the result can stand for the original."""
        return self.judgement is not None and self.judgement.works


@dataclass(frozen=True, slots=True)
class Row:
    """One model."""

    model: str
    operators: int
    targets: dict[str, Optimized]
    peers: peers.PeerCounts | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """What to measure."""

    folder: Path
    results: Path
    targets: Sequence[str] = TARGETS
    latency_seconds: float = SECONDS
    verify_seconds: float = 10.0
    options: Sequence[str] = field(default_factory=tuple)


def names(folder: Path, only: Sequence[str]) -> list[str]:
    """The models of a folder that have a recipe."""
    found = sorted(p.stem for p in folder.glob("*.onnx") if p.with_suffix(".json").exists())
    unknown = set(only) - set(found)
    if unknown:
        raise SystemExit(f"no model with a recipe in {folder}: {', '.join(sorted(unknown))}")
    return [name for name in found if not only or name in only]


def measure(name: str, plan: Plan, counts: peers.PeerCounts | None) -> Row:
    """Everything about one model."""
    source = plan.folder / f"{name}.onnx"
    targets = {target: optimized(name, target, plan) for target in plan.targets}
    return Row(name, contents(source).operators, targets, counts)


def optimized(name: str, target: str, plan: Plan) -> Optimized:
    """Optimize one model for one target, judge the result and time it."""
    source, recipe = plan.folder / f"{name}.onnx", plan.folder / f"{name}.json"
    result = plan.results / f"{name}.{target}.onnx"
    report = result.with_suffix(".report.json")
    command = ["optimize", str(source), "-o", str(result), "--target", target, "--quiet", *plan.options]
    plain = run_python("graphopt", *command, "--no-verify", timeout=TIMEOUT_S, watch_memory=True)
    limit = ["--verify-seconds", str(plan.verify_seconds)]
    verified = run_python("graphopt", *command, *limit, "--report", report, timeout=TIMEOUT_S)
    found = Optimized(seconds=plain.seconds, seconds_verified=verified.seconds, peak_mib=plain.peak_mib)
    for ended in (plain, verified):
        if ended.code != 0:
            return replace(found, failure=ended.why)
    said = json.loads(report.read_text(encoding="utf-8"))
    found = replace(
        found,
        status=said["verification"]["status"],
        dropped=tuple(dropped["id"] for dropped in said["dropped"]),
    )
    judged = run_python("benchmarks.judging", source, result, recipe, timeout=TIMEOUT_S)
    if judged.code != 0:
        return replace(found, failure=f"judging: {judged.why}")
    found = replace(found, judgement=Judgement(**json.loads(judged.output)))
    if target in TIMED and plan.latency_seconds and found.works:
        found = replace(found, latency=ratio(name, target, plan, plan.latency_seconds))
    return found


def ratio(name: str, target: str, plan: Plan, seconds: float) -> Ratio | None:
    """Time of the result over time of the original."""
    paths = [
        plan.folder / f"{name}.onnx",
        plan.results / f"{name}.{target}.onnx",
        plan.folder / f"{name}.json",
    ]
    ended = run_python("benchmarks.latency", *paths, str(seconds), timeout=TIMEOUT_S + seconds)
    return Ratio(**json.loads(ended.output)) if ended.code == 0 else None


def time_suspects_again(rows: Sequence[Row], plan: Plan) -> list[Row]:
    """Whatever seemed slower is measured again, longer; the second measurement stands."""
    again = []
    for row in rows:
        targets = dict(row.targets)
        for target, found in row.targets.items():
            if found.latency is not None and found.latency.is_slower:
                longer = ratio(row.model, target, plan, plan.latency_seconds * SUSPECTS_LONGER)
                targets[target] = replace(found, latency=longer)
        again.append(replace(row, targets=targets))
    return again


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.optimize", description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--only", action="append", default=[], metavar="NAME", help="measure only this model")
    parser.add_argument(
        "--peers", type=Path, metavar="COUNTS.json", help="counts of other optimizers; none are run"
    )
    parser.add_argument("--no-peers", action="store_true", help="neither run nor read other optimizers")
    parser.add_argument("--target", action="append", choices=TARGETS, help="measure only this target")
    parser.add_argument("--latency-seconds", type=float, default=SECONDS, help="for each ratio; 0: none")
    parser.add_argument("--verify-seconds", type=float, default=10.0, help="as graphopt optimize takes it")
    parser.add_argument("--no-scaling", action="store_true", help="leave out the chains and the large model")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the results there")
    parser.add_argument("--out", type=Path, default=Path("build/bench-optimize.json"))
    given = parser.parse_args(arguments)

    chosen = names(given.folder, given.only)
    counts = (
        {}
        if given.no_peers
        else peers.read(given.peers)
        if given.peers
        else peers.count(given.folder, chosen)
    )
    with tempfile.TemporaryDirectory() as scratch:
        plan = Plan(
            given.folder,
            given.keep or Path(scratch),
            given.target or TARGETS,
            given.latency_seconds,
            given.verify_seconds,
        )
        plan.results.mkdir(parents=True, exist_ok=True)
        rows = []
        print(tables.head(plan.targets))
        for name in chosen:
            rows.append(measure(name, plan, counts.get(name)))
            print(tables.line(rows[-1]), flush=True)
        rows = time_suspects_again(rows, plan)
    print(tables.totals(rows, plan.targets))
    content: dict[str, object] = {"models": {row.model: asdict(row) for row in rows}}
    if not given.no_scaling:
        chains, memory = scaling.measure()
        print(scaling.table(chains, memory))
        content |= {"chains": [asdict(c) for c in chains], "big": asdict(memory)}
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
