"""Which spellings onnxruntime was measured to be good at, on CPUs; what it runs stands in onnxruntime.json.

Times are medians of one thread on x86-64 with AVX-512 VNNI; only their ratios matter. A fusion that
onnxruntime makes by itself when it loads a model (BiasGelu, DynamicQuantizeMatMul, FastGelu, FusedConv,
FusedGemm, FusedMatMul, MatMulIntegerToFloat, QGemm, QuickGelu, the QLinear operators) changes no time.
"""

from __future__ import annotations

from graphopt.targets.operators import Preference

DOMAIN = "com.microsoft"

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
