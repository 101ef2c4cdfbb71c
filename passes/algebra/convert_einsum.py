"""Einsum as the one operator that it comes to.

    before   Einsum("bij,bjk->bik", x, y)    Einsum("bsd,hd->bsh", x, constant)    Einsum("ij->ji", x)
    after    MatMul(x, y)                    MatMul(x, constant')                  Transpose(x)

Runtimes have one slow path for all of Einsum. What would take more than one operator stays; a constant is
put into the order that MatMul wants.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import lazy
from graphopt.ir.element_types import FLOATS
from graphopt.rewriting import Match, Pass, Rejection, constant, ms, op, rule_on
from graphopt.rewriting.weights import LAZY_BYTES

NOT_ONE_OPERATOR = "no single operator does it"
MAY_BROADCAST = "an index may have size 1 in one operand and more in the other"
NOT_FLOAT = "the operands are not known to be floats"


@dataclass(frozen=True)
class _Operand:
    """A value with a letter for each axis."""

    value: ir.Value
    letters: str


def _equation(m: Match) -> tuple[list[_Operand], str] | None:
    """Operands and the result's letters, written out; None where letters repeat or ranks are unknown."""
    text = m.attribute(m.root, "equation")
    if not isinstance(text, str):
        return None
    left, arrow, result = text.replace(" ", "").partition("->")
    terms = left.split(",")
    spare = [c for c in "ZYXWVUTSRQPONMLK" if c not in text]
    longest = 0
    operands: list[_Operand] = []
    for term, value in zip(terms, m.root.inputs, strict=True):
        rank = None if value is None else m.rank(value)
        if value is None or rank is None:
            return None
        named = term.replace("...", "")
        free = rank - len(named)
        if free < 0 or free > len(spare) or (free > 0 and "..." not in term):
            return None
        longest = max(longest, free)
        operands.append(_Operand(value, term.replace("...", "".join(spare[:free][::-1]))))
    letters = "".join(sorted(set("".join(terms).replace(".", ""))))
    if not arrow:
        once = [c for c in letters if "".join(terms).count(c) == 1]
        result = ("..." if longest else "") + "".join(once)
    if longest and "..." not in result:
        return None
    result = result.replace("...", "".join(spare[:longest][::-1]))
    if any(len(set(o.letters)) != len(o.letters) for o in operands) or len(set(result)) != len(result):
        return None
    return operands, result


@rule_on("Einsum", depth=1)
def as_one_operator(m: Match) -> ir.Value | Rejection | None:
    """Einsum("ij,jk->ik", x, y) -> MatMul(x, y)."""
    found = _equation(m)
    if found is None:
        return Rejection(NOT_ONE_OPERATOR, m.output)
    operands, result = found
    if len(operands) == 1:
        return _of_one(operands[0], result)
    if len(operands) != 2 or m.dtype(m.output) not in FLOATS:
        return Rejection(NOT_ONE_OPERATOR if len(operands) != 2 else NOT_FLOAT, m.output)
    if operands[0].letters == operands[1].letters == result:
        return op.Mul(operands[0].value, operands[1].value)
    for one, other in (operands, operands[::-1]):
        product = _product(m, one, other, result)
        if product is not None:
            return product
    return Rejection(NOT_ONE_OPERATOR, m.output)


def _of_one(operand: _Operand, result: str) -> ir.Value | Rejection:
    if sorted(operand.letters) == sorted(result):
        if operand.letters == result:
            return operand.value
        return op.Transpose(operand.value, perm=[operand.letters.index(c) for c in result])
    kept = "".join(c for c in operand.letters if c in result)
    if kept != result:
        return Rejection(NOT_ONE_OPERATOR, operand.value)
    axes = [i for i, c in enumerate(operand.letters) if c not in result]
    return op.ReduceSum(operand.value, axes, keepdims=0)


def _product(m: Match, one: _Operand, other: _Operand, result: str) -> ir.Value | Rejection | None:
    """The operands as the left and the right side of a MatMul; None where they are not."""
    shared = [c for c in one.letters if c in other.letters]
    summed = [c for c in shared if c not in result]
    batch = "".join(c for c in shared if c in result)
    rows = "".join(c for c in one.letters if c not in other.letters)
    columns = "".join(c for c in other.letters if c not in one.letters)
    if len(summed) != 1 or len(columns) != 1 or any(c not in result for c in rows + columns):
        return None
    # Rows beyond the last one are axes that only the left side has: MatMul broadcasts the right side.
    if not rows or (batch and len(rows) > 1) or result != batch + rows + columns:
        return None
    if not _same_sizes(m, one, other, shared):
        return Rejection(MAY_BROADCAST, m.output)
    left = _arranged(m, one, batch + rows + summed[0])
    right = _arranged(m, other, batch + summed[0] + columns)
    if left is not None and right is not None:
        return op.MatMul(left, right)
    if m.editor.target.has("com.microsoft") and m.dtype(m.output) is ir.DataType.FLOAT and len(rows) == 1:
        return _fused(m, (one, batch + rows + summed[0]), (other, batch + summed[0] + columns))
    return None


def _same_sizes(m: Match, one: _Operand, other: _Operand, shared: list[str]) -> bool:
    first, second = m.dims(one.value), m.dims(other.value)
    if first is None or second is None:
        return False
    return all(first[one.letters.index(c)] == second[other.letters.index(c)] for c in shared)


def _arranged(m: Match, operand: _Operand, wanted: str) -> ir.Value | None:
    """The operand with its axes in the order wanted, if that costs no operator."""
    if operand.letters == wanted:
        return operand.value
    tensor = m.tensor(operand.value)
    if tensor is None or len(operand.value.uses()) > 1:
        return None
    moved = lazy.transposed(tensor, [operand.letters.index(c) for c in wanted])
    return constant(moved if tensor.nbytes > LAZY_BYTES else np.ascontiguousarray(moved.numpy()))


def _fused(m: Match, *sides: tuple[_Operand, str]) -> ir.Value | None:
    """onnxruntime's FusedMatMul reads the last two axes of either side exchanged."""
    values: list[ir.Value] = []
    flags: dict[str, int] = {}
    for (operand, wanted), flag in zip(sides, ("transA", "transB"), strict=True):
        value = _arranged(m, operand, wanted)
        if value is None and operand.letters == wanted[:-2] + wanted[:-3:-1]:
            value, flags[flag] = operand.value, 1
        if value is None or len(wanted) < 2:
            return None
        values.append(value)
    fused: ir.Value = ms.FusedMatMul(*values, transA=flags.get("transA"), transB=flags.get("transB"))
    return fused


@dataclass(frozen=True)
class ConvertEinsum(Pass):
    """Write Einsum as MatMul, Mul, Transpose or ReduceSum where one of them does it."""

    name = "convert-einsum"
    family = "algebra"
    stage = "simplify"
    level = 2
    bound = "float32 within a few units in the last place: the products are summed in another order"
    rules = (as_one_operator,)
