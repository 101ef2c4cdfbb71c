"""Element types by what is computed with them."""

from __future__ import annotations

from onnx_ir import DataType

__all__ = ["FLOATS", "INTEGERS", "UP_TO_FLOAT32"]

# What operators compute with: the floats of 8 and 4 bits are for storage, and for quantization.
FLOATS = frozenset({DataType.FLOAT, DataType.DOUBLE, DataType.FLOAT16, DataType.BFLOAT16})
# What float32 holds exactly.
UP_TO_FLOAT32 = FLOATS - {DataType.DOUBLE}
INTEGERS = frozenset(
    {DataType.INT8, DataType.INT16, DataType.INT32, DataType.INT64}
    | {DataType.UINT8, DataType.UINT16, DataType.UINT32, DataType.UINT64}
)
