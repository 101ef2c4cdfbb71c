"""Compute now what no input can change.

    before   Shape(x: [N, 3, 8]) -> Gather(1) -> Mul(2)          Transpose(weight)
    after    constant 6                                          constant

A node folds when all its inputs are constants, or when inference knows every element of its output
although its inputs vary: the sizes of static dims, what is gathered from them, and so on.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants, facts, lazy
from graphopt.ir.attributes import attribute_ints
from graphopt.ir.evaluate import CannotEvaluate, evaluate
from graphopt.ir.graphs import bodies
from graphopt.ir.inference import TensorFact
from graphopt.ir.known import known_array
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on

TOO_LARGE = "the result is larger than what it frees by more than the limit"
IS_LARGE_OUTPUT = "a graph output of this size can't be written as a node"
CAN_NOT_BE_EVALUATED = "the operator can't be evaluated here"

# A graph output needs a node that makes it. Tensors in nodes can't be stored outside of the model file.
LARGEST_IN_NODE = 64 << 10

# What makes much of little is better made at run time: a file must not grow by a filled tensor.
LARGEST_EXPANSION = 1 << 20
EXPANDING = frozenset({"ConstantOfShape", "Expand", "Tile", "Range", "EyeLike", "OneHot", "Pad", "Resize"})

# Larger results are computed when the model is saved, so that weights stay on disk until then: those of
# operators that numpy does and that can't fail once the shapes are known.
LARGEST_COMPUTED_NOW = 1 << 20
DEFERRED_MOVEMENT = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Slice", "Concat")
DEFERRED_ARITHMETIC = ("Cast", "Add", "Sub", "Mul", "Div", "Neg", "Sqrt", "Reciprocal")
DEFERRED = frozenset({*DEFERRED_MOVEMENT, *DEFERRED_ARITHMETIC, "Split", "Gather", "Expand", "Tile", "Where"})

# A dequantized weight is four times its size, and the runtime wants to see it quantized.
KEPT = frozenset({("", "Constant"), ("", "DequantizeLinear"), ("com.microsoft", "DequantizeLinear")})

# So is a weight stored in 16 bits for half of that; smaller ones are not worth an operator.
HALVES = (ir.DataType.FLOAT16, ir.DataType.BFLOAT16)
SMALLEST_WEIGHT = 1024

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
    if (node.domain, node.op_type) in KEPT or _is_alias(node):
        return False
    known = _known_elements(m)
    if known:
        return known
    if any(v is not None and constants.constant(v) is None for v in node.inputs) or not _may_fold(m):
        return False
    if _is_stored_narrow(m):
        return False
    needed = _needed(node)
    estimate = sum(_bytes(m, v) for v in needed)
    rejection = _too_large(m, needed, estimate)
    if rejection is not None:
        return rejection
    if estimate > LARGEST_COMPUTED_NOW and node.op_type in DEFERRED and node.domain == "":
        return _deferred(m, needed)
    return _computed(m, needed)


def _is_alias(node: ir.Node) -> bool:
    """Whether it gives a constant a second name: to fold it would store the contents twice."""
    return node.op_type == "Identity" and node.domain == "" and not node.outputs[0].is_graph_output()


def _is_stored_narrow(m: Match) -> bool:
    """Whether it widens a weight for operators that wait for other inputs anyway: half as many bytes stay."""
    node = m.root
    if node.op_type != "Cast" or node.domain != "" or node.inputs[0] is None:
        return False
    tensor, value = constants.constant(node.inputs[0]), node.outputs[0]
    if tensor is None or tensor.dtype not in HALVES or tensor.size < SMALLEST_WEIGHT:
        return False
    if m.dtype(value) not in (ir.DataType.FLOAT, ir.DataType.DOUBLE) or value.is_graph_output():
        return False
    users = [use.node for use in value.uses()]
    return all(
        any(v is not None and constants.constant(v) is None and v is not value for v in u.inputs)
        for u in users
    )


def _may_fold(m: Match) -> bool:
    """Whether the node is pure, has no body, and makes tensors."""
    node = m.root
    entry = facts.lookup(node)
    if entry is None or not entry.pure or bodies(node):
        return False
    needed = _needed(node)
    return bool(needed) and all(type(m.facts.of(v)) is TensorFact for v in needed)


def _needed(node: ir.Node) -> list[ir.Value]:
    return [v for v in node.outputs if v.uses() or v.is_graph_output()]


def _known_elements(m: Match) -> Results:
    """The outputs that inference knows every element of."""
    found: Results = {}
    for value in m.root.outputs:
        if value.uses() or value.is_graph_output():
            array = known_array(m.facts.of(value))
            if array is not None:
                found[value] = array
    return found if found and facts.is_pure(m.root) else {}


def _computed(m: Match, needed: Sequence[ir.Value]) -> Results | Rejection:
    node = m.root
    try:
        arrays = evaluate(node, [constants.array(v) for v in node.inputs], _opsets(m))
    except CannotEvaluate:
        return Rejection(CAN_NOT_BE_EVALUATED, needed[0])
    found: Results = {v: a for v, a in zip(node.outputs, arrays, strict=True) if v in needed}
    rejection = _too_large(m, needed, sum(a.nbytes for a in found.values()))
    return found if rejection is None else rejection


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


def _deferred(m: Match, needed: Sequence[ir.Value]) -> Results:
    """The outputs as expressions over the inputs, which are computed when the model is saved."""
    node = m.root
    tensors = [None if v is None else constants.constant(v) for v in node.inputs]
    present = [t for t in tensors if t is not None]
    if node.op_type == "Transpose" and node.domain == "":
        rank = len(constants.shape_of(present[0]))
        perm = attribute_ints(node, "perm", range(rank)[::-1])
        if perm != tuple(range(rank)):
            return {needed[0]: lazy.transposed(present[0], perm)}
    opsets = _opsets(m)

    def output(index: int) -> Callable[..., np.ndarray]:
        def compute(*arrays: np.ndarray) -> np.ndarray:
            given = iter(arrays)
            return evaluate(node, [None if t is None else next(given) for t in tensors], opsets)[index]

        return compute

    found: Results = {}
    for index, value in enumerate(node.outputs):
        dims, dtype = m.dims(value), m.dtype(value)
        if value in needed and dims is not None and dtype is not None:
            sizes = [d for d in dims if isinstance(d, int)]
            found[value] = lazy.mapped(present, output(index), dtype, sizes)
    return found


def _opsets(m: Match) -> dict[str, int]:
    assert m.root.graph is not None
    return m.editor.regions[m.root.graph].opsets


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
