"""Einsum: looks, sums and matrix products, two operands at a time.

    "bhqd,bkhd->bhqk"   batch b h, rows q, columns k, depth d: matmul of two looks, no copy

Labels of one operand that nobody asks for later are summed before; a diagonal is a look whose stride is the
sum of two. A dim of 1 that meets a longer one is left out of its operand, which is what broadcasting means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.dims import Dim, product
from graphopt.ir.element_types import FLOATS
from graphopt.lowering.builder import Builder
from graphopt.lowering.program import ABSENT, dense_strides
from graphopt.lowering.regions import Region, bind, lay_out, region_of
from graphopt.lowering.registry import NotLowered, lowers

__all__: list[str] = []

_T = ir.DataType
# What both `matmul` and `reduce` compute with.
TYPES = FLOATS | {_T.INT32, _T.INT64, _T.UINT32, _T.UINT64}
SUM, DROP_DIMS = 0, 0
PLAIN_PRODUCT = (1.0, 0.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Term:
    """An operand with a name for each of its dims."""

    region: Region
    labels: tuple[str, ...]

    def size(self, label: str) -> Dim:
        """The dim of that name."""
        return self.region.dims[self.labels.index(label)]

    def ordered(self, labels: Sequence[str]) -> Region:
        """With its dims in that order."""
        return self.region.transposed([self.labels.index(label) for label in labels])


@lowers("Einsum")
def einsum(build: Builder, node: ir.Node) -> NotLowered | None:
    """From left to right."""
    regions = [region_of(build, build.register(value)) for value in node.inputs]
    if build.dtype(node.outputs[0]) not in TYPES:
        return NotLowered("element type")
    if any(region is None for region in regions):
        return NotLowered("dims that are not known before")
    known = [region for region in regions if region is not None]
    parsed = _labels(str(attribute(node, "equation", "")), known)
    if parsed is None:
        return NotLowered("an equation that does not fit the operands")
    names, result = parsed
    terms = [_diagonal(region, labels) for region, labels in zip(known, names, strict=True)]
    if any(term is None for term in terms):
        return NotLowered("a diagonal of dims that are not proven equal")
    whole = _without_broadcasts([term for term in terms if term is not None])
    if whole is None:
        return NotLowered("dims that are not proven equal")
    left = whole[0]
    for number, right in enumerate(whole[1:], 1):
        later = {*result, *(label for term in whole[number + 1 :] for label in term.labels)}
        left = _multiplied(build, node, left, right, later)
    left = _summed(build, node, left, set(result))
    if set(result) - set(left.labels):
        return NotLowered("labels of the result that no operand has")
    ordered = left.ordered(result)
    if ordered.dims != build.dims(node.outputs[0]):
        return NotLowered("dims that are not proven equal")
    if not bind(build, node.outputs[0], ordered):
        lay_out(build, node, ordered)
    return None


def _labels(equation: str, regions: Sequence[Region]) -> tuple[list[tuple[str, ...]], tuple[str, ...]] | None:
    """Names of each operand's dims and of the result's; dims of an ellipsis are numbered from the last."""
    written, arrow, wanted = equation.replace(" ", "").partition("->")
    parts = written.split(",")
    if len(parts) != len(regions):
        return None
    names: list[tuple[str, ...]] = []
    most = 0
    for part, region in zip(parts, regions, strict=True):
        hidden = len(region.dims) - len(part.replace("...", ""))
        if hidden < 0 or (hidden > 0 and "..." not in part):
            return None
        most = max(most, hidden)
        names.append(_spelled(part, hidden))
    if not arrow:
        letters = [letter for letter in written if letter.isalpha()]
        wanted = "..." * ("..." in written) + "".join(
            sorted(x for x in set(letters) if letters.count(x) == 1)
        )
    result = _spelled(wanted, most if "..." in wanted else 0)
    return (names, result) if len(set(result)) == len(result) else None


def _spelled(part: str, hidden: int) -> tuple[str, ...]:
    before, dots, after = part.partition("...")
    middle = [f"...{place}" for place in reversed(range(hidden))] if dots else []
    return (*before, *middle, *after)


def _diagonal(region: Region, labels: tuple[str, ...]) -> Term | None:
    """Dims of the same name become one."""
    dims: dict[str, Dim] = {}
    strides: dict[str, Dim] = {}
    for label, dim, stride in zip(labels, region.dims, region.strides, strict=True):
        if dims.setdefault(label, dim) != dim:
            return None
        strides[label] = strides[label] + stride if label in strides else stride
    return Term(
        Region(region.base, tuple(dims.values()), tuple(strides.values()), region.offset), tuple(dims)
    )


def _without_broadcasts(terms: Sequence[Term]) -> list[Term] | None:
    """Dims of 1 that meet others left out; None where dims of one name are not proven equal."""
    sizes: dict[str, Dim] = {}
    for term in terms:
        for label, dim in zip(term.labels, term.region.dims, strict=True):
            if sizes.setdefault(label, dim) == 1:
                sizes[label] = dim
    found: list[Term] = []
    for term in terms:
        for label in term.labels:
            if term.size(label) == sizes[label]:
                continue
            if term.size(label) != 1:
                return None
            place = term.labels.index(label)
            labels = term.labels[:place] + term.labels[place + 1 :]
            term = Term(term.region.without(place), labels)
        found.append(term)
    return found


def _summed(build: Builder, node: ir.Node, term: Term, kept: set[str]) -> Term:
    """The term without labels that nobody asks for."""
    axes = [axis for axis, label in enumerate(term.labels) if label not in kept]
    if not axes:
        return term
    labels = tuple(label for label in term.labels if label in kept)
    dims = tuple(term.size(label) for label in labels)
    total = build.temporary(build.dtype(node.outputs[0]) or 0, dims)
    build.emit("reduce", [_look(build, term.region)], [total], ints=[SUM, DROP_DIMS, 0, *axes])
    return Term(Region(total, dims, dense_strides(dims)), labels)


def _multiplied(build: Builder, node: ir.Node, left: Term, right: Term, later: set[str]) -> Term:
    """The product of two terms, summed over what nobody asks for later."""
    left = _summed(build, node, left, later | set(right.labels))
    right = _summed(build, node, right, later | set(left.labels))
    shared = [label for label in left.labels if label in right.labels]
    batch = [label for label in shared if label in later]
    depth = [label for label in shared if label not in later]
    rows = [label for label in left.labels if label not in shared]
    columns = [label for label in right.labels if label not in shared]
    outer = tuple(left.size(label) for label in batch)
    a = _matrix(build, node, left, batch, rows, depth)
    b = _matrix(build, node, right, batch, depth, columns)
    height, width = (
        product(tuple(t.size(x) for x in labels)) for t, labels in ((left, rows), (right, columns))
    )
    made = build.temporary(build.dtype(node.outputs[0]) or 0, (*outer, height, width))
    build.emit("matmul", [a, b, ABSENT, ABSENT], [made], ints=(0, 0), floats=PLAIN_PRODUCT)
    dims = (*outer, *(left.size(label) for label in rows), *(right.size(label) for label in columns))
    return Term(Region(made, dims, dense_strides(dims)), (*batch, *rows, *columns))


def _matrix(
    build: Builder,
    node: ir.Node,
    term: Term,
    batch: Sequence[str],
    rows: Sequence[str],
    columns: Sequence[str],
) -> int:
    """A register [batch..., rows, columns] with several labels joined to one dim: a look, or a copy."""
    ordered = term.ordered((*batch, *rows, *columns))
    outer = ordered.dims[: len(batch)]
    height, width = (product(tuple(term.size(label) for label in labels)) for labels in (rows, columns))
    joined = ordered.reshaped((*outer, height, width))
    if joined is not None:
        return _look(build, joined)
    made = build.temporary(build.dtype(node.outputs[0]) or 0, (*outer, height, width))
    inner = build.look(made, ordered.dims, dense_strides(ordered.dims))
    build.emit("copy", [_look(build, ordered)], [inner])
    return made


def _look(build: Builder, region: Region) -> int:
    return build.look(region.base, region.dims, region.strides, region.offset)
