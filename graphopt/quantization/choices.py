"""What each group may be stored as and compute with, what that takes, and the quant table that says so."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal

import numpy as np
import numpy.typing as npt

from graphopt.ir.quant_table import OperatorPlan, QuantTable, TensorPlan
from graphopt.ir.quantizing import block_grid, channel_grid, dequantized, quantized
from graphopt.quantization.groups import Group, Member

__all__ = ["CHOICES", "Choice", "chosen", "may_be", "restored_weight", "stored_bytes", "weight_plan"]

Array = npt.NDArray[np.generic]
Blocks = Mapping[str, TensorPlan]

# int8: codes of 8 bits, computed with; int7: the same with weights of 7 bits, of which kernels that add pairs
# in 16 bits never overflow; the others compute floats with weights stored so.
Choice = Literal["int8", "int7", "int4", "weight_only", "float16", "float"]
CHOICES: tuple[Choice, ...] = ("int8", "int7", "weight_only", "int4", "float16", "float")

BLOCK = 32


def may_be(group: Group, choice: Choice) -> bool:
    """Whether a group has a form of that kind."""
    if choice in ("int8", "int7"):
        return group.is_integer
    if choice == "int4":
        return all(m.depth is not None and m.blocks_of > BLOCK for m in group.members)
    return True


def stored_bytes(group: Group, choice: Choice) -> int:
    """Bytes of a group's weights and their scales in the file."""
    return sum(_bytes(member, choice) for member in group.weights.values())


def _bytes(member: Member, choice: Choice) -> int:
    if choice == "float":
        return 4 * member.size
    if choice == "float16":
        return 2 * member.size
    if choice == "int4":
        blocks = -(-member.blocks_of // BLOCK) * (member.size // max(member.blocks_of, 1))
        return -(-member.size // 2) + 4 * blocks
    return member.size + 4 * member.outputs


def weight_plan(
    member: Member, choice: Choice, weight: Array, table: QuantTable, blocks: Blocks
) -> TensorPlan | None:
    """How a weight is stored; None: as floats.

    Args:
        member: An operator that has it.
        choice: What its group is.
        weight: Its numbers.
        table: Has the plan with 8 bits.
        blocks: Plans of weights with 4 bits; where there is none, codes are the nearest ones.
    """
    if choice in ("float", "float16"):
        return None
    if choice == "int4":
        found = blocks.get(member.weight)
        if found is None and member.depth is not None:
            found = TensorPlan(block_grid(weight, member.depth, BLOCK), "weight")
        return found
    eight = table.tensors.get(member.weight)
    if eight is None:
        eight = TensorPlan(channel_grid(weight, member.channels), "weight")
    if choice != "int7":
        return eight
    return TensorPlan(channel_grid(weight, eight.grid.axis, bits=7), "weight")


def restored_weight(weight: Array, plan: TensorPlan | None, choice: Choice) -> Array:
    """The numbers that are computed with."""
    if choice == "float16":
        return weight.astype(np.float16).astype(np.float32)
    if plan is None:
        return weight
    codes = plan.codes if plan.codes is not None else quantized(weight, plan.grid)
    return dequantized(codes, plan.grid)


def chosen(
    table: QuantTable,
    groups: Iterable[Group],
    choices: Mapping[str, Choice],
    weights: Mapping[str, Array],
    blocks: Blocks,
    *,
    reasons: Mapping[str, str] | None = None,
    sensitivity: Mapping[str, float] | None = None,
) -> QuantTable:
    """A table in which groups are as chosen.

    Args:
        table: The table with everything quantized that may be.
        groups: All groups of it.
        choices: By a group's name; others are left as they are.
        weights: Numbers of weights by scoped name; of those alone whose form changes.
        blocks: Plans of weights with 4 bits.
        reasons: Why, by a group's name.
        sensitivity: Of a group, by its name.
    """
    tensors, operators = dict(table.tensors), dict(table.operators)
    for group in groups:
        choice = choices.get(group.name)
        for member in group.members:
            plan = operators[member.name]
            if choice is not None:
                plan = _operator(member, plan, choice)
            why = (reasons or {}).get(group.name, plan.reason)
            operators[member.name] = replace(
                plan, reason=why, sensitivity=(sensitivity or {}).get(group.name, plan.sensitivity)
            )
        if choice in (None, "int8", "weight_only"):
            continue
        for name, member in group.weights.items():
            found = weight_plan(member, choice, weights[name], table, blocks)
            if found is None:
                tensors.pop(name, None)
            else:
                tensors[name] = found
    _follow(operators, {name for group in groups for name in group.operators})
    used = {name for plan in operators.values() for name in (*plan.inputs, *plan.outputs)}
    kept = {n: plan for n, plan in tensors.items() if plan.role != "activation" or n in used}
    return replace(table, tensors=kept, operators=operators)


def _operator(member: Member, plan: OperatorPlan, choice: Choice) -> OperatorPlan:
    size = _bytes(member, choice)
    if choice in ("int8", "int7"):
        return replace(plan, bits=8 if choice == "int8" else 7, bytes=size)
    if choice == "float":
        return OperatorPlan("float", bytes=size)
    if choice == "float16":
        return OperatorPlan("float16", 16, bytes=size)
    return OperatorPlan("weight_only", 4 if choice == "int4" else 8, bytes=size, reason=plan.reason)


def _follow(operators: dict[str, OperatorPlan], weighted: set[str]) -> None:
    """Take operators without weights out that no longer have quantized inputs alone."""
    quantized = {n for name in weighted for n in operators[name].outputs}
    for name, plan in list(operators.items()):
        if name in weighted or plan.mode != "int8":
            continue
        if all(n in quantized for n in plan.inputs):
            quantized.update(plan.outputs)
        else:
            del operators[name]
