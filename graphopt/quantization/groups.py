"""Groups: operators that are quantized together or not at all.

Operators that take the same quantized value share what its rounding does, and operators with the same weight
share its codes: each such set is one group. Operators without weights follow those around them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import onnx_ir as ir

from graphopt.ir.constants import shape_of
from graphopt.ir.inference import Facts
from graphopt.ir.quant_table import OperatorPlan, QuantTable
from graphopt.ir.quantizable import Weight, weight_of
from graphopt.ir.scoped_names import scopes, scopes_by_graph

__all__ = ["Group", "Member", "groups_of", "weighted_operators"]


@dataclass(frozen=True, slots=True)
class Member:
    """An operator of a group.

    Attributes:
        name: Its scoped name.
        op_type: Its operator.
        weight: Scoped name of its weight.
        size: Elements of the weight.
        channels: Axis of the weight along which each output lies.
        outputs: How many outputs there are.
        depth: Axis of the weight that is summed and may be cut into blocks; None: it may not.
        blocks_of: Positions along that axis.
        input: Scoped name of the value that it takes quantized; None: it looks rows up, or was never seen.
        work: Multiplications in one sample, iterations counted; 0 where they are not known.
        rows: Of its input each time that it runs; None: no fixed number.
    """

    name: str
    op_type: str
    weight: str
    size: int
    channels: int
    outputs: int
    depth: int | None
    blocks_of: int
    input: str | None
    work: float
    rows: int | None = None


@dataclass(frozen=True, slots=True)
class Group:
    """Operators that are quantized together.

    Attributes:
        name: That of the first.
        members: In the order of the model.
        is_integer: Whether they may compute with codes.
    """

    name: str
    members: tuple[Member, ...]
    is_integer: bool

    @property
    def operators(self) -> tuple[str, ...]:
        """Their scoped names."""
        return tuple(member.name for member in self.members)

    @property
    def weights(self) -> dict[str, Member]:
        """Each weight, with the first operator that has it."""
        found: dict[str, Member] = {}
        for member in self.members:
            found.setdefault(member.weight, member)
        return found

    @property
    def work(self) -> float:
        """Multiplications in one sample."""
        return sum(member.work for member in self.members)


def weighted_operators(model: ir.Model) -> dict[str, Weight]:
    """Every operator with a weight, by its scoped name."""
    return {
        f"{scope}{node.name}": weight
        for scope, graph in scopes(model.graph)
        for node in graph
        if (weight := weight_of(node)) is not None
    }


def groups_of(model: ir.Model, table: QuantTable) -> list[Group]:
    """Groups of the operators whose weights a table stores, in the order of the model.

    Args:
        model: The model that the table's names are of.
        table: A table with all in it that may be quantized.
    """
    where, facts = scopes_by_graph(model), Facts(model)
    samples = max(table.calibration.samples if table.calibration is not None else 1, 1)
    members: list[Member] = []
    for name, weight in weighted_operators(model).items():
        plan = table.operators.get(name)
        if plan is not None and plan.mode in ("int8", "weight_only"):
            member = _member(name, weight, plan, table, where, samples)
            members.append(replace(member, rows=_rows(weight, facts)))
    keys = [[f"weight {m.weight}"] + ([f"input {m.input}"] if m.input else []) for m in members]
    return [
        Group(
            members[numbers[0]].name,
            tuple(members[i] for i in numbers),
            all(members[i].input is not None for i in numbers),
        )
        for numbers in _joined(keys)
    ]


def _joined(keys: list[list[str]]) -> list[list[int]]:
    """Numbers of lists that have keys in common, directly or through others; in the order of the first."""
    leader = list(range(len(keys)))

    def lead(i: int) -> int:
        while leader[i] != i:
            leader[i] = leader[leader[i]]
            i = leader[i]
        return i

    owner: dict[str, int] = {}
    for i, named in enumerate(keys):
        for key in named:
            a, b = sorted((lead(owner.setdefault(key, i)), lead(i)))
            leader[b] = a
    found: dict[int, list[int]] = {}
    for i in range(len(keys)):
        found.setdefault(lead(i), []).append(i)
    return list(found.values())


def _member(
    name: str,
    weight: Weight,
    plan: OperatorPlan,
    table: QuantTable,
    where: Mapping[ir.Graph, str],
    samples: int,
) -> Member:
    shape = shape_of(weight.tensor)
    outputs = shape[weight.channels]
    value, producer = weight.value, weight.value.producer()
    graph = value.graph if producer is None else producer.graph
    source = plan.inputs[0] if plan.mode == "int8" and plan.inputs else None
    return Member(
        name,
        weight.node.op_type,
        f"{where[graph] if graph is not None else ''}{value.name}",
        weight.tensor.size,
        weight.channels,
        outputs,
        weight.depth,
        shape[weight.depth] if weight.depth is not None else 0,
        source,
        _work(weight, plan, table, weight.tensor.size, outputs) / samples,
    )


def _rows(weight: Weight, facts: Facts) -> int | None:
    """Rows of a product where every run has the same number."""
    value = weight.node.inputs[0]
    dims = facts.dims(value) if value is not None and weight.is_matrix else None
    if not dims:
        return None
    rows = 1
    for dim in dims[:-1]:
        if not isinstance(dim, int):
            return None
        rows *= dim
    return rows


def _work(weight: Weight, plan: OperatorPlan, table: QuantTable, size: int, outputs: int) -> float:
    """Multiplications over all samples, from how many numbers calibration has seen."""

    def count(name: str | None) -> int:
        seen = table.tensors[name].observed if name is not None and name in table.tensors else None
        return seen.count if seen is not None else 0

    if plan.mode != "int8" or weight.is_table:
        return 0.0
    if weight.node.op_type == "Conv" and plan.outputs:
        return float(count(plan.outputs[0])) * size / outputs
    taken = float(count(plan.inputs[0] if plan.inputs else None))
    if weight.is_matrix:
        return taken * outputs
    # ConvTranspose: every number of the input meets its channel's part of the weight.
    return taken * size / max(shape_of(weight.tensor)[0], 1)
