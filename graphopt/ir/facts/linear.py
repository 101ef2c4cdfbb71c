"""Facts of matrix products: MatMul, Gemm, MatMulInteger, QLinearMatMul, Einsum, Det."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, broadcast, product
from graphopt.ir.facts.elementwise import broadcast_all
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, known


def matmul_dims(left: Dims | None, right: Dims | None) -> Dims | None:
    """The shape of numpy.matmul; None where a rank is unknown or a scalar is among them."""
    if not left or not right:
        return None
    batch = broadcast_all((left[:-2], right[:-2]))
    if batch is None:
        return None
    rows = left[-2:-1]
    columns = right[-1:] if len(right) > 1 else ()
    return (*batch, *rows, *columns)


def inner_dim(left: Dims, right: Dims) -> Dim:
    """The contracted dim; both sides name it, the one that is a number wins."""
    other = right[-2] if len(right) > 1 else right[-1]
    return left[-1] if isinstance(left[-1], int) else other


def matmul_flops_of(left: Dims | None, right: Dims | None) -> Dim:
    """2 a multiply-add; raises where the shape is unknown."""
    return 2 * product(known(matmul_dims(left, right))) * inner_dim(known(left), known(right))


def matmul_flops(ctx: InferenceContext) -> Dim:
    """FLOPs of a product of inputs 0 and 1."""
    return matmul_flops_of(ctx.dims(0), ctx.dims(1))


@operator("MatMul", flops=matmul_flops)
def _matmul(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), matmul_dims(ctx.dims(0), ctx.dims(1)))]


@operator("MatMulInteger", flops=matmul_flops)
def _matmul_integer(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.INT32, matmul_dims(ctx.dims(0), ctx.dims(1)))]


def _qlinear_matmul_flops(ctx: InferenceContext) -> Dim:
    return matmul_flops_of(ctx.dims(0), ctx.dims(3))


@operator("QLinearMatMul", flops=_qlinear_matmul_flops)
def _qlinear_matmul(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(7), matmul_dims(ctx.dims(0), ctx.dims(3)))]


def gemm_dims(ctx: InferenceContext, left: Dims | None, right: Dims | None) -> tuple[Dims, Dim] | None:
    """The shape of a Gemm and its contracted dim; None where neither can be said."""
    if left is None or right is None or len(left) != 2 or len(right) != 2:
        return None
    rows, inner = reversed(left) if ctx.attr("transA", 0) else left
    other, columns = reversed(right) if ctx.attr("transB", 0) else right
    return (rows, columns), inner if isinstance(inner, int) else other


def gemm_flops(ctx: InferenceContext) -> Dim:
    """2 a multiply-add, 1 an addition of input 2."""
    dims, inner = known(gemm_dims(ctx, ctx.dims(0), ctx.dims(1)))
    return 2 * product(dims) * inner + (product(dims) if ctx.has(2) else 0)


@operator("Gemm", flops=gemm_flops)
def _gemm(ctx: InferenceContext) -> Results:
    found = gemm_dims(ctx, ctx.dims(0), ctx.dims(1))
    return [ctx.tensor(ctx.dtype(0), (found[0] if found else _half_known(ctx)))]


def _half_known(ctx: InferenceContext) -> Dims:
    """Gemm's result has rank 2 whatever is known of its inputs."""
    left, right = ctx.dims(0), ctx.dims(1)
    rows = left[1 if ctx.attr("transA", 0) else 0] if left and len(left) == 2 else ctx.fresh("rows")
    columns = right[0 if ctx.attr("transB", 0) else 1] if right and len(right) == 2 else ctx.fresh("columns")
    return (rows, columns)


@operator("Det")
def _det(ctx: InferenceContext) -> Results:
    dims = ctx.dims(0)
    return [ctx.tensor(ctx.dtype(0), dims[:-2] if dims is not None and len(dims) >= 2 else None)]


def _einsum_flops(ctx: InferenceContext) -> Dim:
    """One operation an operand and combination of labels."""
    operands, _ = known(_einsum_terms(ctx))
    labels, ellipsis = known(_label_sizes(ctx, operands))
    return len(operands) * product(tuple(labels.values())) * product(ellipsis)


@operator("Einsum", flops=_einsum_flops)
def _einsum(ctx: InferenceContext) -> Results:
    terms = _einsum_terms(ctx)
    if terms is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    operands, result = terms
    sizes = _label_sizes(ctx, operands)
    if sizes is None:
        dims = None if "." in result else tuple(ctx.fresh(label) for label in result)
        return [ctx.tensor(ctx.dtype(0), dims)]
    labels, ellipsis = sizes
    if any(label not in labels for label in result.replace("...", "")):
        return [ctx.tensor(ctx.dtype(0), None)]
    front, dots, back = result.partition("...")
    found = (
        [labels[label] for label in front]
        + list(ellipsis if dots else ())
        + [labels[label] for label in back]
    )
    return [ctx.tensor(ctx.dtype(0), tuple(found))]


def _einsum_terms(ctx: InferenceContext) -> tuple[list[str], str] | None:
    """The equation's operands and its result, an implicit result written out; None: it does not fit."""
    equation = ctx.attr("equation", None)
    if not isinstance(equation, str):
        return None
    left, arrow, result = equation.replace(" ", "").partition("->")
    operands = left.split(",")
    if len(operands) != ctx.count:
        return None
    if not arrow:
        letters = left.replace(",", "").replace(".", "")
        once = "".join(sorted(letter for letter in set(letters) if letters.count(letter) == 1))
        result = ("..." if "..." in left else "") + once
    return operands, result


def _label_sizes(ctx: InferenceContext, operands: list[str]) -> tuple[dict[str, Dim], Dims] | None:
    """The dim of each label and those of the ellipsis; None where a rank is unknown or does not fit.

    A label's dims broadcast: onnxruntime and numpy both take 1 beside n.
    """
    labels: dict[str, Dim] = {}
    ellipsis: Dims | None = ()
    for index, term in enumerate(operands):
        dims = ctx.dims(index)
        front, dots, back = term.partition("...")
        if dims is None or len(dims) < len(front + back) or (not dots and len(dims) != len(front)):
            return None
        middle = len(dims) - len(back)
        for label, dim in zip(front + back, dims[: len(front)] + dims[middle:], strict=True):
            labels[label] = broadcast(labels[label], dim) if label in labels else dim
        ellipsis = broadcast_all((ellipsis, dims[len(front) : middle]))
    return None if ellipsis is None else (labels, ellipsis)
