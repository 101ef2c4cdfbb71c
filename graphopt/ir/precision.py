"""Which parts of a model keep float32 when the rest is written in a type of half its size.

Four things go wrong in half precision, and are found from the graph:

- Numbers that stand for positions and sizes: float16 counts no farther than 2048, and a sine of a rounded
  position is another sine. What is computed from integers and constants alone stays as it is.
- Sums over many elements, and squares that are summed: they overflow where their root does not.
- Spectra: a Fourier transform written as Conv or MatMul, whose two parts are squared and added. The terms of
  a part cancel: its rounding, and that of the small squares, is large beside what is left.
- Constants out of range: an epsilon that becomes 0, a factor that becomes infinite. Where a number only masks
  (it is added, chosen, or a bound), the largest number of the type does as well.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir import facts as operator_facts
from graphopt.ir.attributes import axes_of
from graphopt.ir.graphs import bodies, nodes_in
from graphopt.ir.inference import Facts, TensorFact
from graphopt.ir.schemas import Parameter, Schema, schema

__all__ = ["Limits", "is_narrow_port", "kept_nodes", "limits_of"]

# Operators that compute positions, draw numbers, or lose too much by rounding, whatever their inputs are.
KEPT_OPERATORS = frozenset(
    {
        "Range",
        "CumSum",
        "Resize",
        "Upsample",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Multinomial",
        "Bernoulli",
        "EyeLike",
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "ReduceProd",
        "ReduceSumSquare",
        "ReduceL1",
        "ReduceL2",
        "ReduceLogSum",
        "ReduceLogSumExp",
        "DFT",
        "STFT",
        "MelWeightMatrix",
        "Det",
    }
)
# A sum of more elements than this may overflow, or swallow its smaller terms.
LARGEST_SUM = 1024
_SUMS = frozenset({"ReduceSum", "ReduceMean"})

# What takes the two parts of a spectrum from the product that makes both.
_TAKES_PARTS = frozenset(
    {"Cast", "Slice", "Split", "Gather", "Squeeze", "Unsqueeze", "Reshape", "Transpose", "Identity"}
)
_PRODUCTS = frozenset({"Conv", "MatMul", "Gemm"})
# Where a number out of range may become the largest one of the type: it masks, bounds or is chosen.
MASKING = frozenset({"Add", "Sub", "Mul", "Where", "Max", "Min", "Clip", "Pad", "Expand", "ConstantOfShape"})

_INTEGERS = frozenset(
    {ir.DataType.INT64, ir.DataType.INT32, ir.DataType.INT16, ir.DataType.INT8}
    | {ir.DataType.UINT8, ir.DataType.UINT16, ir.DataType.UINT32, ir.DataType.UINT64}
)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a short float type can hold."""

    dtype: ir.DataType
    largest: float
    smallest: float

    def holds(self, array: np.ndarray) -> bool:
        """Whether no finite number of a few becomes infinite, and none but 0 becomes 0."""
        with np.errstate(all="ignore"):
            size = np.abs(array.astype(np.float64))
        return bool(
            (~np.isfinite(size) | (size == 0) | ((size <= self.largest) & (size >= self.smallest))).all()
        )


def limits_of(dtype: ir.DataType) -> Limits:
    """Largest and smallest positive number of float16 or bfloat16."""
    if dtype == ir.DataType.FLOAT16:
        return Limits(dtype, 65504.0, 2.0**-24)
    return Limits(dtype, 3.3895313892515355e38, 2.0**-133)


# ------------------------------------------------------------------ what the standard allows


def is_narrow_port(
    node: ir.Node, opset: int, index: int, dtype: ir.DataType, *, output: bool = False
) -> bool:
    """Whether an input or output of a standard operator may have a type where it may have float32."""
    found = schema(node.domain, node.op_type, opset)
    parameter = _parameter(found, index, output=output) if found is not None else None
    if parameter is None:
        return False
    return f"tensor({dtype.name.lower()})" in parameter.types


def _parameter(found: Schema, index: int, *, output: bool) -> Parameter | None:
    parameters = found.outputs if output else found.inputs
    if index < len(parameters):
        return parameters[index]
    last = parameters[-1] if parameters else None
    return last if last is not None and last.option == "variadic" else None


# ------------------------------------------------------------------ which nodes stay


def kept_nodes(
    model: ir.Model,
    facts: Facts,
    limits: Limits,
    operators: Collection[str] = (),
    names: Collection[str] = (),
) -> set[ir.Node]:
    """Nodes whose floats stay float32.

    Args:
        model: The model.
        facts: What is known of its values.
        limits: Of the short type.
        operators: Further operators that stay.
        names: Nodes that stay, by their names.
    """
    opset = model.graph.opset_imports.get("", 1)
    nodes = list(nodes_in(model.graph))
    kept = {
        node
        for node in nodes
        if node.op_type in operators or node.name in names or _must_stay(node, facts, limits, opset)
    }
    kept |= _of_positions(nodes, facts, kept, limits)
    for node in list(kept):
        if node.op_type in _SUMS:
            kept |= _around_sum(node)
    for node in nodes:
        kept |= _spectrum(node)
    # What holds a body has the types of what the body gives.
    return {node for node in kept if not bodies(node)}


