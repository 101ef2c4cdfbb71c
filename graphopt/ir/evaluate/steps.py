"""Compute what follows from a few numbers, for many of them: one session, a run each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.evaluate.call import Array
from graphopt.ir.evaluate.plain import plain_session

_IR_VERSION = 10


def evaluate_steps(
    nodes: Sequence[ir.Node],
    result: ir.Value,
    feeds: Sequence[Mapping[ir.Value, np.ndarray]],
    opset: Mapping[str, int],
) -> list[Array] | None:
    """One result for each of the feeds, with the bits that onnxruntime gives with optimizations off.

    Args:
        nodes: Pure nodes without bodies, in order; what they use is made by them, constant, or fed.
        result: The value to compute.
        feeds: What the values that change are; at least one, all of the same values.
        opset: Version by domain.

    Returns:
        The results in order; None where onnxruntime can't compute them.
    """
    import onnx

    graph = onnx.GraphProto(name="steps", node=[ir.serde.serialize_node(node) for node in nodes])
    for value, array in feeds[0].items():
        kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
        graph.input.append(onnx.helper.make_tensor_value_info(str(value.name), kind, array.shape))
    graph.output.append(onnx.ValueInfoProto(name=str(result.name)))
    made = {value for node in nodes for value in node.outputs}
    for value in dict.fromkeys(v for node in nodes for v in node.inputs if v is not None and v not in made):
        tensor = constants.constant(value)
        if tensor is not None:
            graph.initializer.append(ir.serde.serialize_tensor(ir.tensor(tensor.numpy(), name=value.name)))
    imports = [onnx.helper.make_opsetid(domain, version) for domain, version in opset.items()]
    model = onnx.helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)
    try:
        session = plain_session(model)
        named = ({str(value.name): array for value, array in feed.items()} for feed in feeds)
        return [np.asarray(session.run(None, feed)[0]) for feed in named]
    except Exception:
        # No kernel, or it fails on one of the numbers; onnxruntime's exceptions have no common base class.
        return None
