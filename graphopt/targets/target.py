"""A target is data: which operators it runs, from which opset on, and which spellings it likes."""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.targets import onnxruntime
from graphopt.targets.operators import OperatorRow


@dataclass(frozen=True)
class Target:
    """A runtime, or the ONNX standard itself.

    Attributes:
        name: What `--target` calls it.
        newest_opset: The newest version of the default domain that it runs.
        domains: Operator domains besides the default one that may be written for it.
        counts_calls: Whether a call of an `ai.graphopt` operator counts as one operator.
        operators: What it runs of those domains.
    """

    name: str
    newest_opset: int
    domains: tuple[str, ...] = ()
    counts_calls: bool = False
    operators: tuple[OperatorRow, ...] = ()

    def has(self, domain: str) -> bool:
        """Whether operators of a domain may be written for this target."""
        return domain in ("", *self.domains)

    def runs(self, domain: str, op_type: str, dtype: ir.DataType | None) -> bool:
        """Whether there is a kernel of an operator besides the standard's, for an element type."""
        rows = (row for row in self.operators if (row.domain, row.op_type) == (domain, op_type))
        return any(dtype in row.dtypes for row in rows)


_TARGETS = {
    # onnxruntime 1.27 is the oldest release that graphopt installs with: it runs opset 23 (from 1.23 on), and
    # its FusedConv adds the sum right (before, ResNet-50 was wrong by half at full optimization).
    target.name: target
    for target in (
        Target("onnx", 23),
        Target("onnxruntime", 23, (onnxruntime.DOMAIN,), operators=onnxruntime.OPERATORS),
        Target("graphopt", 23, ("ai.graphopt",), counts_calls=True),
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
