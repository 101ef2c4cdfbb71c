"""The optimizer benchmark as a person reads it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.latency import Ratio
    from benchmarks.optimize import Optimized, Row

MARKS = """\
!load does not load, !diff other answers, !dims a dynamic dim fixed, !check onnx.checker objects,
* not only standard operators, ? graphopt calls it unverified, -n firings dropped; ratio: time of the
result over time of the original in onnxruntime with all optimizations, with its 95 % interval"""


def head(targets: Sequence[str]) -> str:
    """The heading."""
    cells = "".join(f" {t:>12}" for t in targets)
    timed = "".join(f" {'ratio ' + t:>22}" for t in targets if t != "graphopt")
    return f"{'model':30} {'operators':>9} {'best std':>8} {'best':>6}{cells} {'s':>6} {'s verif':>7}{timed}"


def line(row: Row) -> str:
    """One model."""
    standard, free = ((row.peers.best(standard=s)[0] if row.peers else None) for s in (True, False))
    cells = "".join(f" {_cell(name, found):>12}" for name, found in row.targets.items())
    first = next(iter(row.targets.values()))
    timed = "".join(f" {_ratio(f.latency):>22}" for name, f in row.targets.items() if name != "graphopt")
    return (
        f"{row.model:30} {row.operators:>9,} {_number(standard):>8} {_number(free):>6}{cells} "
        f"{first.seconds:>6.2f} {first.seconds_verified:>7.2f}{timed}"
    )


def _number(count: int | None) -> str:
    return "-" if count is None else f"{count:,}"


def _cell(target: str, found: Optimized) -> str:
    judged = found.judgement
    if judged is None:
        return "fail"
    count = judged.instructions if target == "graphopt" else judged.operators
    marks = "" if judged.standard else "*"
    for wrong, mark in (
        (not judged.loads, "!load"),
        (judged.loads and not judged.equal, "!diff"),
        (not judged.dynamic, "!dims"),
        (bool(judged.checker), "!check"),
        (found.status == "unverified", "?"),
    ):
        marks += mark if wrong else ""
    return f"{count:,}{marks}" + (f"-{len(found.dropped)}" if found.dropped else "")


def _ratio(ratio: Ratio | None) -> str:
    return "-" if ratio is None else f"{ratio.median:.3f} [{ratio.low:.3f}, {ratio.high:.3f}]"


def totals(rows: Sequence[Row], targets: Sequence[str]) -> str:
    """Sums over all models, and what is wrong."""
    lines = ["", MARKS, "", f"{len(rows)} models, {sum(r.operators for r in rows):,} operators"]
    compared = [r for r in rows if r.peers is not None]
    for standard, what in ((True, "best standard-only peer a model"), (False, "best peer a model")):
        if compared:
            total = sum(r.peers.best(standard=standard)[0] for r in compared if r.peers is not None)
            lines.append(f"{what:34} {total:>8,}")
    for target in targets:
        lines += _target_totals(target, rows)
    return "\n".join(lines)


def _target_totals(target: str, rows: Sequence[Row]) -> list[str]:
    found = {row.model: row.targets[target] for row in rows}
    lines = [
        f"graphopt for {target:21} {sum(usable(r, target) for r in rows):>8,} (original where not usable)"
    ]
    behind = [
        r.model for r in rows if r.peers and usable(r, target) > r.peers.best(standard=target == "onnx")[0]
    ]
    lines.append(_named("  more than the best peer", behind))
    wrong: dict[str, Callable[[Optimized], bool]] = {
        "  failed": lambda f: bool(f.failure),
        "  not usable": lambda f: f.judgement is not None and not f.judgement.works,
        "  onnx.checker objects": lambda f: f.judgement is not None and bool(f.judgement.checker),
        "  unverified": lambda f: f.status == "unverified",
        "  firings dropped": lambda f: bool(f.dropped),
        "  slower, measured twice": lambda f: f.latency is not None and f.latency.is_slower,
    }
    lines += [_named(what, [m for m, f in found.items() if is_so(f)]) for what, is_so in wrong.items()]
    for what, seconds in (
        ("without verification", [f.seconds for f in found.values()]),
        ("with verification", [f.seconds_verified for f in found.values()]),
    ):
        lines.append(
            f"  seconds {what}: {sum(seconds):.1f} in all, median {statistics.median(seconds):.2f}, "
            f"most {max(seconds):.2f}"
        )
    ratios = [f.latency.median for f in found.values() if f.latency is not None]
    if ratios:
        mean = math.exp(statistics.fmean(math.log(r) for r in ratios))
        lines.append(f"  ratio: geometric mean {mean:.3f}, {min(ratios):.3f} to {max(ratios):.3f}")
    return lines


def _named(what: str, models: Sequence[str]) -> str:
    return f"{what}: {len(models)}" + (f" ({', '.join(models)})" if models else "")


def usable(row: Row, target: str) -> int:
    """Operators of the result, or of the original where the result can't stand for it."""
    found = row.targets[target]
    if found.judgement is None or not found.works or (target == "onnx" and not found.judgement.standard):
        return row.operators
    return found.judgement.instructions if target == "graphopt" else found.judgement.operators
