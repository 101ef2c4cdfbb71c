"""Rows of 4 KiB that products read lie apart."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.helper as oh
import pytest

from graphopt.lowering.program import Module
from graphopt.runtime import InferenceSession
from tests.lowering.comparing import assert_same, instructions, program

WIDTH = 1024


def weights(rows: int, columns: int, seed: int) -> onnx.TensorProto:
    values = np.random.default_rng(seed).standard_normal((rows, columns)) / np.sqrt(rows)
    return onnx.numpy_helper.from_array(values.astype(np.float32), f"w{seed}")


def model(nodes: list[onnx.NodeProto], outputs: list[str], width: int = WIDTH) -> onnx.ModelProto:
    """x [B, T, 8] is multiplied to [B, T, width] by w0, and that to [B, T, 8] by w1."""
    graph = oh.make_graph(
        nodes,
        "g",
        [oh.make_tensor_value_info("x", 1, ["B", "T", 8])],
        [oh.make_tensor_value_info(name, 1, None) for name in outputs],
        [weights(8, width, 0), weights(width, 8, 1)],
    )
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=9)


def two_products(*between: onnx.NodeProto, outputs: tuple[str, ...] = ("y",)) -> onnx.ModelProto:
    up, down = oh.make_node("MatMul", ["x", "w0"], ["h"]), oh.make_node("MatMul", ["h", "w1"], ["y"])
    return model([up, *between, down], list(outputs))


def rows_apart(made: onnx.ModelProto) -> list[int]:
    """Strides of the rows of results of products."""
    main: Module = program(made).main
    results = [main.registers[i.outputs[0]] for i in instructions(main, "gemm")]
    return [r.strides[-2] for r in results if r.strides is not None and isinstance(r.strides[-2], int)]


def fed(batch: int, length: int) -> dict[str, np.ndarray]:
    return {"x": np.random.default_rng(batch + length).standard_normal((batch, length, 8), dtype=np.float32)}


def test_between_two_products() -> None:
    made = two_products()
    assert rows_apart(made) == [WIDTH + 16]
    assert_same(made, fed(1, 30), fed(2, 13), fed(1, 1), fed(0, 5), fed(3, 0), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("width", [1008, 1023, 1056])
def test_other_rows_stay(width: int) -> None:
    up, down = oh.make_node("MatMul", ["x", "w0"], ["h"]), oh.make_node("MatMul", ["h", "w1"], ["y"])
    assert rows_apart(model([up, down], ["y"], width)) == []


def test_output_of_the_model_stays() -> None:
    made = two_products(outputs=("y", "h"))
    assert rows_apart(made) == []
    assert_same(made, fed(2, 13), rtol=1e-5, atol=1e-5)


def test_who_takes_rows_apart_may_read_too() -> None:
    made = two_products(oh.make_node("ReduceMax", ["h"], ["m"], keepdims=0), outputs=("y", "m"))
    assert rows_apart(made) == [WIDTH + 16]
    assert_same(made, fed(2, 13), rtol=1e-5, atol=1e-5)


def test_who_wants_dense_memory_keeps_it() -> None:
    quantize = oh.make_node("DynamicQuantizeLinear", ["h"], ["q", "scale", "zero"])
    made = two_products(quantize, outputs=("y", "scale"))
    assert rows_apart(made) == []
    assert_same(made, fed(2, 13), rtol=1e-5, atol=1e-5)


def test_views_keep_dense_memory() -> None:
    """Heads are looks at the result, whose strides are reckoned without gaps."""
    made = two_products(
        oh.make_node("Reshape", ["h", "heads"], ["s"]),
        oh.make_node("Transpose", ["s"], ["t"], perm=[0, 2, 1, 3]),
        outputs=("y", "t"),
    )
    made.graph.initializer.append(onnx.numpy_helper.from_array(np.array([0, 0, 4, -1]), "heads"))
    assert rows_apart(made) == []
    assert_same(made, fed(2, 13), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("precision", ["f16", "bf16", "int8"])
def test_other_precisions(precision: str) -> None:
    made, given = two_products(oh.make_node("Relu", ["h"], ["r"])), fed(2, 13)
    made.graph.node[-1].input[0] = "r"
    (wanted,) = InferenceSession(made).run(None, given)
    (got,) = InferenceSession(made, precision=precision).run(None, given)  # type: ignore[arg-type]
    np.testing.assert_allclose(got, wanted, atol=0.05 * float(np.abs(wanted).max()))


def test_threads() -> None:
    made, given = two_products(), fed(1, 100)
    (wanted,), (got,) = (InferenceSession(made, threads=n).run(None, given) for n in (1, 2))
    np.testing.assert_array_equal(got, wanted)
