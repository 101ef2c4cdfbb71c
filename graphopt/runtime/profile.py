"""Where the time of a model goes: by instruction, by node, by kernel."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import onnx_ir as ir

__all__ = ["InstructionTime", "Profile", "Row", "flops_by_node", "profiled"]

# Their time is that of the instructions in their bodies.
CONTROL_FLOW = ("if", "loop", "scan")
REFERENCE = "reference"


@dataclass(frozen=True, slots=True)
class InstructionTime:
    """What an instruction took, over all runs and iterations.

    Attributes:
        nodes: Names of the ONNX nodes that it runs.
        bytes: Read and written.
    """

    kernel: str
    nodes: str
    calls: int
    nanoseconds: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Row:
    """A line of a profile, of one run.

    Attributes:
        share: Of the time of all instructions.
        flops: None: not known of all of its nodes.
    """

    name: str
    kernel: str
    calls: float
    nanoseconds: float
    share: float
    bytes: float
    flops: float | None

    @property
    def gigabytes_per_second(self) -> float:
        """Memory read and written in the time."""
        return self.bytes / self.nanoseconds if self.nanoseconds else 0.0

    @property
    def gigaflops(self) -> float | None:
        """A second."""
        if self.flops is None:
            return None
        return self.flops / self.nanoseconds if self.nanoseconds else 0.0

    @property
    def is_native(self) -> bool:
        """Whether a kernel of ours runs it."""
        return self.kernel != REFERENCE

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        row = asdict(self)
        return row | {
            "gb_per_s": self.gigabytes_per_second,
            "gflop_per_s": self.gigaflops,
            "is_native": self.is_native,
        }


@dataclass(frozen=True, slots=True)
class Profile:
    """A model's time.

    Attributes:
        nanoseconds: Of all instructions, of one run; those of bodies count, the control flow itself not.
        nodes: By ONNX node (instructions that run several: together), longest first.
        kernels: Summed by kernel, longest first.
    """

    runs: int
    nanoseconds: float
    nodes: tuple[Row, ...]
    kernels: tuple[Row, ...]

    @property
    def native_share(self) -> float:
        """Of the time, what kernels of ours take."""
        return sum(row.share for row in self.kernels if row.is_native)

    def to_dict(self) -> dict[str, object]:
        """For JSON."""
        return {
            "runs": self.runs,
            "nanoseconds": self.nanoseconds,
            "native_share": self.native_share,
            "nodes": [row.to_dict() for row in self.nodes],
            "kernels": [row.to_dict() for row in self.kernels],
        }


def profiled(times: Iterable[InstructionTime], runs: int, flops: Mapping[str, int]) -> Profile:
    """The profile of `runs` runs.

    Args:
        times: Of instructions.
        runs: How many there were.
        flops: Of each node that they are known of, for one call.
    """
    counted = [t for t in times if t.calls and t.kernel not in CONTROL_FLOW]
    total = sum(t.nanoseconds for t in counted)
    by_node: dict[tuple[str, str], list[InstructionTime]] = {}
    by_kernel: dict[tuple[str, str], list[InstructionTime]] = {}
    for t in counted:
        by_node.setdefault((t.nodes, t.kernel), []).append(t)
        by_kernel.setdefault((t.kernel, t.kernel), []).append(t)

    def rows(groups: Mapping[tuple[str, str], list[InstructionTime]]) -> tuple[Row, ...]:
        made = [
            Row(
                name,
                kernel,
                sum(t.calls for t in group) / runs,
                sum(t.nanoseconds for t in group) / runs,
                sum(t.nanoseconds for t in group) / total if total else 0.0,
                sum(t.bytes for t in group) / runs,
                _flops(group, flops, runs),
            )
            for (name, kernel), group in groups.items()
        ]
        return tuple(sorted(made, key=lambda row: -row.nanoseconds))

    return Profile(runs, total / runs, rows(by_node), rows(by_kernel))


def _flops(group: Iterable[InstructionTime], flops: Mapping[str, int], runs: int) -> float | None:
    total = 0.0
    seen: set[str] = set()
    for t in group:
        if t.nodes in seen:
            # Another instruction of the same node: its work is counted.
            continue
        seen.add(t.nodes)
        parts = t.nodes.split(", ") if t.nodes not in flops else [t.nodes]
        if not all(part in flops for part in parts):
            return None
        total += sum(flops[part] for part in parts) * t.calls
    return total / runs


def flops_by_node(model: ir.Model, feeds: Mapping[str, object]) -> dict[str, int]:
    """Floating-point operations of one call of each node, where the sizes of these inputs tell them."""
    from graphopt.ir.fact import TensorFact
    from graphopt.ir.inference import Facts
    from graphopt.ir.scopes import nested
    from graphopt.targets.work import flops_of

    facts = Facts(model)
    for value in model.graph.inputs:
        fact, given = facts.of(value), feeds.get(value.name or "")
        if isinstance(fact, TensorFact) and isinstance(given, np.ndarray):
            facts.assume(value, TensorFact(fact.dtype, tuple(given.shape), fact.elements))
    found: dict[str, int] = {}
    for graph in nested(model.graph):
        for node in graph:
            flops = flops_of(node, facts)
            if isinstance(flops, int):
                found[node.name or node.op_type] = flops
    return found
