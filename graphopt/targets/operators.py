"""What a table of a target says of an operator, and of one spelling against another."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class Cost:
    """Predicted time of one run in ns: a + b*flops + c*bytes.

    Attributes:
        a: To start it.
        b: A floating-point operation; of a Loop or Scan an iteration, its operators left out.
        c: A byte read or written.
        source: Who measured it on what; the operator that it was measured of, where that is another one.
    """

    a: float
    b: float
    c: float
    source: str

    def ns(self, flops: int, nbytes: int) -> float:
        """The time for so much work."""
        return self.a + self.b * flops + self.c * nbytes


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """An operator of a target.

    Attributes:
        domain: Its domain.
        op_type: Its name.
        since: The first version of its domain's operator set in which the target runs it.
        until: The last one; None: it still does.
        dtypes: Element types of its main operand that there are kernels for; None: all of them.
        has_body: Whether other types, and versions without a kernel, run as the operators of its function.
        cost: What it costs there.
    """

    domain: str
    op_type: str
    since: int
    until: int | None
    dtypes: frozenset[ir.DataType] | None
    has_body: bool
    cost: Cost

    def covers(self, version: int) -> bool:
        """Whether the target runs it in this version of its operator set."""
        return self.since <= version and (self.until is None or version <= self.until)

    def takes(self, dtype: ir.DataType | None) -> bool:
        """Whether there is a kernel for an element type; there is none for an unknown one."""
        return dtype is not None and (self.dtypes is None or dtype in self.dtypes)


@dataclass(frozen=True, slots=True)
class Preference:
    """One spelling against another that gives the same answers.

    Attributes:
        before: The spelling that models have.
        after: The spelling that the target likes, or the one that it is measured not to like.
        shape: What was measured.
        microseconds: Time of both, with one thread.
        source: Who measured it on what.
    """

    before: str
    after: str
    shape: str
    microseconds: tuple[float, float]
    source: str

    @property
    def ratio(self) -> float:
        """Time of `after` over that of `before`."""
        return self.microseconds[1] / self.microseconds[0]
