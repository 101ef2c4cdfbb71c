"""A bias and a residual added in one go.

    before   (x + bias) + residual        LayerNormalization(x + residual)
    after    Sum(x, bias, residual)       LayerNormalization(Sum(x, residual))

onnxruntime adds the operands of a Sum from left to right: not a bit of two Adds changes. It writes the result
once: 0.86 to 1.0 of the time of two Adds. It also leaves a Sum before a LayerNormalization alone, where it
would turn an Add into SkipLayerNormalization if it finds the shapes equal. Its CPU kernel (1.32) takes three
to four times as long as the two operators: 370 instead of 90 us for 256 rows of 256.
"""

from __future__ import annotations

from dataclasses import dataclass

import onnx_ir as ir

from graphopt.rewriting import Match, Pass, Rejection, op, rule, rule_on

NO_BIAS = "none of the operands is a constant vector"
NOT_ALIKE = "the operands are not provably of one shape with three axes"

# Each term beyond the second is one more pass over the result, by one thread.
MOST_TERMS = 6


@rule(opset=8, priced=True)
def bias_and_residual(x, bias, residual):
    """(x + bias) + residual -> Sum(x, bias, residual)."""
    return op.Add(op.Add(x, bias).named("biased"), residual)


@bias_and_residual.when
def of_one_shape(m: Match) -> Rejection | None:
    # Integers have no Sum; sums of images are taken into convolutions.
    if m.dtype(m.output) is not ir.DataType.FLOAT or m.rank(m["biased"]) != 3:
        return Rejection(NOT_ALIKE, m.output)
    if not any(m.tensor(v) is not None and m.rank(v) == 1 for v in (m["x"], m["bias"])):
        return Rejection(NO_BIAS, m["biased"])
    return None if m.facts.same_shape(m["biased"], m["residual"]) else Rejection(NOT_ALIKE, m["residual"])


@bias_and_residual.rewrite
def sum_of_three(m: Match) -> ir.Value:
    return op.Sum(m["x"], m["bias"], m["residual"])


@rule_on("Sum", "Add", depth=2, priced=True)
def nested_sum(m: Match) -> ir.Value | Rejection | None:
    """Sum(a, b, c) + d -> Sum(a, b, c, d), and Sum(a, b + c, d) -> Sum(a, b, c, d)."""
    terms = [v for v in m.root.inputs if v is not None]
    kinds = [p.op_type if (p := v.producer()) is not None and p.domain == "" else "" for v in terms]
    if "Sum" not in (m.root.op_type, *kinds) or not {"Sum", "Add"} & set(kinds):
        return None
    if m.rank(m.output) != 3 or m.dtype(m.output) is not ir.DataType.FLOAT:
        return Rejection(NOT_ALIKE, m.output)
    found: list[ir.Value] = []
    for value in terms:
        inner = _inner_sum(m, value)
        if inner is None:
            found.append(value)
        else:
            parts = [v for v in inner.inputs if v is not None]
            # What is at the front is added as before; of two terms either may be the first.
            found = parts + found if len(terms) == 2 else found + parts
    if len(found) == len(terms) or len(found) > MOST_TERMS:
        return None
    return op.Sum(*found)


def _inner_sum(m: Match, value: ir.Value) -> ir.Node | None:
    """The sum of the result's shape that makes a value, if nothing else needs it."""
    node = value.producer()
    if node is None or node.domain != "" or node.op_type not in ("Sum", "Add"):
        return None
    if not m.has_one_consumer(value) or node.graph is not m.root.graph:
        return None
    return node if m.facts.same_shape(value, m.output) else None


# A Sum may take a little longer than an Add; but onnxruntime makes SkipLayerNormalization of Add and
# LayerNormalization when it loads a model, and that takes longer than both (targets/onnxruntime.py).
@rule_on("LayerNormalization", opset=8, depth=2, may_slow=True)
def residual_before_norm(m: Match) -> dict[ir.Value, ir.Value] | Rejection | None:
    """LayerNormalization(x + residual) -> LayerNormalization(Sum(x, residual))."""
    total = m.root.inputs[0]
    add = total.producer() if total is not None else None
    if total is None or add is None or add.op_type != "Add" or add.domain != "":
        return None
    first, second = add.inputs
    assert first is not None and second is not None, "Add has no optional inputs"
    # The time is the same for one thread only: a Sum is computed by one, which is not worth it otherwise.
    if m.rank(total) not in (2, 3) or m.dtype(total) is not ir.DataType.FLOAT:
        return Rejection(NOT_ALIKE, total)
    if add.graph is not m.root.graph or not m.facts.same_shape(first, second):
        return Rejection(NOT_ALIKE, total)
    return {total: op.Sum(first, second)}


@dataclass(frozen=True)
class MergeAdditions(Pass):
    """Add what goes into a normalization in one Sum."""

    name = "merge-additions"
    family = "fusion"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    bound = "float32 within a few units in the last place of the largest term"
    rules = (bias_and_residual, nested_sum, residual_before_norm)
