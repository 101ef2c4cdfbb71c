"""One small model an operator, at several sizes: what `benchmarks.costs` times.

An input is written as element type, dims, and how it is filled: `f32[R,D]` random numbers, `*f32[D,D]` a
weight, `i64[K]<9` indices below 9, `u8[]=128` numbers that are repeated. Dims are numbers, letters of the
case's sizes, or products.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from graphopt.ir import own_operators
from graphopt.ir.own_operators import ACTIVATIONS, CONVOLUTIONS

Sizes = Mapping[str, int]
Attribute = int | float | str | Sequence[int]

# 64 elements to 256 Ki: from what only starting the operator costs to the whole of a second-level cache.
ROWS: tuple[Sizes, ...] = (
    {"R": 1, "D": 64},
    {"R": 16, "D": 256},
    {"R": 128, "D": 512},
    {"R": 256, "D": 1024},
)
PRODUCTS: tuple[Sizes, ...] = (
    {"R": 1, "D": 64},
    {"R": 1, "D": 256},
    {"R": 16, "D": 64},
    {"R": 16, "D": 256},
    {"R": 64, "D": 256},
    {"R": 64, "D": 512},
)
HEADS: tuple[Sizes, ...] = ({"H": 2, "T": 4}, {"H": 4, "T": 16}, {"H": 4, "T": 64}, {"H": 8, "T": 128})
IMAGES: tuple[Sizes, ...] = ({"C": 8, "P": 4}, {"C": 16, "P": 14}, {"C": 32, "P": 28}, {"C": 64, "P": 28})
STEPS: tuple[Sizes, ...] = ({"T": 1, "D": 16}, {"T": 4, "D": 64}, {"T": 16, "D": 128})


@dataclass(frozen=True)
class Case:
    """One node.

    Attributes:
        op_type: Its operator.
        inputs: As this module's docstring says; "" is left out.
        attributes: Its attributes.
        sizes: What the letters stand for, one model each.
        outputs: How many it has.
        opset: Of the default domain.
        domain: Of the operator.
        is_view: Timed in a chain: a runtime copies nothing where the result is not a graph output.
    """

    op_type: str
    inputs: tuple[str, ...]
    attributes: Mapping[str, Attribute] = field(default_factory=dict)
    sizes: tuple[Sizes, ...] = ROWS
    outputs: int = 1
    opset: int = 23
    domain: str = ""
    is_view: bool = False


def case(
    op_types: str,
    inputs: str,
    sizes: tuple[Sizes, ...] = ROWS,
    outputs: int = 1,
    opset: int = 23,
    domain: str = "",
    is_view: bool = False,
    **attributes: Attribute,
) -> list[Case]:
    """The same case for several operators; an attribute that is called like a parameter ends in "_"."""
    given = tuple("" if text == "-" else text for text in inputs.split())
    named = {name.rstrip("_"): value for name, value in attributes.items()}
    return [
        Case(op_type, given, named, sizes, outputs, opset, domain, is_view) for op_type in op_types.split()
    ]


ELEMENTWISE = [
    *case("Abs Ceil Floor Neg Round Sign Reciprocal Sqrt Exp Log Erf Sigmoid Tanh Sin Cos", "f32[R,D]"),
    *case("Tan Asin Acos Atan Sinh Cosh Asinh Acosh Atanh IsNaN IsInf", "f32[R,D]"),
    *case("Relu LeakyRelu Elu Celu Selu ThresholdedRelu Softplus Softsign Mish Gelu Shrink", "f32[R,D]"),
    *case("HardSigmoid HardSwish", "f32[R,D]"),
    *case("Swish", "f32[R,D]", opset=24),
    *case("Add Sub Mul Div Max Min Sum Mean PRelu", "f32[R,D] f32[R,D]"),
    *case("Add Sub Mul Div PRelu Max Min Sum Mean", "f32[R,D] *f32[D]"),
    *case("Sum Mean", "f32[R,D] *f32[D] f32[R,D]"),
    *case("Add Sub Mul Div Pow", "f32[R,D] *f32[]=2"),
    *case("Mod", "f32[R,D] *f32[]=2", fmod=1),
    *case("Pow", "f32[R,D] f32[R,D]"),
    *case("Equal Less LessOrEqual Greater GreaterOrEqual", "f32[R,D] f32[R,D]"),
    *case("Equal Less LessOrEqual Greater GreaterOrEqual", "f32[R,D] *f32[]=1"),
    *case("And Or Xor", "bool[R,D] bool[R,D]"),
    *case("Not", "bool[R,D]"),
    *case("BitwiseAnd BitwiseOr BitwiseXor", "i32[R,D] i32[R,D]"),
    *case("BitwiseNot", "i32[R,D]"),
    *case("BitShift", "u32[R,D] *u32[]=2", direction="LEFT"),
    *case("Clip", "f32[R,D] *f32[]=0 *f32[]=1"),
    *case("Where", "bool[R,D]=1,1,1,0 f32[R,D] f32[R,D]"),
    *case("Where", "bool[R,D]=1,1,1,0 f32[R,D] *f32[]=0"),
    *case("Cast", "f32[R,D]", to=7),
    *case("Cast", "i64[R,D]<9", to=1),
    *case("Cast", "bool[R,D]", to=1),
    *case("CastLike", "f32[R,D] *i64[]=0"),
    *case("BitCast", "f32[R,D]", to=6, opset=26),
    *case("Dropout Identity", "f32[R,D]", is_view=True),
]

NORMALIZATION = [
    *case("Softmax LogSoftmax Hardmax", "f32[R,D]", axis=-1),
    *case("LayerNormalization", "f32[R,D] *f32[D] *f32[D]", axis=-1),
    *case("RMSNormalization", "f32[R,D] *f32[D]", axis=-1),
    *case("LpNormalization", "f32[R,D]", axis=-1),
    *case("MeanVarianceNormalization", "f32[1,C,P,P]", IMAGES),
    *case("InstanceNormalization", "f32[1,C,P,P] *f32[C] *f32[C]", IMAGES),
    *case("GroupNormalization", "f32[1,C,P,P] *f32[C] *f32[C]", IMAGES, num_groups=4),
    *case("BatchNormalization", "f32[1,C,P,P] *f32[C] *f32[C] *f32[C] *f32[C]=1", IMAGES),
    *case("LRN", "f32[1,C,P,P]", IMAGES, size=5),
]

REDUCTIONS = [
    *case("ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2", "f32[R,D] *i64[1]=-1"),
    *case("ReduceSumSquare ReduceLogSum ReduceLogSumExp", "f32[R,D] *i64[1]=-1"),
    *case("ReduceSum ReduceMean ReduceMax ReduceMin", "f32[R,D] *i64[1]=0"),
    *case("ArgMax ArgMin", "f32[R,D]", axis=-1),
    *case("CumSum", "f32[R,D] *i64[]=1"),
    *case("CumProd", "f32[R,D] *i64[]=1", opset=26),
    *case("TopK", "f32[R,D] *i64[1]=8", outputs=2),
]

PRODUCT_CASES = [
    *case("MatMul", "f32[R,D] *f32[D,D]", PRODUCTS),
    *case("MatMul", "f32[H,T,64] f32[H,64,T]", HEADS),
    *case("Gemm", "f32[R,D] *f32[D,D] *f32[D]", PRODUCTS),
    *case("Einsum", "f32[H,T,64] f32[H,64,T]", HEADS, equation="hik,hkj->hij"),
    *case("MatMulInteger", "u8[R,D] *i8[D,D]", PRODUCTS),
    *case(
        "QLinearMatMul",
        "u8[R,D] *f32[]=0.1 *u8[]=128 *i8[D,D] *f32[]=0.1 *i8[]=0 *f32[]=1 *u8[]=128",
        PRODUCTS,
    ),
    *case("Attention", "f32[1,H,T,64] f32[1,H,T,64] f32[1,H,T,64]", HEADS),
    *case("Attention", "f32[1,T,256] f32[1,T,256] f32[1,T,256]", HEADS, q_num_heads=4, kv_num_heads=4),
    *case("RotaryEmbedding", "f32[1,H,T,64] *f32[1,T,32] *f32[1,T,32]", HEADS),
    *case("LSTM", "f32[T,1,D] *f32[1,4*D,D] *f32[1,4*D,D]", STEPS, hidden_size="D"),
    *case("GRU", "f32[T,1,D] *f32[1,3*D,D] *f32[1,3*D,D]", STEPS, hidden_size="D"),
    *case("RNN", "f32[T,1,D] *f32[1,D,D] *f32[1,D,D]", STEPS, hidden_size="D"),
    *case("Det", "f32[H,T,T]", HEADS[:3]),
]

WINDOWS = [
    *case("Conv", "f32[1,C,P,P] *f32[C,C,3,3] *f32[C]", IMAGES, pads=(1, 1, 1, 1)),
    *case("Conv", "f32[1,C,P,P] *f32[C,C,1,1] *f32[C]", IMAGES),
    *case("ConvTranspose", "f32[1,C,P,P] *f32[C,C,2,2]", IMAGES, strides=(2, 2)),
    *case("ConvInteger", "u8[1,C,P,P] *u8[C,C,3,3]", IMAGES),
    *case(
        "QLinearConv",
        "u8[1,C,P,P] *f32[]=0.1 *u8[]=128 *i8[C,C,3,3] *f32[]=0.1 *i8[]=0 *f32[]=1 *u8[]=128",
        IMAGES,
    ),
    *case("DeformConv", "f32[1,C,P,P] *f32[C,C,1,1] f32[1,2,P,P]", IMAGES[:3], kernel_shape=(1, 1)),
    *case("AveragePool MaxPool", "f32[1,C,P,P]", IMAGES, kernel_shape=(3, 3)),
    *case("LpPool", "f32[1,C,P,P]", IMAGES, kernel_shape=(3, 3), p=2),
    *case("GlobalAveragePool GlobalMaxPool", "f32[1,C,P,P]", IMAGES),
    *case("GlobalLpPool", "f32[1,C,P,P]", IMAGES, opset=21),
    *case("MaxUnpool", "f32[1,C,P,P] i64[1,C,P,P]<16", IMAGES, kernel_shape=(2, 2), strides=(2, 2)),
    *case("MaxRoiPool", "f32[1,C,P,P] *f32[4,5]=0", IMAGES, opset=21, pooled_shape=(2, 2)),
    *case("RoiAlign", "f32[1,C,P,P] *f32[4,4]=1 *i64[4]=0", IMAGES, opset=21),
    *case("Resize", "f32[1,C,P,P] - *f32[4]=1,1,2,2", IMAGES, mode="nearest"),
    *case("Resize", "f32[1,C,P,P] - *f32[4]=1,1,2,2", IMAGES, mode="linear"),
    *case("Upsample", "f32[1,C,P,P] *f32[4]=1,1,2,2", IMAGES, opset=9),
    *case("GridSample", "f32[1,C,P,P] f32[1,P,P,2]", IMAGES[:3]),
    *case("AffineGrid", "f32[C,2,3] *i64[4]=8,4,16,16", ({"C": 8},)),
    *case("DepthToSpace", "f32[1,C,P,P]", IMAGES, blocksize=2),
    *case("SpaceToDepth", "f32[1,C,2*P,2*P]", IMAGES, blocksize=2),
    *case("Col2Im", "f32[1,4*C,P*P] *i64[2]=28,28 *i64[2]=2,2", ({"C": 8, "P": 27},)),
]

MOVEMENT = [
    *case("Transpose", "f32[R,D]", perm=(1, 0)),
    *case("Transpose", "f32[1,T,H,64]", HEADS, perm=(0, 2, 1, 3)),
    *case("Transpose", "f32[1,H,T,64]", HEADS, perm=(0, 1, 3, 2)),
    *case("Concat", "f32[R,D] f32[R,D]", axis=-1),
    *case("Concat", "f32[R,D] f32[R,D]", axis=0),
    *case("Split", "f32[R,D]", outputs=2, axis=-1, num_outputs=2),
    *case("Slice", "f32[2*R,D] *i64[1]=0 *i64[1]=D *i64[1]=1 *i64[1]=2"),
    *case("Slice", "f32[2*R,D] *i64[1]=0 *i64[1]=R *i64[1]=0"),
    *case("Gather", "*f32[512,D] i64[R]<512"),
    *case("Gather", "f32[R,16,D] i64[8]<16", ROWS[:3], axis=1),
    *case("GatherElements", "f32[R,D] i64[R,D]<64", axis=1),
    *case("GatherND", "f32[512,D] i64[R,1]<512"),
    *case("Scatter", "f32[R,D] i64[R,8]<64 f32[R,8]", opset=10, axis=1),
    *case("ScatterElements", "f32[R,D] i64[R,8]<64 f32[R,8]", axis=1),
    *case("ScatterND", "f32[64,D] i64[R,1]<64 f32[R,D]"),
    *case("TensorScatter", "f32[1,H,128,64] f32[1,H,T,64] *i64[1]=0", HEADS, opset=24),
    *case("Compress", "f32[R,D] bool[D]", axis=1),
    *case("Expand", "f32[1,D] *i64[2]=R,D"),
    *case("Expand", "f32[R,1] *i64[2]=R,D"),
    *case("Tile", "f32[R,D] *i64[2]=2,1"),
    *case("Pad", "f32[R,D] *i64[4]=1,1,1,1"),
    *case("Trilu", "f32[D,D]", ({"D": 8}, {"D": 64}, {"D": 256})),
    *case("ReverseSequence", "f32[4,R,D] *i64[R]=2", time_axis=0, batch_axis=1),
    *case("CenterCropPad", "f32[2*R,D] *i64[2]=R,D"),
    *case("Flatten", "f32[R,D]", is_view=True),
    *case("Reshape", "f32[R,D] *i64[2]=R,D", is_view=True),
    *case("Unsqueeze", "f32[R,D] *i64[1]=0", is_view=True),
    *case("Squeeze", "f32[1,1,1,1,1,1,1,1,1,1,1,R,D] *i64[1]=0", is_view=True),
    *case("Shape Size", "f32[R,D]"),
    *case("ConstantOfShape", "*i64[2]=R,D"),
    *case("EyeLike", "f32[R,D]"),
    *case("Range", "*i64[]=0 *i64[]=D*R *i64[]=1"),
    *case("OneHot", "i64[R]<64 *i64[]=D *f32[2]=0,1"),
    *case("NonZero", "f32[R,D]"),
    *case("Unique", "i64[R*D]<64", sorted=1),
    *case("NonMaxSuppression", "f32[1,D,4] f32[1,R,D] *i64[1]=8 *f32[1]=0.5 *f32[1]=0.9", ROWS[:2]),
    *case("TopK", "f32[1,D] *i64[1]=1", outputs=2),
    *case("RandomNormalLike RandomUniformLike Bernoulli", "f32[R,D]", opset=21),
    *case("Multinomial", "f32[R,D]", opset=21, sample_size=4),
]

QUANTIZED = [
    *case("QuantizeLinear", "f32[R,D] *f32[]=0.1 *u8[]=128"),
    *case("DequantizeLinear", "u8[R,D] *f32[]=0.1 *u8[]=128"),
    *case("DynamicQuantizeLinear", "f32[R,D]", outputs=3),
]

SIGNALS = [
    *case("DFT", "f32[R,D,1]", ROWS[:3], axis=1, opset=17),
    *case("STFT", "f32[R,D,1] *i64[]=32 *f32[64]=1", ROWS[:3]),
    *case("HannWindow HammingWindow BlackmanWindow", "*i64[]=D", ROWS[:3]),
    *case("MelWeightMatrix", "*i64[]=40 *i64[]=D *i64[]=16000 *f32[]=0 *f32[]=8000", ROWS[:3]),
    *case("NegativeLogLikelihoodLoss SoftmaxCrossEntropyLoss", "f32[R,D] i64[R]<64"),
]

SEQUENCES = [
    *case("SequenceConstruct", "f32[R,D] f32[R,D]"),
    *case("SplitToSequence", "f32[4,R,D]", axis=0),
]

_MS = "com.microsoft"
MICROSOFT = [
    *case("BiasGelu", "f32[R,D] *f32[D]", domain=_MS),
    *case("FastGelu QuickGelu", "f32[R,D]", domain=_MS),
    *case("SkipLayerNormalization", "f32[1,R,D] f32[1,R,D] *f32[D] *f32[D] *f32[D]", domain=_MS),
    *case("FusedMatMul", "f32[R,D] *f32[D,D]", PRODUCTS, domain=_MS, alpha=0.5),
    *case("FusedMatMul", "f32[H,T,64] f32[H,T,64]", HEADS, domain=_MS, alpha=0.125, transB=1),
    *case("FusedGemm", "f32[R,D] *f32[D,D] *f32[D]", PRODUCTS, domain=_MS, activation="Relu"),
    *case(
        "FusedConv",
        "f32[1,C,P,P] *f32[C,C,3,3] *f32[C]",
        IMAGES,
        domain=_MS,
        pads=(1,) * 4,
        activation="Relu",
    ),
    *case("FusedConv", "f32[1,C,P,P] *f32[C,C,1,1] *f32[C]", IMAGES, domain=_MS, activation="Relu"),
    *case("Attention", "f32[1,R,D] *f32[D,3*D] *f32[3*D]", PRODUCTS, domain=_MS, num_heads=4),
    *case("DynamicQuantizeMatMul", "f32[R,D] *i8[D,D] *f32[]=0.1 *i8[]=0", PRODUCTS, domain=_MS),
    *case(
        "MatMulIntegerToFloat",
        "u8[R,D] *i8[D,D] *f32[]=0.1 *f32[]=0.1 *u8[]=128 *i8[]=0",
        PRODUCTS,
        domain=_MS,
    ),
    *case(
        "QGemm",
        "u8[R,D] *f32[]=0.1 *u8[]=128 *i8[D,D] *f32[]=0.1 *i8[]=0 *i32[D]=0 *f32[]=1 *u8[]=128",
        PRODUCTS,
        domain=_MS,
    ),
    *case(
        "QLinearAdd QLinearMul",
        "u8[R,D] *f32[]=0.1 *u8[]=128 u8[R,D] *f32[]=0.1 *u8[]=128 *f32[]=0.1 *u8[]=128",
        domain=_MS,
    ),
    *case("QLinearSigmoid QLinearLeakyRelu", "u8[R,D] *f32[]=0.1 *u8[]=128 *f32[]=0.1 *u8[]=128", domain=_MS),
    *case(
        "QLinearSoftmax", "u8[R,D] *f32[]=0.1 *u8[]=128 *f32[]=0.1 *u8[]=128", domain=_MS, axis=-1, opset_=13
    ),
    *case(
        "QLinearGlobalAveragePool",
        "u8[1,C,P,P] *f32[]=0.1 *u8[]=128 *f32[]=0.1 *u8[]=128",
        IMAGES,
        domain=_MS,
    ),
]

CASES: tuple[Case, ...] = (
    *ELEMENTWISE,
    *NORMALIZATION,
    *REDUCTIONS,
    *PRODUCT_CASES,
    *WINDOWS,
    *MOVEMENT,
    *QUANTIZED,
    *SIGNALS,
    *SEQUENCES,
    *MICROSOFT,
)

# Operators with one kernel, or kernels that do the same: all points are of one operator.
SAME: tuple[str, ...] = (
    "Abs Neg Relu",
    "Add Sub Mul",
    "Max Min",
    "Sum Mean",
    "Equal Less LessOrEqual Greater GreaterOrEqual",
    "And Or Xor",
    "BitwiseAnd BitwiseOr BitwiseXor",
    "Ceil Floor Round",
    "IsNaN IsInf",
    "Sin Cos",
    "ReduceSum ReduceMean",
    "ReduceMax ReduceMin",
    "ReduceL1 ReduceL2 ReduceSumSquare ReduceProd",
    "ArgMax ArgMin",
    "Flatten Reshape",
    "Squeeze Unsqueeze",
    "Shape Size",
    "HannWindow HammingWindow BlackmanWindow",
    "com.microsoft.QLinearSigmoid com.microsoft.QLinearLeakyRelu",
)

# Operators around one kernel: b and c are the same, only starting them costs more or less.
ALIKE: tuple[str, ...] = (
    "MatMul Gemm com.microsoft.FusedMatMul com.microsoft.FusedGemm ai.graphopt.FullyConnected "
    + " ".join(f"ai.graphopt.FullyConnected{activation}" for activation in ACTIVATIONS),
    "Gelu com.microsoft.BiasGelu",
    "MatMul:unpacked com.microsoft.FusedMatMul:unpacked",
    "Conv com.microsoft.FusedConv",
    "MatMulInteger QLinearMatMul com.microsoft.DynamicQuantizeMatMul com.microsoft.MatMulIntegerToFloat "
    "com.microsoft.QGemm",
)

# What can't be timed alone has the cost of an operator that does about the same.
STAND_INS: dict[str, str] = {
    "Bernoulli": "RandomUniformLike",
    "BitCast": "Identity",
    "CausalConvWithState": "Conv",
    "ConcatFromSequence": "Concat",
    "CumProd": "CumSum",
    "ImageDecoder": "Resize",
    "LinearAttention": "Attention",
    "Multinomial": "RandomUniformLike",
    "Optional": "SequenceConstruct",
    "OptionalGetElement": "Identity",
    "OptionalHasElement": "Shape",
    "RandomNormal": "RandomNormalLike",
    "RandomUniform": "RandomUniformLike",
    "RegexFullMatch": "Equal",
    "SequenceAt": "Identity",
    "SequenceEmpty": "SequenceConstruct",
    "SequenceErase": "SequenceConstruct",
    "SequenceInsert": "SequenceConstruct",
    "SequenceLength": "Shape",
    "SequenceMap": "Loop",
    "StringConcat": "Concat",
    "StringNormalizer": "Concat",
    "StringSplit": "Split",
    "SwiGLU": "Swish",
    "Swish": "Gelu",
    "TensorScatter": "ScatterND",
    "TfIdfVectorizer": "OneHot",
    "Upsample": "Resize",
    "com.microsoft.QLinearAveragePool": "com.microsoft.QLinearGlobalAveragePool",
    "com.microsoft.QLinearConcat": "Concat",
    "com.microsoft.QLinearWhere": "Where",
    "com.microsoft.MatMulNBits": "com.microsoft.MatMulIntegerToFloat",
    **{
        f"ai.graphopt.{product.name}": "MatMul" if product.form == "Compressed" else "MatMulInteger"
        for product in own_operators.PRODUCTS.values()
    },
    **{f"ai.graphopt.{name}": "Conv" for name in CONVOLUTIONS},
}
