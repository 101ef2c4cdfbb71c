"""The tables of operators: JSON beside this file, one line an operator, written by `benchmarks/costs.py`.

A table is read when it is first asked for (2 ms), a row is made of its line when it is.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import NotRequired, TypedDict

import onnx_ir as ir

from graphopt.targets.operators import Cost, OperatorRow

__all__ = ["Table", "table"]

_ALL_TYPES = "*"


class _Line(TypedDict):
    since: int
    dtypes: str
    until: NotRequired[int]
    body: NotRequired[bool]
    a: NotRequired[float]
    b: NotRequired[float]
    c: NotRequired[float]
    like: NotRequired[str]


class Table:
    """Rows by (domain, operator).

    Attributes:
        source: Which release it speaks of; of costs, who measured them on what.
    """

    def __init__(self, source: str, lines: dict[str, _Line]) -> None:
        self.source = source
        self._lines = lines
        self._rows: dict[tuple[str, str], OperatorRow | None] = {}

    def row(self, domain: str, op_type: str) -> OperatorRow | None:
        """The row of an operator; None: the target does not have it."""
        key = (domain, op_type)
        if key not in self._rows:
            line = self._lines.get(f"{domain}.{op_type}" if domain else op_type)
            self._rows[key] = None if line is None else self._made(domain, op_type, line)
        return self._rows[key]

    @property
    def keys(self) -> list[tuple[str, str]]:
        """(domain, operator) of every row, in the order of the file; kernels beside those are left out."""
        parts = (name.rpartition(".") for name in self._lines if ":" not in name)
        return [(domain, op_type) for domain, _, op_type in parts]

    def _made(self, domain: str, op_type: str, line: _Line) -> OperatorRow:
        like = line.get("like")
        cost = Cost(
            line.get("a", 0.0),
            line.get("b", 0.0),
            line.get("c", 0.0),
            f"{self.source}, {like} in its place" if like else self.source,
        )
        dtypes = None if line["dtypes"] == _ALL_TYPES else _dtypes(line["dtypes"])
        until, has_body = line.get("until"), line.get("body", False)
        return OperatorRow(domain, op_type, line["since"], until, dtypes, has_body, cost)


@cache
def table(name: str) -> Table:
    """The table of that name: "onnx" or "onnxruntime"."""
    found = json.loads(Path(__file__).with_name(f"{name}.json").read_text(encoding="utf-8"))
    return Table(found["source"], found["operators"])


@cache
def _dtypes(text: str) -> frozenset[ir.DataType]:
    return frozenset(ir.DataType[name.upper()] for name in text.split())
