"""Einsum through the engine, against numpy."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from tests.lowering.running import kernels_of, node_model, run

CASES = [
    ("ij->ji", [(3, 4)], ["copy"]),
    ("ii->i", [(5, 5)], ["copy"]),
    ("ii", [(5, 5)], ["reduce"]),
    ("ijk->k", [(3, 4, 5)], ["reduce"]),
    ("...ij->...ji", [(2, 3, 4, 5)], ["copy"]),
    ("ij,jk->ik", [(3, 4), (4, 5)], ["matmul"]),
    ("ij,jk", [(3, 4), (4, 5)], ["matmul"]),
    ("bhqd,bkhd->bhqk", [(2, 3, 4, 5), (2, 6, 3, 5)], ["matmul"]),
    ("bhqk,bkhd->bqhd", [(2, 3, 4, 6), (2, 6, 3, 5)], ["matmul", "copy"]),
    ("i,j->ij", [(3,), (4,)], ["matmul"]),
    ("i,i->", [(7,), (7,)], ["matmul", "copy"]),
    ("abc,acd->bd", [(2, 3, 4), (2, 4, 5)], ["copy", "matmul"]),
    ("...ij,jk->...ik", [(2, 3, 4, 5), (5, 6)], ["matmul", "copy"]),
    ("...ij,...jk->...ik", [(2, 1, 4, 5), (3, 5, 6)], ["copy", "matmul", "copy"]),
    ("ij,kl->i", [(3, 4), (2, 5)], ["reduce", "reduce", "matmul", "copy"]),
    ("ij,jk,kl->il", [(3, 4), (4, 5), (5, 2)], ["matmul", "matmul"]),
    (" b i j , b j -> b i ", [(2, 3, 4), (2, 4)], ["matmul", "copy"]),
]


@pytest.mark.parametrize(("equation", "shapes", "kernels"), CASES)
def test_einsum(equation: str, shapes: list[tuple[int, ...]], kernels: list[str]) -> None:
    random = np.random.default_rng(0)
    feeds = {f"x{i}": random.integers(-8, 9, shape).astype(np.float32) for i, shape in enumerate(shapes)}
    model = node_model("Einsum", feeds, equation=equation)
    (found,) = run(model, feeds)
    wanted = np.einsum(equation.replace(" ", ""), *feeds.values())
    assert np.array_equal(found, wanted) and found.dtype == np.float32
    assert kernels_of(model) == kernels
    symbolic = onnx.ModelProto.FromString(model.SerializeToString())
    for value in symbolic.graph.input:
        for place, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value != 1:
                dim.dim_param = f"n{dim.dim_value}_{place if equation == 'ii' else ''}"
    if "ii" not in equation:
        assert np.array_equal(run(symbolic, feeds)[0], wanted)
