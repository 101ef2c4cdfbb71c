"""Make one Concat of nested ones, and take out what only puts together what was taken apart.

before   Concat(Concat(a, b), c)     Concat(Split(x))     Concat(x[:, 0:3], x[:, 3:5], y)
after    Concat(a, b, c)             x                    Concat(x[:, 0:5], y)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.cuts import Cut, cuts_of, is_slice, spelled_end, spelled_start
from graphopt.ir.dims import at_most
from graphopt.ir.operands import producer_of
from graphopt.rewriting import HAS_OTHER_CONSUMERS, Match, Pass, Rejection, op, rule_on


def _axis(m: Match, node: ir.Node) -> int | None:
    """The axis of a Concat or Split, counted from the front."""
    axis, rank = m.attribute(node, "axis"), m.rank(node.outputs[0])
    return axis % rank if isinstance(axis, int) and rank else None


def _joined(values: Sequence[ir.Value], axis: int) -> ir.Value:
    return values[0] if len(values) == 1 else op.Concat(*values, axis=axis)


@rule_on("Concat", depth=2)
def nested(m: Match) -> ir.Value | Rejection | None:
    """Concat(Concat(a, b), c) -> Concat(a, b, c)."""
    inner = [producer_of(v, "Concat") for v in m.root.inputs]
    if all(node is None for node in inner):
        return None
    axis = _axis(m, m.root)
    found: list[ir.Value] = []
    rejected: ir.Value | None = None
    for value, node in zip(m.root.inputs, inner, strict=True):
        assert value is not None, "Concat has no optional inputs"
        if node is None or axis is None or _axis(m, node) != axis:
            found.append(value)
        elif not m.has_one_consumer(value) or node.graph is not m.root.graph:
            found.append(value)
            rejected = value
        else:
            found += [v for v in node.inputs if v is not None]
    if len(found) == len(m.root.inputs) or axis is None:
        return Rejection(HAS_OTHER_CONSUMERS, rejected) if rejected is not None else None
    return op.Concat(*found, axis=axis)


@rule_on("Concat", depth=2)
def parts_of_split(m: Match) -> ir.Value | None:
    """Concat(a, all parts of Split(x), b) -> Concat(a, x, b)."""
    values = [v for v in m.root.inputs if v is not None]
    if not any(_is_part(v) for v in values):
        return None
    axis = _axis(m, m.root)
    found: list[ir.Value] = []
    place = 0
    while place < len(values):
        split = values[place].producer()
        if split is not None and _is_part(values[place]) and _axis(m, split) == axis:
            parts = list(split.outputs)
            if values[place : place + len(parts)] == parts and split.inputs[0] is not None:
                found.append(split.inputs[0])
                place += len(parts)
                continue
        found.append(values[place])
        place += 1
    return _joined(found, axis) if axis is not None and len(found) < len(values) else None


def _is_part(value: ir.Value) -> bool:
    node = value.producer()
    return node is not None and node.op_type == "Split" and node.domain == "" and value.index() == 0


@dataclass(frozen=True, slots=True)
class _Run:
    """Neighbouring inputs of a Concat; with a source they are one slice of it along the axis."""

    values: tuple[ir.Value, ...]
    source: ir.Value | None = None
    cut: Cut | None = None

    def followed_by(self, other: _Run) -> _Run | None:
        if self.cut is None or other.cut is None or self.source is not other.source:
            return None
        if self.cut.end != other.cut.start:
            return None
        cut = Cut(self.cut.axis, self.cut.start, other.cut.end, 1)
        return _Run(self.values + other.values, self.source, cut)


@rule_on("Concat", depth=2)
def adjacent_slices(m: Match) -> ir.Value | None:
    """Concat(x[a:b], x[b:c]) -> x[a:c]."""
    values = [v for v in m.root.inputs if v is not None]
    if sum(is_slice(v.producer()) for v in values) < 2:
        return None
    axis = _axis(m, m.root)
    runs: list[_Run] = []
    for value in values:
        run = _run(m, value, axis)
        longer = runs[-1].followed_by(run) if runs else None
        runs[-1:] = [longer] if longer is not None else [*runs[-1:], run]
    if len(runs) == len(values) or axis is None:
        return None
    gain = 1 if len(runs) == 1 else 0
    joined: list[ir.Value] = []
    for run in runs:
        if len(run.values) == 1:
            joined.append(run.values[0])
            continue
        whole = _whole(m, run)
        if whole is None:
            return None
        joined.append(whole)
        gain += sum(m.has_one_consumer(v) for v in run.values) - (whole is not run.source)
    return _joined(joined, axis) if gain > 0 else None


def _run(m: Match, value: ir.Value, axis: int | None) -> _Run:
    """An input as a run of its own."""
    node = value.producer()
    cuts = None
    if node is not None and is_slice(node) and node.graph is m.root.graph:
        cuts = cuts_of(node, m.facts, m.opset)
    if node is None or cuts is None or len(cuts) != 1 or cuts[0].axis != axis or cuts[0].step != 1:
        return _Run((value,))
    # An empty slice whose end lies before its start would not be a neighbour.
    return _Run((value,), node.inputs[0], cuts[0]) if at_most(cuts[0].start, cuts[0].end) else _Run((value,))


def _whole(m: Match, run: _Run) -> ir.Value | None:
    """The one slice that a run is."""
    dims = m.dims(run.source) if run.source is not None else None
    if dims is None or run.cut is None:
        return None
    size = dims[run.cut.axis]
    if run.cut.start == 0 and run.cut.end == size:
        return run.source
    start, end = spelled_start(run.cut.start, size), spelled_end(run.cut.end, size)
    if start is None or end is None:
        return None
    return op.Slice(run.source, [start], [end], [run.cut.axis])


@dataclass(frozen=True)
class MergeConcats(Pass):
    """Make one Concat of nested ones, and take out what puts together what was taken apart."""

    name = "merge-concats"
    family = "movement"
    rules = (nested, parts_of_split, adjacent_slices)
