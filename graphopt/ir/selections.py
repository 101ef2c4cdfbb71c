"""Which rows of a source a region of data movement selects.

Slices, Splits, Concats, Gathers by constants, Transposes and Reshapes over axes of known sizes do one thing
together: row i of the result is row table[i] of the source. A row is a run of elements that stay together,
the source's last axis; axes in front whose size is not known are carried along.

    x[b,784,48] -> Reshape(b,28,28,48) -> roll by 3 -> windows of 7x7 -> y[16*b,49,48]
    row i of y is row table[i] of x, for each b
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.attribute_defaults import attribute_or_default
from graphopt.ir.attributes import attribute
from graphopt.ir.cuts import cuts_of
from graphopt.ir.dims import Dim, exact_quotient, product, terms_of
from graphopt.ir.inference import Facts
from graphopt.ir.relabelling import RELABELLINGS

__all__ = ["SELECTING", "Selection", "selection_of"]

# The operators of such a region.
SELECTING = (*RELABELLINGS, "Concat", "Gather", "Slice", "Split", "Transpose")

# A larger region, or a longer table, is left alone.
MOST_NODES = 24
MOST_ROWS = 1 << 16

Dims = tuple[Dim, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Selection:
    """Rows of one value.

    Attributes:
        source: The value.
        carried: Dims in front of the rows, whose sizes are not all known.
        rows: How many rows there are for one place on those.
        row: How many elements a row has.
        table: For each row of the result the row of the source: int64 [rows of the result].
        nodes: The region's nodes, the last one first.
    """

    source: ir.Value
    carried: Dims
    rows: int
    row: int
    table: np.ndarray
    nodes: tuple[ir.Node, ...]


@dataclass(frozen=True, eq=False, slots=True)
class _View:
    """A value of the region for one place on the carried axes.

    Attributes:
        outer: How many of its first axes the carried ones are in: nothing may be done on these.
        rows: Numbers of the source's rows; as many axes as the value has.
    """

    outer: int
    rows: np.ndarray


def selection_of(root: ir.Node, facts: Facts, opset: int) -> Selection | None:
    """The rows that a region ending in a node selects; None where it is more than a selection of rows."""
    found = _region(root)
    if found is None:
        return None
    source, nodes = found
    dims = facts.dims(source)
    if dims is None or not dims:
        return None
    lead = max((axis + 1 for axis, dim in enumerate(dims) if not isinstance(dim, int)), default=0)
    sizes = [dim for dim in dims[lead:] if isinstance(dim, int)]
    if len(sizes) < 2 or 0 in sizes:
        return None
    row = sizes[-1]
    # A number among the factors of the carried dims is rows, too: windows that were put beside the batch.
    carried = product(dims[:lead])
    known = math.gcd(*(weight for _, weight in terms_of(carried))) if lead else 1
    batch = exact_quotient(carried, known)
    rows = known * int(np.prod(sizes[:-1]))
    if rows > MOST_ROWS or batch is None:
        return None
    shape = (1,) * (lead - 1) + (known,) * min(lead, 1) + (*sizes[:-1], 1)
    region = _Region(facts, opset, batch, row)
    views = {source: _View(lead, np.arange(rows).reshape(shape))}
    for node in reversed(nodes):
        results = region.of(node, views)
        if results is None:
            return None
        views.update(zip(node.outputs, results, strict=True))
    table = views[root.outputs[0]].rows.reshape(-1)
    front = dims[:lead] if known == 1 else (batch,)
    return Selection(source, front, rows, row, table, nodes) if 0 < table.size <= MOST_ROWS else None


def _region(root: ir.Node) -> tuple[ir.Value, tuple[ir.Node, ...]] | None:
    """The one value that a region starts from, and its nodes, each behind those that use it."""
    order: list[ir.Node] = []
    sources: dict[ir.Value, None] = {}
    done: set[ir.Node] = set()
    pending: list[tuple[ir.Node, bool]] = [(root, False)]
    while pending:
        node, is_left = pending.pop()
        if is_left:
            order.append(node)
            continue
        if node in done:
            continue
        done.add(node)
        if len(done) > MOST_NODES:
            return None
        pending.append((node, True))
        for value in node.inputs if node.op_type == "Concat" else node.inputs[:1]:
            if value is None or constants.constant(value) is not None:
                return None
            producer = value.producer()
            inside = producer is not None and producer.domain == "" and producer.graph is root.graph
            if producer is not None and inside and producer.op_type in SELECTING:
                pending.append((producer, False))
            else:
                sources[value] = None
    return (next(iter(sources)), tuple(reversed(order))) if len(sources) == 1 else None


@dataclass(frozen=True, slots=True)
class _Region:
    """What is the same for all nodes of a region."""

    facts: Facts
    opset: int
    carried: Dim
    row: int

    def of(self, node: ir.Node, views: dict[ir.Value, _View]) -> list[_View] | None:
        """The views of a node's outputs; None where it does more than select rows."""
        given = [views[v] for v in node.inputs if v in views]
        if node.op_type in RELABELLINGS:
            return self._relabelled(given[0], node.outputs[0])
        return _VIEWS[node.op_type](self, node, given)

    def axis(self, node: ir.Node, view: _View) -> int | None:
        """The node's axis, counted from the front; None where nothing may be done on it."""
        axis = attribute_or_default(node, "axis", self.opset)
        if not isinstance(axis, int):
            return None
        axis += view.rows.ndim if axis < 0 else 0
        return axis if axis >= view.outer else None

    def rows_of(self, size: Dim, is_last: bool) -> int | None:
        """A size along an axis, in rows along the last one."""
        if not isinstance(size, int):
            return None
        if not is_last:
            return size
        return size // self.row if size % self.row == 0 else None

    def _relabelled(self, view: _View, value: ir.Value) -> list[_View] | None:
        dims = self.facts.dims(value)
        if not dims or not isinstance(dims[-1], int) or dims[-1] % self.row:
            return None
        for outer in range(len(dims)):
            ahead = exact_quotient(product(dims[:outer]), self.carried)
            behind = [dim for dim in dims[outer:] if isinstance(dim, int)]
            if not isinstance(ahead, int) or len(behind) < len(dims) - outer:
                continue
            shape = [1] * max(outer - 1, 0) + [ahead] * min(outer, 1) + behind[:-1] + [behind[-1] // self.row]
            fits = int(np.prod(shape)) == view.rows.size and (outer or ahead == 1)
            return [_View(outer, view.rows.reshape(shape))] if fits else None
        return None

    def transposed(self, node: ir.Node, given: list[_View]) -> list[_View] | None:
        view, perm = given[0], attribute(node, "perm")
        rank = view.rows.ndim
        if not isinstance(perm, tuple) or perm[: view.outer] != tuple(range(view.outer)):
            return None
        order = [axis for axis in perm if isinstance(axis, int)]
        return [_View(view.outer, view.rows.transpose(order))] if order[-1] == rank - 1 else None

    def sliced(self, node: ir.Node, given: list[_View]) -> list[_View] | None:
        view, cuts = given[0], cuts_of(node, self.facts, self.opset)
        if cuts is None:
            return None
        places = [slice(None)] * view.rows.ndim
        for cut in cuts:
            is_last = cut.axis == view.rows.ndim - 1
            start, end = self.rows_of(cut.start, is_last), self.rows_of(cut.end, is_last)
            if start is None or end is None or cut.axis < view.outer or (is_last and cut.step > 1):
                return None
            places[cut.axis] = slice(start, end, cut.step)
        return [_View(view.outer, view.rows[tuple(places)])]

    def split(self, node: ir.Node, given: list[_View]) -> list[_View] | None:
        view = given[0]
        axis = self.axis(node, view)
        found: list[_View] = []
        start = 0
        for value in node.outputs:
            dims = self.facts.dims(value)
            size = None
            if axis is not None and dims is not None:
                size = self.rows_of(dims[axis], axis == view.rows.ndim - 1)
            if axis is None or size is None:
                return None
            found.append(_View(view.outer, view.rows.take(range(start, start + size), axis)))
            start += size
        return found if axis is not None and start == view.rows.shape[axis] else None

    def joined(self, node: ir.Node, given: list[_View]) -> list[_View] | None:
        axis = self.axis(node, given[0])
        if axis is None or len({view.outer for view in given}) > 1 or len(given) < len(node.inputs):
            return None
        return [_View(given[0].outer, np.concatenate([view.rows for view in given], axis))]

    def gathered(self, node: ir.Node, given: list[_View]) -> list[_View] | None:
        view, array = given[0], constants.array(node.inputs[1])
        axis = self.axis(node, view)
        if array is None or axis is None or axis == view.rows.ndim - 1 or array.ndim > 1:
            return None
        size = view.rows.shape[axis]
        if array.size == 0 or array.min() < -size or array.max() >= size:
            return None
        return [_View(view.outer, view.rows.take(array.astype(np.int64) % size, axis))]


_VIEWS: dict[str, Callable[[_Region, ir.Node, list[_View]], list[_View] | None]] = {
    "Concat": _Region.joined,
    "Gather": _Region.gathered,
    "Slice": _Region.sliced,
    "Split": _Region.split,
    "Transpose": _Region.transposed,
}
