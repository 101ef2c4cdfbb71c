"""What a table of a target says of an operator, and of one spelling against another."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True, slots=True)
class OperatorRow:
    """An operator that a target runs besides the standard's.

    Attributes:
        domain: Its domain.
        op_type: Its name.
        release: The oldest release of the target that it is written for.
        dtypes: Element types of its main operand that there are kernels for.
        at_load: Whether the target writes it by itself when it loads a model: to write it changes no time.
    """

    domain: str
    op_type: str
    release: tuple[int, int]
    dtypes: frozenset[ir.DataType]
    at_load: bool


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
