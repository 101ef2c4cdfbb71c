"""Element-wise programs run by the kernel, and by numpy in float64 or integers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import ml_dtypes
import numpy as np
import onnx_ir as ir

from graphopt.kernels import _engine
from graphopt.lowering.elementwise_program import ElementwiseProgram, Op, Ref, Source, Step

BYTES = {np.dtype(ml_dtypes.int4): np.int8, np.dtype(ml_dtypes.int2): np.int8}
Output = tuple[ir.DataType, Sequence[int] | None] | tuple[ir.DataType, Sequence[int], Sequence[int]]


def raw(array: np.ndarray) -> np.ndarray:
    """The bits that the engine sees."""
    if array.dtype.kind in "biufc" and array.dtype.isbuiltin == 1:
        return array
    return array.view(BYTES.get(array.dtype, np.uint16 if array.dtype.itemsize == 2 else np.uint8))


def run(
    program: ElementwiseProgram,
    inputs: Sequence[np.ndarray],
    outputs: Sequence[Output],
    threads: int = 1,
) -> list[np.ndarray]:
    """Run a program once. An output is (element type, dims or None, strides in elements if not dense)."""
    data, floats, ints = program.encode()
    given = [(raw(x), int(ir.DataType.from_numpy(x.dtype))) for x in inputs]
    asked = [
        (int(o[0]), None if o[1] is None else list(o[1]), list(o[2]) if len(o) == 3 else None)
        for o in outputs
    ]
    got = _engine.call_kernel(
        "elementwise", given, asked, [int(i) for i in ints], list(floats), data, threads, 1
    )
    return [y.view(o[0].numpy()) for y, o in zip(got, outputs, strict=True)]


def single(
    op: Op,
    *inputs: np.ndarray,
    to: ir.DataType | None = None,
    dtype: ir.DataType | None = None,
    immediates: tuple[float, float] | None = None,
    threads: int = 1,
) -> np.ndarray:
    """One operation on whole arrays; the result's dims are the kernel's own."""
    of = dtype or ir.DataType.from_numpy(inputs[1 if op is Op.WHERE else 0].dtype)
    result = to or (ir.DataType.BOOL if op.gives_bool else of)
    program = ElementwiseProgram(len(inputs))
    sources = tuple([Ref(Source.INPUT, k) for k in range(len(inputs))])
    program.add(Step(op, int(of), int(result), sources, immediates))
    program.outputs = [0]
    [y] = run(program, inputs, [(result, None)], threads)
    return y


def _erf(x: np.ndarray) -> np.ndarray:
    import math

    return np.vectorize(math.erf, otypes=[np.float64])(x)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.exp(-np.logaddexp(0, -x))


UNARY: dict[Op, Callable[[np.ndarray], np.ndarray]] = {
    Op.COPY: np.copy,
    Op.NEG: np.negative,
    Op.ABS: np.abs,
    Op.SIGN: np.sign,
    Op.SQRT: np.sqrt,
    Op.RECIPROCAL: lambda x: 1 / x,
    Op.EXP: np.exp,
    Op.LOG: np.log,
    Op.ERF: _erf,
    Op.SIN: np.sin,
    Op.COS: np.cos,
    Op.TAN: np.tan,
    Op.ASIN: np.arcsin,
    Op.ACOS: np.arccos,
    Op.ATAN: np.arctan,
    Op.SINH: np.sinh,
    Op.COSH: np.cosh,
    Op.TANH: np.tanh,
    Op.ASINH: np.arcsinh,
    Op.ACOSH: np.arccosh,
    Op.ATANH: np.arctanh,
    Op.FLOOR: np.floor,
    Op.CEIL: np.ceil,
    Op.ROUND: np.rint,
    Op.RELU: lambda x: np.maximum(x, 0),
    Op.HARD_SWISH: lambda x: x * np.clip(x / 6 + 0.5, 0, 1),
    Op.SIGMOID: _sigmoid,
    Op.SOFTPLUS: lambda x: np.logaddexp(0, x),
    Op.SOFTSIGN: lambda x: x / (1 + np.abs(x)),
    Op.GELU: lambda x: 0.5 * x * (1 + _erf(x / np.sqrt(2))),
    Op.GELU_TANH: lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3))),
    Op.MISH: lambda x: x * np.tanh(np.logaddexp(0, x)),
}
PARAMETERS: dict[Op, tuple[tuple[float, float], Callable[[np.ndarray], np.ndarray]]] = {
    Op.LEAKY_RELU: ((0.125, 0.0), lambda x: np.where(x < 0, 0.125 * x, x)),
    Op.ELU: ((0.5, 0.0), lambda x: np.where(x > 0, x, 0.5 * np.expm1(np.minimum(x, 0)))),
    Op.SELU: ((1.5, 1.25), lambda x: 1.25 * np.where(x > 0, x, 1.5 * np.expm1(np.minimum(x, 0)))),
    Op.CELU: ((2.0, 0.0), lambda x: np.where(x > 0, x, 2 * np.expm1(np.minimum(x, 0) / 2))),
    Op.THRESHOLDED_RELU: ((0.75, 0.0), lambda x: np.where(x > 0.75, x, 0)),
    Op.HARD_SIGMOID: ((0.25, 0.5), lambda x: np.clip(0.25 * x + 0.5, 0, 1)),
    Op.SWISH: ((1.5, 0.0), lambda x: x * _sigmoid(1.5 * x)),
    Op.SHRINK: ((0.5, 0.25), lambda x: np.where(x < -0.5, x + 0.25, np.where(x > 0.5, x - 0.25, 0))),
}
BINARY: dict[Op, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    Op.ADD: np.add,
    Op.SUB: np.subtract,
    Op.MUL: np.multiply,
    Op.DIV: np.divide,
    Op.MOD: np.mod,
    Op.FMOD: np.fmod,
    Op.POW: np.power,
    Op.MIN: np.minimum,
    Op.MAX: np.maximum,
    Op.PRELU: lambda a, b: np.where(a < 0, a * b, a),
    Op.EQUAL: np.equal,
    Op.LESS: np.less,
    Op.LESS_EQUAL: np.less_equal,
    Op.BIT_AND: np.bitwise_and,
    Op.BIT_OR: np.bitwise_or,
    Op.BIT_XOR: np.bitwise_xor,
}


def interpret(program: ElementwiseProgram, inputs: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The program by numpy; float32 steps are rounded after each."""
    made: list[np.ndarray] = []

    def value(ref: Ref) -> np.ndarray:
        if ref.source == Source.INPUT:
            return inputs[ref.number]
        if ref.source == Source.STEP:
            return made[ref.number]
        dtype, number = program.constants[ref.number]
        return np.array(number, ir.DataType(dtype).numpy())

    with np.errstate(all="ignore"):
        for step in program.steps:
            made.append(np.asarray(_step(step, [value(ref) for ref in step.sources])))
    dims = np.broadcast_shapes(*(x.shape for x in inputs))
    return [np.broadcast_to(made[number], dims) for number in program.outputs]


def _step(step: Step, sources: list[np.ndarray]) -> np.ndarray:
    to = ir.DataType(step.to).numpy()
    if step.op is Op.WHERE:
        return np.where(*sources)
    if step.op is Op.CLIP:
        return np.minimum(np.maximum(sources[0], sources[1]), sources[2])
    if step.op is Op.CAST:
        return sources[0].astype(to)
    if step.op is Op.NOT:
        return ~sources[0]
    wide = [x.astype(np.float64) if x.dtype.kind == "f" else x for x in sources]
    if step.op in PARAMETERS:
        return PARAMETERS[step.op][1](wide[0]).astype(to)
    if step.op in UNARY:
        return UNARY[step.op](wide[0]).astype(to)
    return BINARY[step.op](*wide).astype(to)
