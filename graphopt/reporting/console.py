"""Reports for people: compact tables on a terminal, the same text without colors elsewhere."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from graphopt.reporting.counts import OperatorCounts
from graphopt.reporting.diff import ModelDiff, value_text
from graphopt.reporting.inspect import ControlFlow, Inspection
from graphopt.reporting.report import Change, Report

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from graphopt.rewriting.trace import Trace
    from graphopt.verification import Verification

# Without a terminal nothing is wrapped: lines go to files and to other programs.
_UNBOUNDED = 100_000
_TYPES_SHOWN = 12  # operator types of a report that is not verbose
_TEXT_WIDTH = 100  # of a text of metadata


def print_report(report: Report, *, verbose: bool = False) -> None:
    """Print what one optimization did.

    Args:
        report: The report.
        verbose: All operator types and passes, not only those that changed or fired.
    """
    console = open_console()
    console.print(f"{report.model}  target {report.target}  {report.seconds:.2f} s")
    pairs = _pairs(report.operators.before, report.operators.after)
    console.print(_operator_table(pairs, verbose=verbose))
    size = _change_text(report.bytes, bytes_text)
    console.print(f"weights {size}" if size else "weights unknown")
    at = ", ".join(f"{name}={value}" for name, value in report.sizes.items())
    costs = (
        ("graph", report.graph_bytes, bytes_text),
        ("flops", report.flops, number_text),
        ("predicted time", report.nanoseconds, time_text),
        ("peak memory of values", report.peak_bytes, bytes_text),
    )
    for name, change, text in costs:
        found = _change_text(change, text)
        if found:
            console.print(f"{name} {found}" + (f" at {at}" if at and name != "graph" else ""))
    passes = [p for p in report.passes if verbose or p.fired]
    if passes:
        table = new_table("pass", "fired", "rejected", "seconds")
        for p in passes:
            table.add_row(p.name, str(p.fired), str(p.rejected), f"{p.seconds:.3f}")
        console.print(table)
    for dropped in report.dropped:
        console.print(f"dropped: {dropped.id}: {dropped.reason}", style="yellow")
    for warning in report.warnings:
        console.print(f"warning: {warning}", style="yellow")
    _print_verification(console, report.verification)


def verification_line(found: Verification | None) -> str:
    """Such as "verified: 5 sizes, max error 1.2e-06, judge onnxruntime 1.32.0"."""
    if found is None:
        return "not verified: verification was turned off"
    if found.status == "unverified":
        return f"unverified: {found.notes[0] if found.notes else 'no sample could be run'}"
    count = max(len(found.sizes), 1)
    parts = [f"{count} size{'s' if count != 1 else ''}", f"{found.samples} samples"]
    if found.status == "verified":
        parts.append(f"max error {found.max_error:.2g}")
    else:
        first = found.mismatches[0]
        parts.append(f"output '{first.output}': {first.reason}" if first.output else first.reason)
    return f"{found.status}: {', '.join(parts)}, judge {found.judge}"


def print_trace(trace: Trace) -> None:
    """Print every firing in order, with its number for `--stop-after`."""
    console = open_console()
    for number, firing in enumerate(trace.firings, start=1):
        removed, added = (_counts_text(c) for c in (firing.removed, firing.added))
        console.print(f"{number:5} {firing.id}  {removed or 'nothing'} -> {added or 'nothing'}")


def print_misses(trace: Trace) -> None:
    """Print why the pass that was asked about left near misses alone."""
    console = open_console()
    if not trace.misses:
        console.print(f"{trace.explain}: no near misses")
    for place, reason in trace.misses.items():
        console.print(f"{place}: {reason}")


def print_inspection(found: Inspection) -> None:
    """Print the summary of a model."""
    console = open_console()
    opsets = ", ".join(f"{domain} {version}" for domain, version in found.opsets.items())
    producer = f"  by {found.producer}" if found.producer else ""
    console.print(f"{found.graph or 'graph'}  opset {opsets}  ir {found.ir_version}{producer}")
    for side, values in (("input", found.signature.inputs), ("output", found.signature.outputs)):
        for value in values:
            console.print(f"  {side} {value.name}: {value_text(value)}")
    if found.dynamic:
        console.print(f"dynamic dims: {', '.join(found.dynamic)}")
    constants = f" (and {found.operators.constants} Constants)" if found.operators.constants else ""
    console.print(f"{found.operators.total} operators{constants}")
    console.print(f"  {_counts_text(found.operators.types)}")
    for line in _control_flow_lines(found.control_flow, 1):
        console.print(line)
    for name, count in found.functions.items():
        console.print(f"  function {name}: {count} nodes")
    weights = ", ".join(f"{dtype} {bytes_text(size)}" for dtype, size in found.bytes.weights.items())
    console.print(f"{bytes_text(found.bytes.total)}: graph {bytes_text(found.bytes.graph)}, {weights}")
    for tensor in found.biggest:
        shape = ", ".join(map(str, tensor.shape))
        console.print(f"  {bytes_text(tensor.bytes):>9}  {tensor.name} {tensor.type}[{shape}]")
    for key, text in found.metadata.items():
        console.print(f"  metadata {key}: {textwrap.shorten(text, _TEXT_WIDTH, placeholder=' ...')}")


def print_diff(found: ModelDiff) -> None:
    """Print what differs between two models."""
    console = open_console()
    if found.is_empty:
        console.print("the models are the same")
        return
    changed = found.changed_types()
    if changed:
        console.print(_operator_table(_pairs(*found.operators), verbose=True, only=list(changed)))
    elif found.is_rewired:
        console.print("operators: the same counts, but nodes, attributes or connections differ")
    before, after = (b.total for b in found.bytes)
    console.print(f"bytes {_change_text(Change(before, after), bytes_text)}")
    console.print(f"initializers {_change_text(Change(*found.initializers), str)}")
    for line in found.signature:
        console.print(line)
    for title, pairs in (
        ("opset", found.opsets),
        ("metadata", found.metadata),
        ("function", found.functions),
    ):
        for name, (a, b) in pairs.items():
            console.print(f"{title} {name}: {a or 'none'} -> {b or 'none'}")
    if found.weights:
        console.print(f"initializers whose contents differ: {', '.join(found.weights)}")


def open_console() -> Console:
    """Standard output; nothing is wrapped or colored where it is no terminal."""
    from rich.console import Console

    # Asked for at each call: tests and callers exchange sys.stdout. rich reads NO_COLOR itself.
    console = Console(file=sys.stdout, highlight=False, markup=False, emoji=False, soft_wrap=True)
    if not console.is_terminal:
        console.width = _UNBOUNDED
    return console


def new_table(first: str, *others: str) -> Table:
    """A table without lines: names to the left, numbers to the right."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


