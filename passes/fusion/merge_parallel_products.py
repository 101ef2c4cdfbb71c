"""Projections of a value with few rows in one product.

    before   x @ wq + bq, x @ wk + bk, x @ wv + bv
    after    Split(x @ [wq wk wv] + [bq bk bv])

A step of a decoder multiplies one row by every weight: what is left is reading the weights and starting
the operators. Measured for three weights of 256 x 256 with one thread: 0.84 of the time for one row, 0.92
for four, 0.995 for 32; with more rows the copies of the Split outweigh that. The target's table says where.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir

from graphopt.ir import lazy
from graphopt.rewriting import Match, Pass, Rejection, constant, op, rule_on

ROWS_UNKNOWN = "it is not known how many rows the value has"
NO_SIBLINGS = "no other product with a constant of its own is of this value"


@dataclass(frozen=True)
class Product:
    """x @ weight + bias: the two nodes and the two constants."""

    matmul: ir.Node
    add: ir.Node
    weight: ir.TensorProtocol
    bias: ir.TensorProtocol

    @property
    def columns(self) -> int:
        return int(self.weight.shape.numpy()[1])


@rule_on("MatMul", depth=1, priced=True)
def parallel_products(m: Match) -> dict[ir.Value, ir.Value] | Rejection | None:
    """x @ v + a, x @ w + b -> Split(x @ [v w] + [a b])."""
    x = m.root.inputs[0]
    if x is None or len(x.uses()) < 2 or _product(m, m.root) is None:
        return None
    if not _has_known_rows(m, x):
        return Rejection(ROWS_UNKNOWN, x)
    users = {use.node for use in x.uses() if use.idx == 0 and use.node.graph is m.root.graph}
    found = {node: product for node in users if (product := _product(m, node)) is not None}
    if len(found) < 2:
        return Rejection(NO_SIBLINGS, x)
    assert m.root.graph is not None, "the root is in a graph"
    products = [found[node] for node in m.root.graph if node in found]
    # What uses any of them comes after the first, where the new nodes go.
    if products[0].matmul is not m.root:
        return None
    total = op.Add(op.MatMul(x, constant(_weights(products))), constant(_biases(products)))
    parts = op.Split(total, [p.columns for p in products], axis=-1, outputs=len(products))
    return {p.add.outputs[0]: part for p, part in zip(products, parts, strict=True)}


def _has_known_rows(m: Match, x: ir.Value) -> bool:
    dims = m.dims(x)
    if dims is None or len(dims) < 2 or m.dtype(x) is not ir.DataType.FLOAT:
        return False
    return all(isinstance(d, int) and d > 0 for d in dims[:-1])


def _product(m: Match, node: ir.Node) -> Product | None:
    """A product by a constant of its own, and a constant bias for each column, that nothing else needs."""
    if node.op_type != "MatMul" or node.domain != "" or not m.has_one_consumer(node.outputs[0]):
        return None
    w = node.inputs[1]
    weight = m.tensor(w)
    add = node.outputs[0].consumers()[0]
    if w is None or weight is None or len(weight.shape) != 2 or len(w.uses()) > 1:
        return None
    if add.op_type != "Add" or add.domain != "" or add.graph is not node.graph:
        return None
    bias = m.tensor(add.inputs[1] if add.inputs[0] is node.outputs[0] else add.inputs[0])
    if bias is None or tuple(bias.shape.numpy()) != (weight.shape[1],) or add.outputs[0].is_graph_output():
        return None
    return Product(node, add, weight, bias)


def _weights(products: Sequence[Product]) -> ir.TensorProtocol:
    rows = int(products[0].weight.shape.numpy()[0])
    return lazy.mapped(
        [p.weight for p in products],
        lambda *arrays: np.concatenate(arrays, axis=1),
        ir.DataType.FLOAT,
        [rows, sum(p.columns for p in products)],
    )


def _biases(products: Sequence[Product]) -> np.ndarray:
    return np.concatenate([p.bias.numpy() for p in products])


@dataclass(frozen=True)
class MergeParallelProducts(Pass):
    """Compute several projections of a value with few rows in one product."""

    name = "merge-parallel-products"
    family = "fusion"
    stage = "target"
    level = 2
    targets = ("onnxruntime",)
    bound = "float32 within a few units in the last place of the largest term"
    rules = (parallel_products,)
