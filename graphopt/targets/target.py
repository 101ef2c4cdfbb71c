"""A target is data: which operators it runs, in which opsets, what they cost, which spellings it likes."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir import own_operators
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import Facts
from graphopt.targets import onnxruntime
from graphopt.targets.operators import Cost, OperatorRow, Preference
from graphopt.targets.tables import table
from graphopt.targets.work import SAMPLE, SAMPLES, kernel_of, work_of

# Domains whose operators are for some targets only; who writes those of others knows what he does.
_RESERVED = (onnxruntime.DOMAIN, own_operators.DOMAIN)

# Predicted times that differ by less say nothing: most fits are off by 2 to 25 % of what was measured.
MARGIN = 0.05

# Their work is counted in iterations.
_ITERATING = ("Loop", "Scan")

# An operator without a row is taken for this one of its inputs.
_STAND_IN = "Add"


@dataclass(frozen=True)
class Target:
    """A runtime, or the ONNX standard itself.

    Attributes:
        name: What `--target` calls it.
        newest_opset: The newest version of the default domain that it runs.
        release: The oldest release of the runtime that this is true of.
        domains: Operator domains besides the default one that may be written for it.
        operators: Name of the table of what it runs.
        costs: Name of the table that has its costs.
        start: ns to start any operator, instead of what the table says; None: as the table says.
        without: Element types that it has no kernels for, whatever the table says.
        preferences: Measured spellings: which it likes.
        avoided: Measured spellings that others write and that are slower here.
    """

    name: str
    newest_opset: int
    release: tuple[int, int] | None = None
    domains: tuple[str, ...] = ()
    operators: str = "onnx"
    costs: str = "onnxruntime"
    start: float | None = None
    without: frozenset[ir.DataType] = frozenset()
    preferences: tuple[Preference, ...] = ()
    avoided: tuple[Preference, ...] = ()

    def has(self, domain: str) -> bool:
        """Whether operators of a domain may be written for this target."""
        return domain in ("", *self.domains)

    def row(self, domain: str, op_type: str) -> OperatorRow | None:
        """What is known of an operator here; None: the target does not have it."""
        if not self.has(domain):
            return None
        row = table(self.operators).row(domain, op_type)
        if row is None or (row.dtypes is not None and row.dtypes and row.dtypes <= self.without):
            return None
        dtypes = row.dtypes if row.dtypes is None else row.dtypes - self.without
        return replace(row, dtypes=dtypes, cost=self._cost(domain, op_type))

    def rows(self) -> list[OperatorRow]:
        """Every row."""
        found = (self.row(*key) for key in table(self.operators).keys)
        return [row for row in found if row is not None]

    def runs(self, domain: str, op_type: str, dtype: ir.DataType | None) -> bool:
        """Whether there is a kernel of an operator for an element type."""
        row = self.row(domain, op_type)
        return row is not None and row.takes(dtype)

    def may_write(self, domain: str, op_type: str, version: int) -> bool:
        """Whether a rewrite may write an operator into a model with this version of its operator set."""
        if domain and domain not in _RESERVED:
            return True
        row = table(self.operators).row(domain, op_type) if self.has(domain) else None
        return row is not None and row.covers(version)

    def ends_before(self, domain: str, op_type: str, version: int) -> bool:
        """Whether raising the opset to `version` would leave an operator without a kernel.

        Runtimes stop at a version that only added element types. The standard itself runs nothing: what
        stands in for its costs stands in here, too.
        """
        rows = (table(name).row(domain, op_type) for name in dict.fromkeys((self.operators, self.costs)))
        return any(row is not None and row.until is not None and row.until < version for row in rows)

    # ------------------------------------------------------------------ predicted time

    def cost(self, node: ir.Node, facts: Facts, sample: int = SAMPLE) -> float:
        """Predicted ns of one run of a node, bodies included, with every dynamic dim at `sample`.

        An If counts its slower branch, a Loop its trip count or, where only a run can tell, `sample`
        iterations. A call of a function without a row is the sum of its body.
        """
        inner = [self.cost_of(body, facts, sample) for body in bodies(node)]
        called = None if inner else facts.called(node)
        if called is not None and not (self.has(node.domain) and self._has_cost(node)):
            return self.cost_of(called, facts, sample)
        work = work_of(node, facts, sample)
        own = self._cost(node.domain, kernel_of(node)).ns(work.flops, work.bytes)
        if not inner:
            return own
        if node.op_type == "If":
            return own + max(inner)
        return own + sum(inner) * (work.flops if node.op_type in _ITERATING else sample)

    def cost_of(self, nodes: Iterable[ir.Node], facts: Facts, sample: int = SAMPLE) -> float:
        """Predicted ns of nodes (of a graph: of all in it), one after the other."""
        return math.fsum(self.cost(node, facts, sample) for node in nodes)

    def is_slower(self, new: Iterable[ir.Node], old: Iterable[ir.Node], facts: Facts) -> bool:
        """Whether new nodes take longer than old ones, by more than MARGIN, at any of the sample sizes."""
        old, new = list(old), list(new)
        return any(self.cost_of(new, facts, n) > self.cost_of(old, facts, n) * (1 + MARGIN) for n in SAMPLES)

    def _has_cost(self, node: ir.Node) -> bool:
        return table(self.costs).row(node.domain, node.op_type) is not None

    def _cost(self, domain: str, op_type: str) -> Cost:
        prices = table(self.costs)
        row = prices.row(domain, op_type) or prices.row("", _STAND_IN)
        assert row is not None, "the table has the stand-in"
        cost = row.cost
        if self.start is not None and cost.a > 0:  # a Constant is made at load
            again = self.start if op_type in _ITERATING else cost.b
            cost = replace(cost, a=self.start, b=again)
        is_own = self.costs == self.operators and self.start is None
        return cost if is_own else replace(cost, source=f"stands in: {cost.source}")


_TARGETS = {
    target.name: target
    for target in (
        # No runtime: its rows are the standard's, and onnxruntime's costs stand in.
        Target("onnx", 23),
        # 1.27 is the oldest release that graphopt installs with: it runs opset 23 (from 1.23 on), and its
        # FusedConv adds the sum right (before, ResNet-50 was wrong by half at full optimization).
        Target(
            "onnxruntime",
            23,
            release=(1, 27),
            domains=(onnxruntime.DOMAIN,),
            operators="onnxruntime",
            preferences=onnxruntime.PREFERENCES,
            avoided=onnxruntime.AVOIDED,
        ),
        # Until its kernels are measured, onnxruntime's cost a flop and a byte stand in. Starting one took
        # 9 to 20 ns in a prototype, where onnxruntime took 270.
        Target(
            "graphopt",
            23,
            domains=(own_operators.DOMAIN,),
            start=20.0,
            without=frozenset({ir.DataType.STRING}),
        ),
    )
}


def names() -> list[str]:
    """Names of all targets."""
    return list(_TARGETS)


def find(name: str) -> Target:
    """The target of that name.

    Raises:
        UsageError: If there is none.
    """
    if name not in _TARGETS:
        raise UsageError(f"there is no target {name!r}: {', '.join(_TARGETS)}")
    return _TARGETS[name]
