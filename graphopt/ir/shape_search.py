"""How a small integer tensor can be computed from the dims of values: a search for cheap terms.

elements (batch, 1, 2*seq), available x[batch, seq, 256]
Concat(Shape<end=1>(x), [1], Mul(Shape<start=1, end=2>(x), 2))           4 nodes
"""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence

import onnx_ir as ir

from graphopt.ir.dims import Dim, Expr, Kind, low, product, terms_of
from graphopt.ir.dims.expression import Atom, expression, of_atom
from graphopt.ir.dims.parts import content, lines, number_and_modulus, numerator_and_divisor
from graphopt.ir.shape_terms import Source, Term, cost

__all__ = ["TermSearch"]

# Shape has `start` and `end` from here on.
SHAPE_SLICES_SINCE = 15

# Min and Max take integers, and Mod is there, from here on.
INTEGER_EXTREMES_SINCE = 12
MOD_SINCE = 10

# Ways to compute one element that are kept: the cheapest alone, and others that may share nodes; and how
# many of them may differ by the value that is read only.
KEPT_WAYS = 6
ALIKE = 2

# Values whose dims are looked at for one expression, best first.
SOURCES_TRIED = 6

# Elements of a tensor that is rebuilt; pads of a 5-D tensor have 10.
LONGEST = 16


