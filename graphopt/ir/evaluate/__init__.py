"""Compute one node on constant inputs, with the bits that onnxruntime gives at run time.

Data movement, and arithmetic that IEEE 754 defines to the last bit, is done with numpy; all else by
onnxruntime on a model of this one node with optimizations off; what it has no kernel for, by
onnx.reference.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx_ir as ir

from graphopt.ir.evaluate import arithmetic, casts, movement
from graphopt.ir.evaluate.call import Array, Call, CannotEvaluate, Compute
from graphopt.ir.evaluate.judges import by_onnxruntime, by_reference
from graphopt.ir.facts import is_pure
from graphopt.ir.graphs import bodies

__all__ = ["CannotEvaluate", "evaluate"]

_DIRECT = {**movement.OPERATORS, **arithmetic.OPERATORS, **casts.OPERATORS}


def evaluate(node: ir.Node, arrays: Sequence[Array | None], opset: Mapping[str, int]) -> list[Array]:
    """The outputs of `node`, all of them, for these inputs.

    Args:
        node: A pure node without bodies whose attributes are all given.
        arrays: One an input, None where it is absent; narrow types as ml_dtypes.
        opset: Version by domain, as the model (or function) imports them.

    Returns:
        One array an output, an output without a name included. They may be views of the inputs:
        read-only for the caller.

    Raises:
        CannotEvaluate: The operator is unknown, impure or fails on these inputs; a string, a
            sequence, a map or an optional is among its values; nobody implements it.
    """
    call = Call(node, tuple(arrays), opset.get(node.domain, 0))
    if any(array is not None and array.dtype.kind in "OSU" for array in call.arrays):
        raise call.refusal("strings are not evaluated")
    if not is_pure(node):
        raise call.refusal("it is unknown, random or has side effects")
    if bodies(node) or any(attr.is_ref() for attr in node.attributes.values()):
        raise call.refusal("its body or attributes depend on what is around it")
    compute = _DIRECT.get(node.op_type) if node.domain == "" else None
    found = None if compute is None else _directly(compute, call)
    if found is None:
        found = by_onnxruntime(call, opset)
    return by_reference(call, opset) if found is None else found


def _directly(compute: Compute, call: Call) -> list[Array] | None:
    with np.errstate(all="ignore"):
        try:
            found = compute(call)
        except (ValueError, IndexError, TypeError, OverflowError):
            # Inputs that numpy refuses: a runtime says what is wrong with them.
            return None
    return None if found is None else [np.asarray(array) for array in found]
