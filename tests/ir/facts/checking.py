"""Inferred facts held against what a run gives: one node, symbolic dims, numbers put in for them."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.ir.dims import Dim, high, low, substitute
from graphopt.ir.evaluate.plain import plain_session
from graphopt.ir.fact import TensorFact
from graphopt.ir.facts import lookup
from graphopt.ir.facts.registry import InferenceContext
from graphopt.ir.inference import Facts

Sizes = Mapping[str, int]


@dataclass(frozen=True)
class Runtime:
    """A tensor whose contents only the run knows."""

    array: np.ndarray


Given = str | np.ndarray | Runtime | None
_DTYPES = {
    "float": "float32",
    "double": "float64",
    "half": "float16",
    "string": "object",
}


def declared(text: str) -> tuple[np.dtype, tuple[int | str, ...]]:
    """ "float[N,3]" as dtype and dims."""
    name, dims = re.fullmatch(r"(\w+)\[(.*)\]", text).groups()
    parts = [part.strip() for part in dims.split(",") if part.strip()]
    return np.dtype(_DTYPES.get(name, name)), tuple(int(part) if part.isdigit() else part for part in parts)


def one_node(
    op: str,
    inputs: Sequence[Given],
    *,
    opset: int = 21,
    domain: str = "",
    version: int = 1,
    outputs: int = 1,
    **attributes: object,
) -> onnx.ModelProto:
    """A model of one node; arrays are initializers, the rest are inputs."""
    names = [f"x{i}" if given is not None else "" for i, given in enumerate(inputs)]
    results = [f"y{i}" for i in range(outputs)]
    node = onnx.helper.make_node(op, names, results, name="node", domain=domain, **attributes)
    signature, constants = [], []
    for name, given in zip(names, inputs, strict=True):
        if isinstance(given, np.ndarray):
            constants.append(onnx.numpy_helper.from_array(given, name))
        elif isinstance(given, Runtime):
            kind = onnx.helper.np_dtype_to_tensor_dtype(given.array.dtype)
            signature.append(onnx.helper.make_tensor_value_info(name, kind, given.array.shape))
        elif given is not None:
            dtype, dims = declared(given)
            signature.append(
                onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(dtype), dims)
            )
    declared_outputs = [onnx.ValueInfoProto(name=name) for name in results]
    graph = onnx.helper.make_graph([node], "graph", signature, declared_outputs, constants)
    imports = [onnx.helper.make_opsetid("", opset)]
    if domain:
        imports.append(onnx.helper.make_opsetid(domain, version))
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=10)


def sample(given: str, sizes: Sizes, seed: int) -> np.ndarray:
    """Numbers for an input: small, of its dtype, the same at each run."""
    dtype, dims = declared(given)
    shape = tuple(sizes[dim] if isinstance(dim, str) else dim for dim in dims)
    generator = np.random.default_rng(seed)
    if dtype.kind == "O":
        return generator.choice(np.array(["a", "b c", "", "d"], dtype=object), shape)
    if dtype.kind == "b":
        return generator.integers(0, 2, shape).astype(bool)
    if dtype.kind in "iu":
        return generator.integers(0, 3, shape).astype(dtype)
    return generator.uniform(0.5, 1.5, shape).astype(dtype)


def run(model: onnx.ModelProto, feeds: Mapping[str, np.ndarray], judge: str) -> list[np.ndarray]:
    """The outputs as onnxruntime (optimizations off) or onnx.reference gives them."""
    if judge == "reference":
        from onnx.reference import ReferenceEvaluator

        return ReferenceEvaluator(model).run(None, dict(feeds))
    return plain_session(model).run(None, dict(feeds))


def facts_of(model: onnx.ModelProto) -> tuple[Facts, ir.Node]:
    """The facts of a model of one node, and the node; inference may not have raised."""
    known = ir.serde.deserialize_model(model)
    facts, node = Facts(known), next(iter(known.graph))
    for output in node.outputs:
        facts.of(output)
    assert not facts.failures, facts.failures
    return facts, node


def flops(facts: Facts, node: ir.Node, opset: int) -> Dim:
    """The node's FLOPs as its entry counts them."""
    entry = lookup(node)
    assert entry is not None and entry.flops is not None
    inputs = [None if value is None else facts.of(value) for value in node.inputs]
    return entry.flops(InferenceContext(facts, node, inputs, opset))


def check(
    op: str,
    inputs: Sequence[Given],
    *sizes: Sizes,
    opset: int = 21,
    domain: str = "",
    version: int = 1,
    outputs: int = 1,
    judge: str = "onnxruntime",
    dims: Sequence[str | None] = (),
    exact: bool = True,
    **attributes: object,
) -> None:
    """Hold the facts of one node against a run at each of the sizes.

    Args:
        op: The operator.
        inputs: "float[N,3]" (random numbers), an array (a constant), Runtime(array), or None (absent).
        sizes: Numbers for the symbols.
        opset: Version of the standard operator set.
        domain: The operator's domain.
        version: Version of that domain, unless it is the standard one.
        outputs: How many outputs the node has.
        judge: Who runs it: "onnxruntime" or "reference".
        dims: The inferred dims of each output as text; None: not looked at.
        exact: Every dim must become a number; otherwise it need only allow the number found.
        attributes: The node's attributes.
    """
    model = one_node(op, inputs, opset=opset, domain=domain, version=version, outputs=outputs, **attributes)
    facts, node = facts_of(model)
    for output, text in zip(node.outputs, dims, strict=False):
        assert text is None or facts.describe(output).partition("[")[2] == text + "]"
    for size in sizes or ({},):
        feeds = {}
        for i, given in enumerate(inputs):
            if isinstance(given, Runtime):
                feeds[f"x{i}"] = given.array
            elif isinstance(given, str):
                feeds[f"x{i}"] = sample(given, size, i)
        for output, found in zip(node.outputs, run(model, feeds, judge), strict=True):
            assert_holds(facts.of(output), found, size, exact)


def assert_holds(fact: object, found: np.ndarray, sizes: Sizes, exact: bool) -> None:
    """The fact is true of the tensor found."""
    assert isinstance(fact, TensorFact)
    found = np.asarray(found)
    expected = ir.DataType.STRING if found.dtype.kind in "OU" else ir.DataType.from_numpy(found.dtype)
    assert fact.dtype is expected
    assert fact.dims is not None or not exact
    if fact.dims is None:
        return
    assert len(fact.dims) == found.ndim, (fact.dims, found.shape)
    numbers = [substitute(dim, sizes) for dim in fact.dims]
    for number, size in zip(numbers, found.shape, strict=True):
        if exact or isinstance(number, int):
            assert number == size, (fact.dims, sizes, found.shape)
        else:
            assert (low(number) or 0) <= size and (high(number) is None or size <= high(number))
    if fact.elements is not None:
        for element, value in zip(fact.elements, found.reshape(-1).tolist(), strict=True):
            assert element is None or substitute(element, sizes) == value