class TermSearch:
    """Finds terms for tensors, given the values whose dims may be read.

    Args:
        sources: The values, best first.
        opset: Version of the default domain.
        divisions: Quotients (FLOORDIV atoms) that may be computed. That of a window's size may only be read:
            runtimes round in their own ways where the window is larger than the input.
    """

    def __init__(self, sources: Sequence[Source], opset: int, divisions: Container[Atom] = ()) -> None:
        self._opset = opset
        self._divisions = divisions
        self._sources = sources
        self._terms: dict[tuple[object, ...], Term] = {}
        self._ways: dict[tuple[Dim, int], list[Term]] = {}
        self._whole: dict[tuple[Dim, ...], list[Term]] = {}
        self._vectors: dict[Dim, list[Term]] = {}
        self._at: dict[Dim, list[tuple[Source, int]]] = {}
        for source in sources:
            for axis, dim in enumerate(source.dims):
                if type(dim) is Expr:
                    found = self._at.setdefault(dim, [])
                    if len(found) < SOURCES_TRIED and all(known is not source for known, _ in found):
                        found.append((source, axis))

    def find(
        self,
        elements: tuple[Dim, ...],
        dims: tuple[int, ...],
        dtype: ir.DataType,
        known: Container[Term],
        limit: int,
    ) -> Term | None:
        """The term of a tensor that needs the fewest nodes beyond those of `known`; None: there is none.

        Args:
            elements: Contents, row-major.
            dims: Shape of the tensor.
            dtype: Element type; other than int64 costs a Cast.
            known: Terms that are there already.
            limit: The term must be available before the node at this place.
        """
        if len(elements) > LONGEST:
            return None
        if len(dims) == 0:
            ways = [*self._one(elements[0], 0), *self._picked(elements, 0, known)]
        else:
            ways = self._vector(elements, known, limit)
        best = _cheapest([way for way in ways if way.place < limit], known)
        if best is None:
            return None
        if len(dims) > 1:
            best = self._make("Reshape", (best,), dims, None, elements, len(dims))
        if dtype is not ir.DataType.INT64:
            best = self._make("Cast", (best,), (int(dtype),), None, elements, len(dims))
        return best

    # ------------------------------------------------------------------ vectors

    def _vector(self, elements: tuple[Dim, ...], known: Container[Term], limit: int) -> list[Term]:
        """Ways to make a vector: at once, or side by side from parts."""
        ways = self._at_once(elements, known)
        joined = self._joined(elements, known, limit)
        return [*ways, joined] if joined is not None else ways

    def _at_once(self, elements: tuple[Dim, ...], known: Container[Term]) -> list[Term]:
        if all(type(element) is int for element in elements):
            return [self._constant(elements, 1)]
        if len(elements) == 1:
            return [*self._one(elements[0], 1), *self._picked(elements, 1, known)]
        return [*self._alone(elements), *self._picked(elements, 1, known)]

    def _alone(self, elements: tuple[Dim, ...]) -> list[Term]:
        """Ways that need nothing but sources."""
        found = self._whole.get(elements)
        if found is None:
            ways = dict.fromkeys([*self._read(elements), *self._scaled(elements)])
            found = self._whole[elements] = sorted(ways, key=lambda way: len(way.nodes))[: 2 * KEPT_WAYS]
        return found

    def _joined(self, elements: tuple[Dim, ...], known: Container[Term], limit: int) -> Term | None:
        """The cheapest Concat: best[i] are parts that make the first i elements."""
        best: list[tuple[frozenset[Term], tuple[Term, ...]] | None] = [(frozenset(), ())]
        for end in range(1, len(elements) + 1):
            best.append(None)
            for start in range(end):
                before = best[start]
                if before is None or (start == 0 and end == len(elements)):
                    continue
                for part in self._part(elements, start, end, known, limit):
                    nodes = before[0] | {term for term in part.nodes if term not in known}
                    current = best[end]
                    if current is None or len(nodes) < len(current[0]):
                        best[end] = (nodes, (*before[1], part))
        found = best[-1]
        return None if found is None else self._make("Concat", found[1], (), None, elements, 1)

    def _part(
        self, elements: tuple[Dim, ...], start: int, end: int, known: Container[Term], limit: int
    ) -> list[Term]:
        """Ways to make a part of a vector; numbers side by side are one part."""
        numbers = [type(element) is int for element in elements[start:end]]
        if all(numbers):
            beside = [type(e) is int for e in (*elements[start - 1 : start], *elements[end : end + 1])]
            return [] if any(beside) else [self._constant(elements[start:end], 1)]
        ways = self._at_once(elements[start:end], known)
        return [way for way in ways if way.place < limit]

    def _read(self, elements: tuple[Dim, ...]) -> list[Term]:
        """Shape of a value, part of it, or a choice of its dims."""
        ways: list[Term] = []
        first = next(i for i, element in enumerate(elements) if type(element) is Expr)
        for source, _ in self._at.get(elements[first], ()):
            runs = [
                start
                for start in range(len(source.dims))
                if source.dims[start : start + len(elements)] == elements
            ]
            if runs:
                ways.append(self._dims_of(source, runs[0], runs[0] + len(elements)))
            elif all(element in source.dims for element in elements):
                indices = tuple(source.dims.index(element) for element in elements)
                ways.append(self._gathered(self._dims_of(source, 0, len(source.dims)), indices))
        return ways

    def _scaled(self, elements: tuple[Dim, ...]) -> list[Term]:
        """factors * Shape(x) + offsets, or quotients, for all elements at once."""
        ways: list[Term] = []
        for source in self._sources[: 4 * SOURCES_TRIED]:
            for start in range(len(source.dims) - len(elements) + 1):
                found = lines(elements, source.dims[start : start + len(elements)])
                if found is not None:
                    made = self._dims_of(source, start, start + len(elements))
                    ways.append(self._affine(made, [f for f, _ in found], [o for _, o in found], elements))
        ways.extend(self._quotients(elements))
        ways.extend(self._differences(elements))
        return ways

    def _quotients(self, elements: tuple[Dim, ...]) -> list[Term]:
        """x // k, or x - k * (x // k), for all elements at once."""
        for op_type, parts in (("Div", numerator_and_divisor), ("Mod", number_and_modulus)):
            pairs = [pair for element in elements if (pair := parts(element, self._divisions)) is not None]
            if len(pairs) == len(elements) and (op_type == "Div" or self._opset >= MOD_SINCE):
                divisors = self._constant(tuple([divisor for _, divisor in pairs]), 1)
                wholes = self._at_once(tuple([whole for whole, _ in pairs]), ())[:KEPT_WAYS]
                return [self._make(op_type, (whole, divisors), (), None, elements, 1) for whole in wholes]
        return []

    def _differences(self, elements: tuple[Dim, ...]) -> list[Term]:
        """The dims of one value less those of another."""
        if any(type(element) is int for element in elements):
            return []
        ways: list[Term] = []
        for source in self._sources[: 4 * SOURCES_TRIED]:
            for start in range(len(source.dims) - len(elements) + 1):
                run = source.dims[start : start + len(elements)]
                rest = tuple([dim - element for dim, element in zip(run, elements, strict=True)])
                taken = next((way for way in self._runs(rest)), None)
                if taken is not None:
                    left = self._dims_of(source, start, start + len(elements))
                    ways.append(self._make("Sub", (left, taken), (), None, elements, 1))
        return ways[:KEPT_WAYS]

    def _runs(self, elements: tuple[Dim, ...]) -> Iterator[Term]:
        """Neighbouring dims of one value."""
        for source, axis in self._at.get(elements[0], ()):
            if source.dims[axis : axis + len(elements)] == elements:
                yield self._dims_of(source, axis, axis + len(elements))

    def _affine(self, made: Term, factors: list[int], offsets: list[int], elements: tuple[Dim, ...]) -> Term:
        if any(factor != 1 for factor in factors):
            scaled = tuple(e - o for e, o in zip(elements, offsets, strict=True))
            made = self._make("Mul", (made, self._constant(tuple(factors), 1)), (), None, scaled, 1)
        if any(offsets):
            made = self._make("Add", (made, self._constant(tuple(offsets), 1)), (), None, elements, 1)
        return made

    def _picked(self, elements: tuple[Dim, ...], rank: int, known: Container[Term]) -> list[Term]:
        """Elements picked from a vector that is there already."""
        first = next((element for element in elements if type(element) is Expr), None)
        ways = []
        for term in self._vectors.get(first, ()) if first is not None else ():
            if term in known and term.elements != elements and all(e in term.elements for e in elements):
                indices = tuple(term.elements.index(element) for element in elements)
                ways.append(self._gathered(term, indices, rank))
        return sorted(ways, key=lambda way: len(way.nodes))[:KEPT_WAYS]

    # ------------------------------------------------------------------ single elements

    def _one(self, element: Dim, rank: int) -> list[Term]:
        """Ways to make one element, as a vector of length 1 or as a scalar."""
        if type(element) is not Expr:
            return [self._constant((element,), rank)]
        key = (element, rank)
        found = self._ways.get(key)
        if found is None:
            self._ways[key] = []  # an expression is no part of itself
            ways = self._read_one(element, rank) + self._computed(element, rank)
            if rank == 0:
                ways += [
                    self._make("Squeeze", (way,), (), None, (element,), 0) for way in self._one(element, 1)
                ]
            unique = dict.fromkeys(ways)
            found = self._ways[key] = sorted(unique, key=lambda way: len(way.nodes))[:KEPT_WAYS]
        return found

    def _read_one(self, element: Expr, rank: int) -> list[Term]:
        ways: list[Term] = []
        # Of values with one dim the first are as good as all: ways of other kinds must find room too.
        for source, axis in self._at.get(element, ())[:ALIKE]:
            if rank == 1:
                ways.append(self._dims_of(source, axis, axis + 1))
            else:
                ways.append(self._gathered(self._dims_of(source, 0, len(source.dims)), (axis,), 0))
        ways.extend(self._products(element, rank))
        return ways

    def _products(self, element: Expr, rank: int) -> list[Term]:
        """The number of elements of a value, or the product of neighbouring dims."""
        ways: list[Term] = []
        for source in self._sources[: 4 * SOURCES_TRIED]:
            count = len(source.dims)
            if count > 1 and product(source.dims) == element and rank == 0:
                ways.append(self._make("Size", (), (), source, (element,), 0))
            for start in range(count - 1):
                for end in range(start + 2, count + 1):
                    if product(source.dims[start:end]) == element:
                        run = self._dims_of(source, start, end)
                        ways.append(self._make("ReduceProd", (run,), (), None, (element,), rank))
        return ways[:KEPT_WAYS]

    def _computed(self, element: Expr, rank: int) -> list[Term]:
        """By arithmetic on simpler expressions."""
        terms = terms_of(element)
        offset = terms[-1][1] if not terms[-1][0] else 0
        factor, rest = content(element - offset)
        if offset or factor != 1:
            return self._line_of(rest, factor, offset, element, rank)
        if len(terms) > 1:
            return self._remainder(element, rank) + self._sum(element, rank)
        monomial = terms[0][0]
        if len(monomial) > 1:
            return self._binary("Mul", of_atom(monomial[0]), expression({monomial[1:]: 1}), element, rank)
        return self._of_atom(monomial[0], element, rank)

    def _line_of(self, rest: Dim, factor: int, offset: int, element: Expr, rank: int) -> list[Term]:
        """factor * rest + offset, with rest free of both."""
        if factor < 0:
            return self._binary("Sub", offset, offset - element, element, rank)
        if offset > 0:
            return self._binary("Add", element - offset, offset, element, rank)
        if offset < 0:
            return self._binary("Sub", element - offset, -offset, element, rank)
        return self._binary("Mul", rest, factor, element, rank)

    def _remainder(self, element: Expr, rank: int) -> list[Term]:
        pair = number_and_modulus(element, self._divisions) if self._opset >= MOD_SINCE else None
        return [] if pair is None else self._binary("Mod", *pair, element, rank)

    def _sum(self, element: Expr, rank: int) -> list[Term]:
        first = next((term for term in terms_of(element) if term[1] > 0), terms_of(element)[0])
        left = expression(dict([first]))
        rest = element - left
        if terms_of(rest)[0][1] < 0:
            return self._binary("Sub", left, -rest, element, rank)
        return self._binary("Add", left, rest, element, rank)

    def _of_atom(self, factor: Atom, element: Expr, rank: int) -> list[Term]:
        if factor.kind is Kind.FLOORDIV and factor not in self._divisions:
            return []
        if factor.kind is Kind.FLOORDIV:
            numerator, divisor = factor.args
            # Div cuts towards zero, which is down only for what is not negative.
            if (low(numerator) or -1) < 0 and low(numerator) != 0:
                return []
            return self._binary("Div", numerator, divisor, element, rank)
        if factor.kind in (Kind.MIN, Kind.MAX) and self._opset >= INTEGER_EXTREMES_SINCE:
            inputs = [ways[0] for arg in factor.args if (ways := self._one(arg, rank))]
            if len(inputs) == len(factor.args):
                name = "Min" if factor.kind is Kind.MIN else "Max"
                return [self._make(name, tuple(inputs), (), None, (element,), rank)]
        return []

    def _binary(self, op_type: str, a: Dim, b: Dim, element: Expr, rank: int) -> list[Term]:
        ways: list[Term] = []
        for left in self._one(a, rank)[:2]:
            for right in self._one(b, rank)[:2]:
                ways.append(self._make(op_type, (left, right), (), None, (element,), rank))
        return ways

    # ------------------------------------------------------------------ terms

    def _constant(self, numbers: Sequence[Dim], rank: int) -> Term:
        found = tuple(number for number in numbers if type(number) is int)
        return self._make("", (), found, None, found, rank)

    def _dims_of(self, source: Source, start: int, end: int) -> Term:
        whole = start == 0 and end == len(source.dims)
        if whole or self._opset >= SHAPE_SLICES_SINCE:
            bounds = () if whole else (start, end)
            return self._make("Shape", (), bounds, source, source.dims[start:end], 1)
        return self._gathered(self._dims_of(source, 0, len(source.dims)), tuple(range(start, end)))

    def _gathered(self, term: Term, indices: tuple[int, ...], rank: int = 1) -> Term:
        elements = tuple(term.elements[index] for index in indices)
        return self._make("Gather", (term,), indices, None, elements, rank)

    def _make(
        self,
        op_type: str,
        inputs: tuple[Term, ...],
        numbers: tuple[int, ...],
        source: Source | None,
        elements: tuple[Dim, ...],
        rank: int,
    ) -> Term:
        key = (op_type, inputs, numbers, source.value if source is not None else None, rank)
        found = self._terms.get(key)
        if found is None:
            found = self._terms[key] = Term(op_type, inputs, numbers, source, elements, rank)
            if rank == 1 and op_type not in ("", "Cast", "Reshape"):
                for element in dict.fromkeys(elements):
                    self._vectors.setdefault(element, []).append(found)
        return found


def _cheapest(ways: Sequence[Term], known: Container[Term]) -> Term | None:
    return min(ways, key=lambda way: cost(way, known), default=None)
