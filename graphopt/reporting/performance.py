"""Benchmarks, profiles and answers for people."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from graphopt.reporting.console import bytes_text, new_table, number_text, open_console, time_text

if TYPE_CHECKING:
    from graphopt.runtime.arrays import Array, Result
    from graphopt.runtime.benchmark import Benchmark
    from graphopt.runtime.profile import Profile, Row

__all__ = ["answer_to_dict", "print_answers", "print_benchmark", "print_profile"]

_ROWS_SHOWN = 20
_NAME_LENGTH = 60


def print_benchmark(found: Benchmark, audio_seconds: float | None) -> None:
    """Print the engines' numbers side by side."""
    console = open_console()
    shapes = ", ".join(f"{name}{shape}" for name, shape in found.shapes.items())
    clock = "CPU time, 1 thread" if found.threads == 1 else f"{found.threads} threads"
    console.print(f"{found.model}  {shapes}  {clock}, {found.rounds} rounds")
    real_time = ("real-time factor",) if audio_seconds else ()
    table = new_table("engine", "median", "best", "ratio", *real_time, "load", "peak memory", "difference")
    for t in found.timings:
        name = f"{t.engine} {t.version}".strip()
        if t.error is not None:
            table.add_row(name, *["-"] * (6 + len(real_time)))
            continue
        ratio, factor = found.ratio(t), t.median_ns / 1e9 / audio_seconds if audio_seconds else 0.0
        table.add_row(
            name,
            time_text(t.median_ns),
            time_text(t.least_ns),
            "-" if ratio is None else f"{ratio:.2f}",
            *([f"{factor:.4f}"] if real_time else []),
            time_text(t.load_ns),
            "-" if t.peak_bytes is None else bytes_text(t.peak_bytes),
            "-" if t.difference is None else f"{t.difference:.1e}",
        )
    console.print(table)
    for t in found.timings:
        if t.error is not None:
            console.print(f"{t.engine}: {t.error}", style="yellow")


def print_profile(profile: Profile, *, verbose: bool) -> None:
    """Print where the time goes, by node and summed by kernel; all rows where it is verbose."""
    console = open_console()
    console.print(
        f"{time_text(profile.nanoseconds)} a run in instructions, mean of {profile.runs}; "
        f"{profile.native_share:.1%} of it in native kernels"
    )
    for title, rows in (("node", profile.nodes), ("kernel", profile.kernels)):
        shown = rows if verbose else rows[:_ROWS_SHOWN]
        console.print("")
        kernel = ("kernel",) if title == "node" else ()
        table = new_table(title, *kernel, "time", "share", "calls", "bytes", "GB/s", "GFLOP/s", "runs")
        for row in shown:
            _add(table, row, has_kernel=bool(kernel))
        console.print(table)
        if len(rows) > len(shown):
            console.print(f"and {len(rows) - len(shown)} more; --verbose shows all")


def _add(table: object, row: Row, *, has_kernel: bool) -> None:
    from rich.table import Table

    assert isinstance(table, Table)
    name = row.name if len(row.name) <= _NAME_LENGTH else f"{row.name[: _NAME_LENGTH - 3]}..."
    gflops = row.gigaflops
    table.add_row(
        name,
        *([row.kernel] if has_kernel else []),
        time_text(row.nanoseconds),
        f"{row.share:.1%}",
        f"{row.calls:g}",
        bytes_text(round(row.bytes)) if row.bytes else "-",
        f"{row.gigabytes_per_second:.1f}" if row.bytes else "-",
        "-" if not gflops else number_text(gflops) if gflops >= 1000 else f"{gflops:.1f}",
        "native" if row.is_native else "reference",
    )


def print_answers(answers: Mapping[str, Result]) -> None:
    """Print a line an output: type, shape, and what numbers there are."""
    console = open_console()
    table = new_table("output", "type", "shape", "least", "mean", "largest")
    for name, value in answers.items():
        table.add_row(*_cells(name, value))
    console.print(table)


def answer_to_dict(value: Result) -> dict[str, object]:
    """Type, shape and the range of an output, for JSON."""
    if value is None:
        return {"kind": "none"}
    if isinstance(value, list):
        return {"kind": "sequence", "items": [answer_to_dict(item) for item in value]}
    found: dict[str, object] = {"kind": "tensor", "type": str(value.dtype), "shape": list(value.shape)}
    numbers = _numbers(value)
    if numbers is not None and numbers.size:
        found |= {
            "least": float(numbers.min()),
            "mean": float(numbers.mean()),
            "largest": float(numbers.max()),
        }
    return found


def _cells(name: str, value: Result) -> Sequence[str]:
    if value is None:
        return name, "none", "", "", "", ""
    if isinstance(value, list):
        return name, f"sequence of {len(value)}", "", "", "", ""
    shape = f"[{', '.join(map(str, value.shape))}]"
    numbers = _numbers(value)
    if numbers is None or not numbers.size:
        return name, "string" if value.dtype.kind == "O" else str(value.dtype), shape, "", "", ""
    return (
        name,
        str(value.dtype),
        shape,
        *(f"{x:.6g}" for x in (numbers.min(), numbers.mean(), numbers.max())),
    )


def _numbers(value: Array) -> npt.NDArray[np.float64] | None:
    if value.dtype.kind in "OUSc":
        return None
    return value.astype(np.float64)
