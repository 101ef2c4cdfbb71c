"""Compute now what no input can change.

    before   Shape(x: [N, 3, 8]) -> Gather(1) -> Mul(2)          Transpose(weight)
    after    constant 6                                          constant

A node folds when all its inputs are constants, or when inference knows every element of its output
although its inputs vary: the sizes of static dims, what is gathered from them, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, facts
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import TensorFact
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on

TOO_LARGE = "the result is larger than what it frees by more than the limit"
IS_LARGE_OUTPUT = "a graph output of this size can't be written as a node"
CAN_NOT_BE_EVALUATED = "the operator can't be evaluated here"

# A graph output needs a node that makes it. Tensors in nodes can't be stored outside of the model file.
LARGEST_IN_NODE = 64 << 10

# What makes much of little is better made at run time: a file must not grow by a filled tensor.
LARGEST_EXPANSION = 1 << 20
EXPANDING = frozenset({"ConstantOfShape", "Expand", "Tile", "Range", "EyeLike", "OneHot", "Pad", "Resize"})

# Integers up to here are exact in a float32.
EXACT_IN_FLOAT = 1 << 24

# A dequantized weight is four times its size, and the runtime wants to see it quantized.
KEPT = frozenset({("", "Constant"), ("", "DequantizeLinear"), ("com.microsoft", "DequantizeLinear")})

Contents = np.ndarray | ir.TensorProtocol
Results = dict[ir.Value, Contents]


@rule_on(depth=1)
def fold(_: Match, results: Results) -> dict[ir.Value, ir.Value]:
    """f(constants) -> constant."""
    return {old: _constant(old, contents) for old, contents in results.items()}


def _constant(old: ir.Value, contents: Contents) -> ir.Value:
    if not old.is_graph_output():
        return constant(contents)
    value: ir.Value = op.Constant(value=ir.tensor(contents) if isinstance(contents, np.ndarray) else contents)
    return value


@fold.when
def results_of(m: Match) -> Results | Rejection | Literal[False]:
    node = m.root
    if (node.domain, node.op_type) in KEPT:
        return False
    known = _known_elements(m)
    if known:
        return known
    for value in node.inputs:
        if value is not None and constants.constant(value) is None:
            return False
    return _evaluated(m)


def _needed(node: ir.Node) -> list[ir.Value]:
    return [v for v in node.outputs if v.uses() or v.is_graph_output()]


def _known_elements(m: Match) -> Results:
    """The outputs that inference knows every element of."""
    found: Results = {}
    for value in m.root.outputs:
        fact = m.facts.of(value)
        if (
            type(fact) is TensorFact
            and fact.elements is not None
            and (value.uses() or value.is_graph_output())
        ):
            array = _array(m.root, fact)
            if array is not None:
                found[value] = array
    return found if not found or facts.is_pure(m.root) else {}


def _array(node: ir.Node, fact: TensorFact) -> np.ndarray | None:
    """A fact's contents, if all of them are known and exact."""
    assert fact.elements is not None and fact.dims is not None
    if fact.dtype is None or not all(type(e) in (int, bool) for e in fact.elements):
        return None
    shape = [d for d in fact.dims if isinstance(d, int)]
    if fact.dtype.is_floating_point():
        # Inference counts in integers: it knows neither rounding nor the sign of a zero.
        exact = all(0 < abs(e) <= EXACT_IN_FLOAT for e in fact.elements)  # type: ignore[arg-type,operator]
        if fact.dtype not in (ir.DataType.FLOAT, ir.DataType.DOUBLE) or not (exact or node.op_type == "Cast"):
            return None
    elif fact.dtype not in (ir.DataType.INT64, ir.DataType.INT32, ir.DataType.BOOL):
        return None
    try:
        return np.array(fact.elements, dtype=fact.dtype.numpy()).reshape(shape)
    except OverflowError:
        return None


def _evaluated(m: Match) -> Results | Rejection | Literal[False]:
    node = m.root
    entry = facts.lookup(node)
    needed = _needed(node)
    if entry is None or not entry.pure or not needed or bodies(node):
        return False
    if any(a.is_ref() for a in node.attributes.values()):
        return False
    if not all(type(m.facts.of(v)) is TensorFact for v in needed):
        return False
    estimate = sum(_bytes(m, v) for v in needed)
    rejection = _too_large(m, needed, estimate)
    if rejection is not None:
        return rejection
    arrays = _evaluate(m, node)
    if arrays is None:
        return Rejection(CAN_NOT_BE_EVALUATED, needed[0])
    found: Results = {v: a for v, a in zip(node.outputs, arrays, strict=False) if v in needed}
    rejection = _too_large(m, needed, sum(a.nbytes for a in found.values()))
    return rejection if rejection is not None else found


def _bytes(m: Match, value: ir.Value) -> int:
    """Size of a value; 0 where only evaluating tells."""
    dims, dtype = m.dims(value), m.dtype(value)
    if dims is None or dtype is None or dtype.itemsize is None:
        return 0
    return int(math.prod(d if isinstance(d, int) else 0 for d in dims) * dtype.itemsize)


def _too_large(m: Match, needed: Sequence[ir.Value], nbytes: int) -> Rejection | None:
    node = m.root
    freed = 0
    for value in dict.fromkeys(v for v in node.inputs if v is not None):
        tensor = constants.constant(value)
        if tensor is not None and all(use.node is node for use in value.uses()):
            freed += tensor.nbytes
    options = m.options
    assert isinstance(options, FoldConstants)
    limit = min(options.limit_bytes, LARGEST_EXPANSION) if node.op_type in EXPANDING else options.limit_bytes
    if nbytes - freed > limit:
        return Rejection(TOO_LARGE, needed[0])
    if nbytes > LARGEST_IN_NODE and any(v.is_graph_output() for v in needed):
        return Rejection(IS_LARGE_OUTPUT, needed[0])
    return None


def _evaluate(m: Match, node: ir.Node) -> list[np.ndarray] | None:
    import onnx
    from onnx.reference import ReferenceEvaluator

    given = {v.name: constants.array(v) for v in node.inputs if v is not None}
    proto = onnx.helper.make_graph(
        [ir.to_proto(node)],
        "one",
        [onnx.helper.make_value_info(n, onnx.TypeProto()) for n in given],  # type: ignore[arg-type]
        [onnx.helper.make_value_info(v.name, onnx.TypeProto()) for v in node.outputs if v.name],  # type: ignore[arg-type]
    )
    model = onnx.helper.make_model(proto, opset_imports=[onnx.helper.make_opsetid(node.domain, m.opset)])
    try:
        made = iter(ReferenceEvaluator(model).run(None, given))
        arrays = [next(made) if v.name else np.zeros(0) for v in node.outputs]
    except Exception:
        return None
    for value, array in zip(node.outputs, arrays, strict=True):
        dtype = m.dtype(value)
        if value.name and (
            not isinstance(array, np.ndarray) or dtype is None or array.dtype != dtype.numpy()
        ):
            return None
    return arrays


@dataclass(frozen=True)
class FoldConstants(Pass):
    """Compute what depends on constants only.

    Attributes:
        limit_bytes: A result may be larger than what it frees by this much.
    """

    limit_bytes: int = 16 << 20

    name = "fold-constants"
    family = "cleanup"
    rules = (fold,)
