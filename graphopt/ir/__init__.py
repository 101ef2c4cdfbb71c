"""What a graph is: loading, saving, verifying, and what is known of values and operators."""

from graphopt.ir.deferred_sympy import import_onnx_ir

import_onnx_ir()
