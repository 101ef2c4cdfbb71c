"""Facts of convolutions: Conv, ConvTranspose, ConvInteger, QLinearConv, DeformConv, CausalConvWithState."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, product
from graphopt.ir.facts.registry import FlopsFunction, InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, known, like
from graphopt.ir.facts.windows import positions, read_windows, transposed_size


def conv_dims(
    ctx: InferenceContext, data: int = 0, weight: int = 1, *, channels_last: bool = False
) -> Dims | None:
    """The shape of a convolution of inputs `data` and `weight` (M, C / group, kernel...); None: rank unknown.

    Args:
        ctx: The node asked about.
        data: Index of the input that windows slide over.
        weight: Index of the weights.
        channels_last: Input and output are (N, spatial..., C); the weights stay as they are.
    """
    dims, weights = ctx.dims(data), ctx.dims(weight)
    kernel = kernel_of(ctx, weights[2:] if weights is not None and len(weights) > 2 else None)
    rank = len(dims) if dims is not None else 0 if kernel is None else len(kernel) + 2
    if rank < 3:
        return None
    channels = weights[0] if weights else ctx.fresh("channels")
    batch = dims[0] if dims is not None else ctx.fresh("batch")
    spatial = _slid(ctx, _spatial(dims, channels_last), kernel, rank - 2)
    return (batch, *spatial, channels) if channels_last else (batch, channels, *spatial)


def kernel_of(ctx: InferenceContext, fallback: Dims | None) -> Dims | None:
    """The kernel's size: attribute `kernel_shape`, else what the weights say; None where neither is known."""
    return ctx.ints_attr("kernel_shape") or fallback


def _spatial(dims: Dims | None, channels_last: bool) -> Dims | None:
    if dims is None:
        return None
    return dims[1:-1] if channels_last else dims[2:]


def _slid(ctx: InferenceContext, sizes: Dims | None, kernel: Dims | None, count: int) -> Dims:
    """The positions of the windows on each axis; unknown ones are new unknowns."""
    windows = read_windows(ctx, kernel) if kernel is not None and len(kernel) == count else None
    if sizes is None or windows is None:
        return ctx.fresh_dims("spatial", count)
    found = [positions(size, window) for size, window in zip(sizes, windows, strict=True)]
    return tuple(ctx.fresh("spatial") if size is None else size for size in found)


def conv_flops_of(weight: int = 1, bias: int | None = 2) -> FlopsFunction:
    """2 a multiply-add, 1 an addition of the bias; of the node's own output."""

    def flops(ctx: InferenceContext) -> Dim:
        size = product(known(ctx.output_dims()))
        added = size if bias is not None and ctx.has(bias) else 0
        return 2 * size * product(known(ctx.dims(weight))[1:]) + added

    return flops


@operator("Conv", flops=conv_flops_of())
def _conv(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), conv_dims(ctx))]


@operator("DeformConv", flops=conv_flops_of(bias=3))
def _deform_conv(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), conv_dims(ctx))]


@operator("ConvInteger", flops=conv_flops_of(bias=None))
def _conv_integer(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.INT32, conv_dims(ctx))]


@operator("QLinearConv", flops=conv_flops_of(3, 8))
def _qlinear_conv(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(7), conv_dims(ctx, 0, 3))]


def conv_transpose_dims(ctx: InferenceContext) -> Dims | None:
    """The shape of a ConvTranspose; weights are (C, M / group, kernel...). None: rank unknown."""
    dims, weights = ctx.dims(0), ctx.dims(1)
    kernel = kernel_of(ctx, weights[2:] if weights is not None and len(weights) > 2 else None)
    rank = len(dims) if dims is not None else 0 if kernel is None else len(kernel) + 2
    if rank < 3:
        return None
    wide = weights is not None and len(weights) > 1
    channels = weights[1] * ctx.int_attr("group", 1) if weights and wide else ctx.fresh("channels")
    batch = dims[0] if dims is not None else ctx.fresh("batch")
    return (batch, channels, *_spread(ctx, None if dims is None else dims[2:], kernel, rank - 2))


def _spread(ctx: InferenceContext, sizes: Dims | None, kernel: Dims | None, count: int) -> Dims:
    """The output sizes of a ConvTranspose, from `output_shape` or from the windows."""
    asked = ctx.ints_attr("output_shape")
    if asked is not None and len(asked) == count:
        return asked
    windows = read_windows(ctx, kernel) if kernel is not None and len(kernel) == count else None
    extra = ctx.ints_attr("output_padding") or (0,) * count
    if asked is not None or sizes is None or windows is None or len(extra) != count:
        return ctx.fresh_dims("spatial", count)
    found = [
        transposed_size(size, window, pad) for size, window, pad in zip(sizes, windows, extra, strict=True)
    ]
    return tuple(ctx.fresh("spatial") if size is None else size for size in found)


def conv_transpose_flops(ctx: InferenceContext) -> Dim:
    """Each input element meets each weight of its group once."""
    added = product(known(ctx.output_dims())) if ctx.has(2) else 0
    return 2 * product(known(ctx.dims(0))) * product(known(ctx.dims(1))[1:]) + added


@operator("ConvTranspose", flops=conv_transpose_flops)
def _conv_transpose(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), conv_transpose_dims(ctx))]


@operator("CausalConvWithState")
def _causal_conv_with_state(ctx: InferenceContext) -> Results:
    """Depthwise over (B, C, length); the state keeps the last kernel - 1 positions."""
    dims, weights = ctx.dims(0), ctx.dims(1)
    state: Dims | None = None
    if dims is not None and len(dims) == 3 and weights is not None and len(weights) == 3:
        state = (dims[0], dims[1], weights[2] - 1)
    return [like(ctx), ctx.tensor(ctx.dtype(0), state)]
