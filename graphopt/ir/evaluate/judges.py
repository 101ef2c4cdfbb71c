"""Computing a node by others: onnxruntime with optimizations off, and onnx.reference."""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import onnx_ir as ir

from graphopt.ir.evaluate.call import Array, Call
from graphopt.ir.evaluate.plain import plain_options

if TYPE_CHECKING:
    import onnx
    import onnxruntime

# Kernels may prepare a constant input beforehand, as they would at run time: inputs are initializers. Above
# this size they are fed instead, since a model is copied several times on its way into a session.
LARGEST_IN_MODEL_BYTES = 64 << 20

_IR_VERSION = 10


def by_onnxruntime(call: Call, opset: Mapping[str, int]) -> list[Array] | None:
    """The outputs as onnxruntime computes them on the CPU; None where it has no kernel for the node.

    Raises:
        CannotEvaluate: It fails on these inputs, or gives something else than tensors of numbers.
    """
    import onnxruntime

    fed = _large_inputs(call)
    model = _model_of(call, opset, fed)
    options = plain_options()
    options.use_deterministic_compute = True
    providers = ["CPUExecutionProvider"]
    try:
        session = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=providers)
    except Exception:
        # No kernel, a newer opset, an operator it does not know: its exceptions have no common base class.
        return None
    try:
        feeds = {f"x{i}": onnxruntime.OrtValue.ortvalue_from_numpy(call.array(i)) for i in fed}
        found = session.run_with_ort_values(None, feeds)
    except Exception as error:
        raise call.refusal(f"onnxruntime says: {error}") from None
    return [_array(call, value) for value in found]


def by_reference(call: Call, opset: Mapping[str, int]) -> list[Array]:
    """The outputs as onnx.reference computes them.

    Raises:
        CannotEvaluate: It does not know the operator, fails, or gives a dtype that the operator can't have.
    """
    import onnx
    from onnx.reference import ReferenceEvaluator

    model = _model_of(call, opset, ())
    try:
        inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph.output
        found = ReferenceEvaluator(model).run(None, {})
    except Exception as error:
        raise call.refusal(f"neither onnxruntime nor onnx.reference computes it: {error}") from None
    for array, value in zip(found, inferred, strict=True):
        if not isinstance(array, np.ndarray) or array.dtype.kind in "OSU":
            raise call.refusal("a result is no tensor of numbers")
        code = value.type.tensor_type.elem_type
        if not code or ir.DataType(code).numpy() != array.dtype:
            raise call.refusal(f"onnx.reference gives {array.dtype}, which the operator can't")
    return list(found)


def _large_inputs(call: Call) -> tuple[int, ...]:
    """Inputs that are fed; types that numpy lacks can't be, and stay in the model."""
    sizes = {i: array.nbytes for i, array in enumerate(call.arrays) if array is not None}
    if sum(sizes.values()) <= LARGEST_IN_MODEL_BYTES:
        return ()
    arrays = {i: call.array(i) for i in sizes}
    return tuple(i for i, array in arrays.items() if array.dtype.isbuiltin == 1 and array.nbytes > 1024)


def _model_of(call: Call, opset: Mapping[str, int], fed: tuple[int, ...]) -> onnx.ModelProto:
    """A model of the node alone: inputs are initializers except those `fed`, outputs are y0, y1, ..."""
    import onnx

    node = ir.serde.serialize_node(call.node)
    names = [f"x{i}" if call.has(i) else "" for i in range(len(call.arrays))]
    outputs = [f"y{i}" for i in range(len(call.node.outputs))]
    del node.input[:], node.output[:], node.metadata_props[:]
    node.input.extend(names)
    node.output.extend(outputs)
    graph = onnx.GraphProto(name="node", node=[node])
    for index, array in enumerate(call.arrays):
        if array is None:
            continue
        if index in fed:
            kind = onnx.helper.np_dtype_to_tensor_dtype(array.dtype)
            graph.input.append(onnx.helper.make_tensor_value_info(names[index], kind, array.shape))
        else:
            graph.initializer.append(ir.serde.serialize_tensor(ir.tensor(array, name=names[index])))
    graph.output.extend(onnx.ValueInfoProto(name=name) for name in outputs)
    domains = dict.fromkeys(("", call.node.domain))
    imports = [onnx.helper.make_opsetid(domain, opset.get(domain, 1)) for domain in domains]
    return onnx.helper.make_model(graph, opset_imports=imports, ir_version=_IR_VERSION)


def _array(call: Call, value: onnxruntime.OrtValue) -> Array:
    """A result of onnxruntime; types that numpy lacks are copied from its memory."""
    if not value.is_tensor():
        raise call.refusal("a result is no tensor")
    name = value.data_type().removeprefix("tensor(").removesuffix(")")
    if name == "string":
        raise call.refusal("strings are not evaluated")
    dtype = _DTYPES[name]
    if dtype.numpy().isbuiltin == 1:
        return np.asarray(value.numpy())
    dims = tuple(value.shape())
    nbytes = (int(np.prod(dims, dtype=np.int64)) * dtype.bitwidth + 7) // 8
    raw = np.zeros(nbytes, np.uint8)
    if nbytes:
        ctypes.memmove(raw.ctypes.data, value.data_ptr(), nbytes)
    if dtype.bitwidth < 8:
        return ir.PackedTensor(raw, dtype, shape=ir.Shape(dims)).numpy()
    return raw.view(dtype.numpy()).reshape(dims)


_DTYPES = {
    "float16": ir.DataType.FLOAT16,
    "float": ir.DataType.FLOAT,
    "double": ir.DataType.DOUBLE,
    "bfloat16": ir.DataType.BFLOAT16,
    "float8e4m3fn": ir.DataType.FLOAT8E4M3FN,
    "float8e4m3fnuz": ir.DataType.FLOAT8E4M3FNUZ,
    "float8e5m2": ir.DataType.FLOAT8E5M2,
    "float8e5m2fnuz": ir.DataType.FLOAT8E5M2FNUZ,
    "float4e2m1": ir.DataType.FLOAT4E2M1,
    "int4": ir.DataType.INT4,
    "uint4": ir.DataType.UINT4,
    "int8": ir.DataType.INT8,
    "int16": ir.DataType.INT16,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
    "uint8": ir.DataType.UINT8,
    "uint16": ir.DataType.UINT16,
    "uint32": ir.DataType.UINT32,
    "uint64": ir.DataType.UINT64,
    "bool": ir.DataType.BOOL,
    "complex64": ir.DataType.COMPLEX64,
    "complex128": ir.DataType.COMPLEX128,
}
