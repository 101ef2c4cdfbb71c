"""How much one node has to do: floating-point operations and bytes, at sample sizes of the dynamic dims."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import onnx_ir as ir

from graphopt.ir.constants import constant
from graphopt.ir.dims import Dim, product, substitute, symbols
from graphopt.ir.fact import Fact, TensorFact
from graphopt.ir.facts import lookup
from graphopt.ir.inference import Facts

__all__ = [
    "MOST_TRIPS",
    "SAMPLE",
    "SAMPLES",
    "UNPACKED",
    "Work",
    "flops_of",
    "kernel_of",
    "size_at",
    "trips_of",
    "work_of",
]

# What every dynamic dim, and every trip count that only a run can tell, is taken to be for one number.
SAMPLE = 64
# What it is taken to be where one spelling must not be slower than another: from short to long.
SAMPLES = (4, 16, 64, 256)

# A larger constant trip count (exporters write 2^63 - 1) means "until the condition ends it".
MOST_TRIPS = 1 << 20

# Products with kernels for packed weights, and how the rows of those without are called.
_PRODUCTS = frozenset({"MatMul", "FusedMatMul"})
UNPACKED = ":unpacked"

# A value of unknown rank is taken for a matrix.
_UNKNOWN_RANK = 2

# Runtimes give the input another shape or name, or look at its shape alone: nothing is read.
_VIEWS = frozenset({"Flatten", "Identity", "Reshape", "Shape", "Size", "Squeeze", "Unsqueeze"})
# What these read of their first input is as much as they write.
_SELECTING = frozenset({"Gather", "GatherElements", "GatherND", "Slice"})


@dataclass(frozen=True, slots=True)
class Work:
    """What one run of a node does, bodies left out.

    Attributes:
        flops: Floating-point operations; of a Loop or Scan its iterations; 0 where they are not known.
        bytes: Bytes read and written, constants included.
    """

    flops: int
    bytes: int


def work_of(node: ir.Node, facts: Facts, sample: int = SAMPLE) -> Work:
    """The work of a node with every dynamic dim at `sample`.

    Args:
        node: Any node; what is unknown of it counts as a matrix of float32.
        facts: What is known of its values.
        sample: Size of the dynamic dims.
    """
    if node.domain == "" and node.op_type in ("Loop", "Scan"):
        return Work(trips_of(node, facts, sample), 0)
    flops = flops_of(node, facts)
    return Work(0 if flops is None else size_at(flops, sample), _bytes(node, facts, sample))


def kernel_of(node: ir.Node) -> str:
    """The row that has a node's cost: its operator, or a kernel of its own that some nodes of it run.

    A product of two activations can't have its weight packed beforehand.
    """
    if node.op_type in _PRODUCTS and len(node.inputs) > 1:
        second = node.inputs[1]
        if second is not None and constant(second) is None:
            return node.op_type + UNPACKED
    return node.op_type


def flops_of(node: ir.Node, facts: Facts) -> Dim | None:
    """Floating-point operations by the operator's facts; None where they are not known."""
    entry = lookup(node)
    if entry is None or entry.flops is None:
        return None
    try:
        return entry.flops(facts.context(node))
    except (ValueError, ZeroDivisionError, IndexError, TypeError):  # an input of unknown rank
        return None


def trips_of(node: ir.Node, facts: Facts, unknown: int) -> int:
    """How often the body of a Loop or Scan runs, as far as the graph says; `unknown` where it does not."""
    if node.op_type == "Loop" and node.inputs and node.inputs[0] is not None:
        elements = facts.elements(node.inputs[0])
        if elements and type(elements[0]) is int and elements[0] <= MOST_TRIPS:
            return max(elements[0], 0)
    if node.op_type == "Scan" and node.inputs[-1] is not None:
        dims = facts.dims(node.inputs[-1])
        if dims and type(dims[0]) is int:
            return dims[0]
    return unknown


@lru_cache(maxsize=1 << 12)
def size_at(dim: Dim, sample: int) -> int:
    """A dim, or another count that is not below zero, with every symbol at `sample`."""
    if type(dim) is int:
        return max(dim, 0)
    try:
        found = substitute(dim, dict.fromkeys(symbols(dim), sample))
    except (ValueError, ZeroDivisionError):  # sizes that do not fit each other
        return sample
    return max(found, 0) if type(found) is int else sample


def _bytes(node: ir.Node, facts: Facts, sample: int) -> int:
    # An output that is left out is called ""; one of a node that is not in the graph yet has no name.
    written = sum(_size(facts.of(v), sample) for v in node.outputs if v.name != "")
    if node.domain != "":
        return written + sum(_size(facts.of(v), sample) for v in node.inputs if v is not None)
    if node.op_type in _VIEWS or node.op_type == "Constant":
        return 0
    first = written if node.op_type in _SELECTING else None
    for i, value in enumerate(node.inputs):
        if value is not None:
            written += first if i == 0 and first is not None else _size(facts.of(value), sample)
    return written


def _size(fact: Fact, sample: int) -> int:
    if not isinstance(fact, TensorFact):
        return 0  # sequences and optionals hold their tensors by reference
    width = 32 if fact.dtype is None else 0 if fact.dtype == ir.DataType.STRING else fact.dtype.bitwidth
    count = sample**_UNKNOWN_RANK if fact.dims is None else size_at(product(fact.dims), sample)
    return (count * width + 7) // 8