def _must_stay(node: ir.Node, facts: Facts, limits: Limits, opset: int) -> bool:
    if node.domain != "" or schema("", node.op_type, opset) is None:
        return True
    if node.op_type in KEPT_OPERATORS:
        return True
    if any(_is_container(v, facts) for v in (*node.inputs, *node.outputs) if v is not None):
        return True
    if any(
        not is_narrow_port(node, opset, i, limits.dtype, output=True) for i in _float_outputs(node, facts)
    ):
        return True
    if node.op_type in _SUMS and limits.dtype == ir.DataType.FLOAT16 and _is_large_sum(node, facts, opset):
        return True
    return node.op_type not in MASKING and any(not limits.holds(a) for a in _numbers(node))


def _is_container(value: ir.Value, facts: Facts) -> bool:
    return not isinstance(facts.of(value), TensorFact)


def _float_outputs(node: ir.Node, facts: Facts) -> list[int]:
    return [i for i, v in enumerate(node.outputs) if facts.dtype(v) == ir.DataType.FLOAT]


def _numbers(node: ir.Node) -> Iterator[np.ndarray]:
    """Constant inputs of one float each: a large one is a weight, of which single elements may vanish."""
    for value in node.inputs:
        tensor = constants.constant(value)
        if tensor is not None and tensor.size == 1 and tensor.dtype == ir.DataType.FLOAT:
            yield np.asarray(tensor.numpy())


def _is_large_sum(node: ir.Node, facts: Facts, opset: int) -> bool:
    source = node.inputs[0]
    if source is None or facts.dtype(source) != ir.DataType.FLOAT:
        return False
    if _is_square(source.producer()):
        return True
    dims, axes = facts.dims(source), axes_of(node, opset)
    if dims is None or axes is None:
        return True
    count = 1
    for axis in axes or range(len(dims)):
        dim = dims[axis]
        count *= dim if isinstance(dim, int) else LARGEST_SUM + 1
    return count > LARGEST_SUM


def _is_square(node: ir.Node | None) -> bool:
    if node is None:
        return False
    if node.op_type == "Pow":
        return True
    return node.op_type == "Mul" and node.inputs[0] is node.inputs[1]


def _around_sum(node: ir.Node) -> set[ir.Node]:
    """The square under a sum, and the root or logarithm over it."""
    found: set[ir.Node] = set()
    source = node.inputs[0].producer() if node.inputs[0] is not None else None
    if _is_square(source):
        assert source is not None
        found.add(source)
    front = [node]
    while front:
        for value in front.pop().outputs:
            for use in value.uses():
                user = use.node
                others = [v for v in user.inputs if v is not None and v is not value]
                simple = user.op_type in (
                    "Add",
                    "Mul",
                    "Div",
                    "Sqrt",
                    "Reciprocal",
                    "Pow",
                    "Log",
                    "Max",
                    "Clip",
                )
                if simple and user not in found and all(constants.constant(v) is not None for v in others):
                    found.add(user)
                    front.append(user)
    return found


def _spectrum(node: ir.Node) -> set[ir.Node]:
    """If a node adds two squares of what products give: everything from those to the root of the sum."""
    if node.op_type not in ("Add", "Sum") or len(node.inputs) != 2:
        return set()
    found = {node}
    for value in node.inputs:
        square = value.producer() if value is not None else None
        part = _product_under(square) if square is not None and _is_square(square) else None
        if square is None or part is None:
            return set()
        found |= {square, *part}
    return found | _around_sum(node)


def _product_under(square: ir.Node) -> list[ir.Node] | None:
    """The nodes from a square up to the product that makes what is squared; None: no product does."""
    found: list[ir.Node] = []
    value = square.inputs[0]
    while value is not None and (node := value.producer()) is not None:
        found.append(node)
        if node.op_type in _PRODUCTS:
            return found
        if node.op_type not in _TAKES_PARTS:
            return None
        value = node.inputs[0]
    return None


def _of_positions(nodes: list[ir.Node], facts: Facts, kept: set[ir.Node], limits: Limits) -> set[ir.Node]:
    """Nodes that compute floats from integers and constants alone, in operators that keep positions apart."""
    found: set[ir.Node] = set()
    positions: set[ir.Value] = set()
    for node in nodes:
        floats = [v for v in node.outputs if facts.dtype(v) == ir.DataType.FLOAT]
        if not floats or node.op_type == "Constant" or bodies(node):
            continue
        given = [v for v in node.inputs if v is not None and constants.constant(v) is None]
        if node.op_type == "Cast":
            starts = facts.dtype(node.inputs[0]) in _INTEGERS if node.inputs[0] is not None else False
            is_position = starts or (given and given[0] in positions)
        elif node in kept and node.op_type in ("Range", "CumSum"):
            is_position = True
        else:
            entry = operator_facts.lookup(node)
            simple = entry is not None and (entry.elementwise or entry.movement)
            moving = [v for v in given if facts.dtype(v) == ir.DataType.FLOAT]
            is_position = bool(simple and moving and all(v in positions for v in moving))
            is_position = is_position and all(limits.holds(a) for a in _numbers(node))
        if is_position:
            found.add(node)
            positions.update(floats)
    return found
