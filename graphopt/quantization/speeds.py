"""How long an operator takes in each form, next to the same one on codes; by target.

In onnxruntime a product of 75 x 256 by 256 x 1024 takes 2.6 times the time of codes as floats, and 2.4
times with weights of 8 bits and float inputs; of one row, where reading the weight takes the time, 2.1 and
1.0 times; with 30 outputs 1.2 and 1.9 times. Its convolutions take weights that were turned into floats once,
when the model was loaded.
"""

from __future__ import annotations

from collections.abc import Mapping

from graphopt.quantization.choices import Choice
from graphopt.quantization.groups import Member

__all__ = ["keeps_codes", "time_of"]

_MATRICES = ("MatMul", "Gemm")
# Products with fewer outputs pay more for unpacking codes than they save; those of fewer rows read weights.
_FEW_OUTPUTS, _FEW_ROWS = 64, 4
_FLOAT = 2.5

# Targets that run products of floats by codes; others turn codes into floats first.
_UNPACKING = ("onnx", "onnxruntime")
_WIDE: Mapping[str, float] = {"weight_only": 2.4, "int4": 2.4}
_ROW: Mapping[str, float] = {"weight_only": 1.1, "int4": 1.1, "float": 2.1, "float16": 2.1}
_NARROW: Mapping[str, float] = {"weight_only": 3.8, "int4": 3.8}
_STORED: Mapping[str, float] = {"weight_only": 1.3, "int4": 1.3}


def time_of(target: str, member: Member, choice: Choice) -> float:
    """Predicted time of an operator in one sample, in multiplications of codes."""
    if member.op_type == "Gather":
        return 0.0
    # A weight is at least read.
    work = max(member.work, float(member.size))
    if choice in ("int8", "int7"):
        return work
    if member.op_type not in _MATRICES:
        return work * _FLOAT
    is_row = member.rows is not None and member.rows < _FEW_ROWS
    if target == "onnxruntime" and member.outputs < _FEW_OUTPUTS:
        table = _NARROW
    elif target in _UNPACKING:
        table = _ROW if is_row else _WIDE
    else:
        table = _STORED if is_row else {}
    return work * table.get(choice, _FLOAT)


def keeps_codes(target: str, member: Member) -> bool:
    """Whether an operator that falls back keeps weights of 8 bits: where it runs no slower by them."""
    return time_of(target, member, "weight_only") <= time_of(target, member, "float")