Pair = tuple[str, int, int]


def _pairs(before: OperatorCounts, after: OperatorCounts) -> list[Pair]:
    types = {**before.types, **after.types}
    rows = [(t, before.types.get(t, 0), after.types.get(t, 0)) for t in types]
    rows.sort(key=lambda row: (-abs(row[2] - row[1]), -row[1], row[0]))
    return [*rows, ("total", before.total, after.total)]


def _operator_table(rows: Sequence[Pair], *, verbose: bool, only: Sequence[str] | None = None) -> Table:
    table = new_table("operator", "before", "after", "change")
    *types, total = rows
    shown = [r for r in types if (verbose or r[1] != r[2]) and (only is None or r[0] in only)]
    hidden = 0 if verbose else max(len(shown) - _TYPES_SHOWN, 0)
    for row in shown[: len(shown) - hidden]:
        table.add_row(*_row(row))
    if hidden:
        table.add_row(f"({hidden} more types)", "", "", "")
    table.add_row(*_row(total), style="bold")
    return table


def _row(row: Pair) -> tuple[str, str, str, str]:
    name, before, after = row
    return name, str(before), str(after), f"{after - before:+d}" if after != before else ""


def _print_verification(console: Console, found: Verification | None) -> None:
    style = {"verified": "green", "mismatch": "red"}.get(found.status if found else "", "yellow")
    console.print(verification_line(found), style=style)
    notes = () if found is None else found.notes
    for note in notes[1:] if found is not None and found.status == "unverified" else notes:
        console.print(f"  {note}")


def _change_text(change: Change, show: Callable[[int], str]) -> str:
    if change.before is None or change.after is None:
        return ""
    text = f"{show(change.before)} -> {show(change.after)}"
    if change.before and change.after != change.before:
        text += f" ({(change.after - change.before) / change.before:+.1%})"
    return text


def _counts_text(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count} {name}" for name, count in counts.items())


def _control_flow_lines(found: Iterable[ControlFlow], depth: int) -> list[str]:
    lines = []
    for node in found:
        parts = ", ".join(f"{name} {count} operators" for name, count, _ in node.bodies)
        lines.append(f"{'  ' * depth}{node.type} {node.node}: {parts}")
        for _, _, inner in node.bodies:
            lines += _control_flow_lines(inner, depth + 1)
    return lines


def bytes_text(count: int) -> str:
    """Such as "13.9 MB"."""
    if count < 1000:
        return f"{count} B"
    power = min((len(str(count)) - 1) // 3, 3)
    return f"{count / 1000**power:.1f} {('B', 'kB', 'MB', 'GB')[power]}"


def time_text(nanoseconds: float) -> str:
    """Such as "13.9 us"."""
    if nanoseconds < 1000:
        return f"{nanoseconds:.0f} ns"
    return f"{nanoseconds / 1e3:.1f} us" if nanoseconds < 1_000_000 else f"{nanoseconds / 1e6:.2f} ms"


def number_text(number: float) -> str:
    """Such as "1.37 G"."""
    for factor, unit in ((1e12, " T"), (1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= factor:
            return f"{number / factor:.3g}{unit}"
    return str(number)
