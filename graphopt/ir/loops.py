"""Facts of values that a Loop or Scan carries from one iteration to the next.

Every dim and every integer element that is carried is a slot. A slot is

- invariant, as long as the body gives back what it got;
- linear, where the body adds the same amount each time: its value in iteration i is
  initial + i * amount, so a cache that starts empty and grows by one has i positions;
- varying otherwise: a dim gets a symbol (one for all dims that start equal and are found equal at
  the end of the body, so caches of different length stay apart and equal ones together), an
  element is unknown.

A slot only ever moves down this list, and the body is inferred again until none moves: what then
holds at the start of one iteration holds at the start of the next.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

import onnx_ir as ir

from graphopt.ir.dims import Dim, low
from graphopt.ir.fact import UNKNOWN, Element, Fact, OptionalFact, SequenceFact, TensorFact
from graphopt.ir.graphs import bodies
from graphopt.ir.joins import join
from graphopt.ir.partial_values import INTEGERS

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphopt.ir.inference import Facts

__all__ = ["LoopState", "run_body"]

# Real loops settle in two or three rounds; one that does not is taken as unknown.
MAX_ROUNDS = 12


class Motion(Enum):
    """How a slot changes from iteration to iteration."""

    INVARIANT = 0
    LINEAR = 1
    VARYING = 2


@dataclass(eq=False)
class Slot:
    """One carried dim or integer element."""

    initial: Dim
    motion: Motion = Motion.INVARIANT
    amount: Dim = 0
    symbol: Dim | None = None
    after: Dim | None = None

    def now(self, iteration: Dim) -> Dim | None:
        """The value at the start of an iteration; None: unknown (elements only)."""
        if self.motion is Motion.INVARIANT:
            return self.initial
        if self.motion is Motion.LINEAR:
            return self.initial + iteration * self.amount
        return self.symbol

    def check(self, after: Dim | None, iteration: Dim, inner: Callable[[Dim], bool]) -> bool:
        """Take the value that the body gave back; False if the slot had to move."""
        self.after = after
        before = self.now(iteration)
        if self.motion is Motion.VARYING:
            return True
        if after is not None and before is not None:
            change = after - before
            if change == self.amount:
                return True
            if self.motion is Motion.INVARIANT and not inner(change):
                self.motion, self.amount = Motion.LINEAR, change
                return False
        self.motion = Motion.VARYING
        return False


@dataclass(eq=False)
class Carried:
    """One carried value: its fact at the start, its slots."""

    fact: Fact
    dims: list[Slot] | None = None
    elements: list[Slot | None] | None = None
    fixed: list[Element] = field(default_factory=list)

    def __post_init__(self) -> None:
        if not isinstance(self.fact, TensorFact) or self.fact.dims is None:
            return
        self.dims = [Slot(dim) for dim in self.fact.dims]
        if self.fact.elements is not None:
            integers = self.fact.dtype in INTEGERS
            self.fixed = list(self.fact.elements)
            self.elements = [
                Slot(element) if integers and element is not None else None  # type: ignore[arg-type]
                for element in self.fixed
            ]

    def now(self, iteration: Dim) -> Fact:
        """The fact at the start of an iteration."""
        if not isinstance(self.fact, TensorFact) or self.dims is None:
            return self.fact
        dims = tuple([_dim(slot, iteration) for slot in self.dims])
        elements: tuple[Element, ...] | None = None
        if self.elements is not None and all(slot.motion is Motion.INVARIANT for slot in self.dims):
            elements = tuple(
                [
                    fixed if slot is None else slot.now(iteration)
                    for slot, fixed in zip(self.elements, self.fixed, strict=True)
                ]
            )
            if elements and all(element is None for element in elements):
                elements = None
        return TensorFact(self.fact.dtype, dims, elements)

    def check(self, after: Fact, iteration: Dim, inner: Callable[[Dim], bool], facts: Facts) -> bool:
        """Take the fact at the end of an iteration; False if anything had to move."""
        if not isinstance(after, TensorFact) or not isinstance(self.fact, TensorFact):
            return self._weaken(join(self.fact, after, facts.fresh), inner)
        dtype = self.fact.dtype if self.fact.dtype is after.dtype else None
        settled = dtype is self.fact.dtype
        if self.dims is None or after.dims is None or len(after.dims) != len(self.dims):
            settled = settled and self.dims is None
            self.dims = self.elements = None
            self.fact = TensorFact(dtype, None, None)
            return settled
        self.fact = TensorFact(dtype, self.fact.dims, self.fact.elements)
        checks = [slot.check(dim, iteration, inner) for slot, dim in zip(self.dims, after.dims, strict=True)]
        return self._check_elements(after, iteration, inner) and all(checks) and settled

    def _check_elements(self, after: TensorFact, iteration: Dim, inner: Callable[[Dim], bool]) -> bool:
        if self.elements is None:
            return True
        if after.elements is None or len(after.elements) != len(self.fixed):
            self.elements = None
            return False
        settled = True
        for i, (slot, element) in enumerate(zip(self.elements, after.elements, strict=True)):
            if slot is not None:
                known = element if not isinstance(element, (str, float)) else None
                settled = slot.check(known, iteration, inner) and settled  # type: ignore[arg-type]
            elif self.fixed[i] is not None and not _equal(self.fixed[i], element):
                self.fixed[i] = None
                settled = False
        return settled

    def _weaken(self, joined: Fact, inner: Callable[[Dim], bool]) -> bool:
        """A sequence or optional: what holds before and after; no slots."""
        if joined == self.fact:
            return True
        known = isinstance(joined, (SequenceFact, OptionalFact)) and not _mentions(joined, inner)
        self.fact, self.dims, self.elements = joined if known else UNKNOWN, None, None
        return False


class LoopState:
    """All carried values of one loop, and what is known of them in and after it."""

    def __init__(self, facts: Facts, initial: list[Fact]) -> None:
        self.start = facts.births
        self.iteration = facts.fresh("iteration")
        self.carried = [Carried(fact) for fact in initial]
        self._facts = facts
        self.is_inner = facts.born_since(self.start)

    def now(self) -> list[Fact]:
        """The facts at the start of an iteration."""
        return [carried.now(self.iteration) for carried in self.carried]

    def check(self, after: list[Fact]) -> bool:
        """Take the facts at the end of an iteration; whether they prove those at its start."""
        checks = [
            carried.check(fact, self.iteration, self.is_inner, self._facts)
            for carried, fact in zip(self.carried, after, strict=True)
        ]
        return self._name_varying() and all(checks)

    def _name_varying(self) -> bool:
        """One symbol for all varying dims that were equal so far and are equal now; False if one is new."""
        groups: dict[tuple[Dim, Dim | None, Dim | None], list[Slot]] = {}
        for slot in self._dim_slots():
            if slot.motion is Motion.VARYING:
                groups.setdefault((slot.initial, slot.symbol, slot.after), []).append(slot)
        settled = True
        seen: set[Dim] = set()
        for (_, known, _), slots in groups.items():
            if known is not None and known not in seen:
                seen.add(known)
                continue
            settled = False
            fresh = self._facts.fresh("carried")
            for slot in slots:
                slot.symbol = fresh
        return settled

    def _dim_slots(self) -> list[Slot]:
        return [slot for carried in self.carried for slot in carried.dims or ()]

    def final(self, trips: Dim) -> list[Fact]:
        """The facts after `trips` iterations, none included."""
        names: dict[Dim, Dim] = {}
        for slot in self._dim_slots():
            if slot.symbol is not None and slot.symbol not in names:
                grows = slot.after is not None and (low(slot.after - slot.symbol) or -1) >= 0
                least = low(slot.initial) or 0
                names[slot.symbol] = self._facts.fresh("carried", least if grows else 0)
        return [self._final(carried, trips, names) for carried in self.carried]

    def _final(self, carried: Carried, trips: Dim, names: dict[Dim, Dim]) -> Fact:
        fact = carried.now(trips)
        if not isinstance(fact, TensorFact) or fact.dims is None:
            return fact
        return TensorFact(fact.dtype, tuple([names.get(dim, dim) for dim in fact.dims]), fact.elements)

    def stacked(self, fact: Fact, trips: Dim, axis: int) -> Fact:
        """The fact of a scan output: one slice an iteration, side by side along `axis`.

        Without any iteration there is no slice to take dims from: onnxruntime then writes 0 for those that
        it does not know, so only numbers are certain.
        """
        if not isinstance(fact, TensorFact) or fact.dims is None:
            return TensorFact(fact.dtype if isinstance(fact, TensorFact) else None, None, None)
        runs = (low(trips) or 0) >= 1
        dims = [
            dim if type(dim) is int or (runs and not self.is_inner(dim)) else self._facts.fresh("scanned")
            for dim in fact.dims
        ]
        axis = axis + len(dims) + 1 if axis < 0 else axis
        dims.insert(axis, trips)
        return TensorFact(fact.dtype, tuple(dims), None)


def run_body(facts: Facts, body: ir.Graph, state: LoopState, given: list[Fact], first: int) -> list[Fact]:
    """Infer a body until its carried values settle; the facts of its outputs.

    Args:
        facts: The facts to fill in for the body's values.
        body: The graph; its inputs are `given`, then the carried values.
        state: The carried values.
        given: Facts of the inputs that stand before (Loop) the carried values or, where `first` is 0,
            after them (Scan).
        first: Where the carried values begin among the inputs and, for Loop, one earlier among the outputs.
    """
    count = len(state.carried)
    results: list[Fact] = []
    for _ in range(MAX_ROUNDS):
        facts.forget_body(body)
        now = state.now()
        inputs = [*given, *now] if first else [*now, *given]
        for value, fact in zip(body.inputs, inputs, strict=False):
            facts.assume(value, fact)
        results = [facts.of(value) for value in body.outputs]
        begin = max(first - 1, 0)
        if state.check(results[begin : begin + count]):
            return results
    for carried in state.carried:
        carried.fact, carried.dims, carried.elements = UNKNOWN, None, None
    facts.forget_body(body)
    for value in body.inputs:
        facts.assume(value, UNKNOWN)
    return [facts.of(value) for value in body.outputs]


def know_captured(facts: Facts, body: ir.Graph) -> None:
    """Ask for all outer values that a body uses, so that their symbols are older than the body's."""
    inside: set[ir.Value] = set()
    pending = [body]
    used: dict[ir.Value, None] = {}
    while pending:
        graph = pending.pop()
        inside.update(graph.inputs)
        for node in graph:
            inside.update(node.outputs)
            used.update((value, None) for value in node.inputs if value is not None)
            pending.extend(bodies(node))
        used.update((value, None) for value in graph.outputs)
    for value in used:
        if value not in inside:
            facts.of(value)


def _dim(slot: Slot, iteration: Dim) -> Dim:
    value = slot.now(iteration)
    assert value is not None, "a varying dim has a symbol"
    return value


def _equal(a: Element, b: Element) -> bool:
    return type(a) is type(b) and a == b


def _mentions(fact: Fact, inner: Callable[[Dim], bool]) -> bool:
    if isinstance(fact, TensorFact):
        return any(inner(dim) for dim in fact.dims or ())
    return _mentions(fact.element, inner)
