"""Single nodes through the engine and through the reference implementation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cache

import numpy as np
import onnx
from onnx.backend.test.case.test_case import TestCase
from onnx.reference import ReferenceEvaluator

from graphopt.ir.load import from_proto
from graphopt.lowering.lower import lower
from graphopt.runtime import InferenceSession

TYPES = onnx.helper.np_dtype_to_tensor_dtype


def node_model(
    op_type: str,
    feeds: Mapping[str, np.ndarray],
    outputs: int | Sequence[str] = 1,
    opset: int = 23,
    domain: str = "",
    inputs: Sequence[str] | None = None,
    constants: Sequence[str] = (),
    dims: Mapping[str, Sequence[int | str | None] | None] | None = None,
    **attributes: object,
) -> onnx.ModelProto:
    """A model of one node; outputs are named y0, y1, ... where a number is given."""
    names = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else list(outputs)
    node = onnx.helper.make_node(op_type, list(inputs or feeds), names, domain=domain, **attributes)
    graph = onnx.helper.make_graph(
        [node],
        "node",
        [
            onnx.helper.make_tensor_value_info(n, TYPES(a.dtype), (dims or {}).get(n, list(a.shape)))
            for n, a in feeds.items()
            if n not in constants
        ],
        [onnx.ValueInfoProto(name=n) for n in names if n],
        [onnx.numpy_helper.from_array(feeds[n], n) for n in constants],
    )
    imports = [onnx.helper.make_opsetid("", opset)]
    if domain:
        imports.append(onnx.helper.make_opsetid(domain, 1))
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)


def kernels_of(model: onnx.ModelProto) -> list[str]:
    """Names of the kernels of a model's instructions, bodies included."""
    modules = lower(from_proto(model)).main.walk()
    return [instruction.kernel for module in modules for instruction in module.instructions]


def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], threads: int = 1) -> list[np.ndarray]:
    """All outputs."""
    session = InferenceSession(model, optimize=False, threads=threads)
    wanted = {i.name for i in model.graph.input}
    return [np.asarray(y) for y in session.run(None, {n: a for n, a in feeds.items() if n in wanted})]


def reference(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """All outputs as the standard's implementation has them."""
    wanted = {i.name for i in model.graph.input}
    return ReferenceEvaluator(model).run(None, {n: a for n, a in feeds.items() if n in wanted})


@cache
def _all_cases() -> list[TestCase]:
    import warnings

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from onnx.backend.test.loader import load_model_tests

        return list(load_model_tests(kind="node"))


@cache
def backend_cases(
    *prefixes: str,
) -> dict[str, tuple[onnx.ModelProto, list[np.ndarray], list[np.ndarray]]]:
    """The standard's own cases whose name begins so: model, inputs, outputs."""
    found = {}
    for case in _all_cases():
        if case.name.startswith(prefixes) and "expanded" not in case.name and case.data_sets:
            inputs, outputs = case.data_sets[0]
            found[case.name] = (case.model, list(map(_array, inputs)), list(map(_array, outputs)))
    return found


def _array(value: object) -> np.ndarray:
    return onnx.numpy_helper.to_array(value) if isinstance(value, onnx.TensorProto) else np.asarray(value)
