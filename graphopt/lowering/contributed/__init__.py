"""Operators that onnxruntime contributes (domain com.microsoft), as functions of standard ones.

Its quantizer and its optimizer write them. Their definitions stand in onnxruntime's ContribOperators.md; what
a kernel there approximates (a softmax of bytes by tables) is computed as defined.
"""

from graphopt.lowering.contributed import fused, quantized, recurrent  # noqa: F401  (they register)
from graphopt.lowering.contributed.body import CONTRIBUTED, contributed_function

__all__ = ["CONTRIBUTED", "contributed_function"]
