"""What onnxruntime has on CPUs besides the standard's operators, and what it was measured to be good at.

Element types are those of its CPU kernels (a test compares them with the installed release). Times are
medians of one thread on x86-64 with AVX-512 VNNI; only their ratios matter. Releases before 1.32 were not
tried: `release` is the oldest that graphopt installs with, not the first that was seen to run an operator.
"""

from __future__ import annotations

import onnx_ir as ir

from graphopt.targets.operators import OperatorRow, Preference

DOMAIN = "com.microsoft"

# The oldest release that graphopt installs with.
OLDEST = (1, 22)

_FLOAT = frozenset({ir.DataType.FLOAT})
_BYTES = frozenset({ir.DataType.UINT8, ir.DataType.INT8})


def _row(op_type: str, dtypes: frozenset[ir.DataType], *, at_load: bool = True) -> OperatorRow:
    return OperatorRow(DOMAIN, op_type, OLDEST, dtypes, at_load)


OPERATORS = (
    # Written at load from two or more standard operators; the time of either spelling is the same.
    _row("BiasGelu", _FLOAT),
    _row("DynamicQuantizeMatMul", _FLOAT),
    _row("FastGelu", _FLOAT),
    _row("FusedConv", _FLOAT),
    _row("FusedGemm", _FLOAT),
    _row("FusedMatMul", frozenset({ir.DataType.FLOAT, ir.DataType.DOUBLE})),
    _row("MatMulIntegerToFloat", _BYTES),
    _row("QGemm", _BYTES),
    _row("QLinearAdd", _BYTES),
    _row("QLinearGlobalAveragePool", _BYTES),
    _row("QLinearLeakyRelu", _BYTES),
    _row("QLinearMul", _BYTES),
    _row("QLinearSigmoid", _BYTES),
    _row("QLinearSoftmax", _BYTES),
    _row("QuickGelu", _FLOAT),
    # Never written at load from Attention-23: what it gains is in PREFERENCES.
    _row("Attention", _FLOAT, at_load=False),
)

_MEASURED = "onnxruntime 1.32, one thread, both spellings in turn, medians"

# Spellings that the passes of this target choose between.
PREFERENCES = (
    Preference(
        "Add, Add, LayerNormalization",
        "Sum, LayerNormalization",
        "(x + bias) + residual, x float32[4,128,768]",
        (433.7, 371.4),
        _MEASURED,
    ),
    Preference("Add, Gelu", "BiasGelu", "x float32[2,128,1024]", (305.5, 241.2), _MEASURED),
    Preference(
        "3 MatMul, 3 Add, Attention",
        "com.microsoft.Attention",
        "x float32[1,32,256], 4 heads",
        (166.0, 160.1),
        _MEASURED,
    ),
    Preference(
        "3 MatMul, 3 Add, Attention",
        "com.microsoft.Attention",
        "x float32[1,128,768], 12 heads",
        (5331.1, 5286.3),
        _MEASURED,
    ),
    Preference(
        "3 MatMul, 3 Add, Attention",
        "MatMul, Add, Split, Attention",
        "x float32[1,1,256], 16 layers",
        (616.2, 510.7),
        _MEASURED,
    ),
    Preference(
        "int8 QLinearMatMul",
        "uint8 QLinearMatMul",
        "x [192,256] by an int8 weight [256,256]",
        (771.0, 73.0),
        _MEASURED,
    ),
)

# What other optimizers write, and what costs time here: no pass writes it.
AVOIDED = (
    Preference(
        "3 MatMul, 3 Add, Attention",
        "com.microsoft.Attention with a mask",
        "roberta_ts14 as a whole, 3 x 64 tokens",
        (15129.0, 15432.0),
        _MEASURED,
    ),
    Preference(
        "mask arithmetic, 3 MatMul, 3 Add, Attention",
        "com.microsoft.Attention with a mask of integers",
        "roberta_ts14 as a whole, 3 x 64 tokens",
        (15567.7, 16040.9),
        _MEASURED,
    ),
    Preference(
        "Add, LayerNormalization",
        "SkipLayerNormalization",
        "x float32[3,64,384] without a bias",
        (54.0, 377.7),
        _MEASURED,
    ),
    Preference(
        "Add, LayerNormalization",
        "SkipLayerNormalization",
        "x float32[1,7,384] without a bias",
        (3.6, 14.5),
        _MEASURED,
    ),
    Preference(
        "Add, Add, LayerNormalization",
        "SkipLayerNormalization",
        "x float32[2,128,256] with a bias",
        (101.1, 366.3),
        _MEASURED,
    ),
    Preference(
        "Add, RMSNormalization",
        "SkipSimplifiedLayerNormalization",
        "x float32[2,128,256]",
        (37.8, 79.3),
        _MEASURED,
    ),
    Preference(
        "3 MatMul, 3 Add, Attention",
        "3 MatMul, MultiHeadAttention with a bias",
        "x float32[2,128,384], 6 heads, a mask",
        (3332.2, 3521.2),
        _MEASURED,
    ),
)
