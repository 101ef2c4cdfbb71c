"""Facts of onnxruntime's other operators: look-ups, cuts, windows, transforms (domain com.microsoft)."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim, floordiv
from graphopt.ir.facts.recurrent import recurrent_facts
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import like, normalized_axis, scalar

DOMAIN = "com.microsoft"


@operator("Trilu", domain=DOMAIN, movement=True, shape_inputs=(1,))
def _trilu(ctx: InferenceContext) -> Results:
    return [like(ctx)]


@operator("NGramRepeatBlock", domain=DOMAIN)
def _n_gram_repeat_block(ctx: InferenceContext) -> Results:
    return [like(ctx, 1)]


@operator("MurmurHash3", domain=DOMAIN)
def _murmur_hash(ctx: InferenceContext) -> Results:
    dtype = ir.DataType.UINT32 if ctx.int_attr("positive", 1) else ir.DataType.INT32
    return [ctx.tensor(dtype, ctx.dims(0))]


@operator("ExpandDims", domain=DOMAIN, movement=True, shape_inputs=(1,), can_fail=True)
def _expand_dims(ctx: InferenceContext) -> Results:
    """A 1 at the axis that input 1 holds."""
    dims, axis = ctx.dims(0), scalar(ctx, 1)
    if dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    place = normalized_axis(axis, len(dims) + 1)
    if place is None:
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("expanded", len(dims) + 1))]
    return [ctx.tensor(ctx.dtype(0), (*dims[:place], 1, *dims[place:]))]


@operator("GatherND", domain=DOMAIN, movement=True, can_fail=True)
def _gather_nd(ctx: InferenceContext) -> Results:
    """The last dim of the indices counts the axes that an index names."""
    data, indices = ctx.dims(0), ctx.dims(1)
    if data is None or not indices or not isinstance(indices[-1], int) or indices[-1] > len(data):
        return [ctx.tensor(ctx.dtype(0), None)]
    return [ctx.tensor(ctx.dtype(0), (*indices[:-1], *data[indices[-1] :]))]


@operator("GatherBlockQuantized", domain=DOMAIN, can_fail=True)
def _gather_block_quantized(ctx: InferenceContext) -> Results:
    """A Gather of what is then dequantized; a byte holds several elements of the last axis."""
    data, indices = ctx.dims(0), ctx.dims(1)
    if data is None or indices is None:
        return [ctx.tensor(ctx.dtype(2), None)]
    axis = normalized_axis(ctx.int_attr("gather_axis", 0), len(data))
    if axis is None:
        return [ctx.tensor(ctx.dtype(2), None)]
    packed = 8 // ctx.int_attr("bits", 4) if ctx.dtype(0) is ir.DataType.UINT8 else 1
    dims = [*data[:axis], *indices, *data[axis + 1 :]]
    if axis != len(data) - 1 and dims:
        dims[-1] = dims[-1] * packed
    return [ctx.tensor(ctx.dtype(2), dims)]


@operator("Pad", domain=DOMAIN, movement=True, shape_inputs=(1,), can_fail=True)
def _pad(ctx: InferenceContext) -> Results:
    """All beginnings, then all ends."""
    dims, pads = ctx.dims(0), ctx.integers(1)
    if dims is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    if pads is None or len(pads) != 2 * len(dims):
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("padded", len(dims)))]
    grown = [dim + pads[axis] + pads[axis + len(dims)] for axis, dim in enumerate(dims)]
    return [ctx.tensor(ctx.dtype(0), grown)]


@operator("Range", domain=DOMAIN, can_fail=True)
def _range(ctx: InferenceContext) -> Results:
    """Input 2, the step, is 1 where it is absent."""
    start, limit = scalar(ctx, 0), scalar(ctx, 1)
    step = scalar(ctx, 2) if ctx.has(2) else 1
    if isinstance(start, int) and isinstance(limit, int) and isinstance(step, int) and step:
        return [ctx.tensor(ctx.dtype(0), (len(range(start, limit, step)),))]
    return [ctx.tensor(ctx.dtype(0), (ctx.fresh("range"),))]


@operator("Unique", domain=DOMAIN)
def _unique(ctx: InferenceContext) -> Results:
    """Unique elements of a vector, where each element went, and counts."""
    unique = ctx.fresh("unique")
    counts = ctx.tensor(ir.DataType.INT64, (unique,))
    return [ctx.tensor(ctx.dtype(0), (unique,)), ctx.tensor(ir.DataType.INT64, ctx.dims(0)), counts]


@operator("CropAndResize", domain=DOMAIN, shape_inputs=(3,), can_fail=True)
def _crop_and_resize(ctx: InferenceContext) -> Results:
    """(number of rois, C, height, width)."""
    dims, rois, size = ctx.dims(0), ctx.dims(1), ctx.integers(3)
    count: Dim = rois[0] if rois else ctx.fresh("rois")
    channels: Dim = dims[1] if dims is not None and len(dims) == 4 else ctx.fresh("channels")
    height, width = size if size is not None and len(size) == 2 else ctx.fresh_dims("size", 2)
    return [ctx.tensor(ctx.dtype(0), (count, channels, height, width))]


@operator("TorchEmbedding", domain=DOMAIN, can_fail=True)
def _torch_embedding(ctx: InferenceContext) -> Results:
    """Rows of a table (count, size)."""
    table, indices = ctx.dims(0), ctx.dims(1)
    if table is None or indices is None or len(table) != 2:
        return [ctx.tensor(ctx.dtype(0), None)]
    return [ctx.tensor(ctx.dtype(0), (*indices, table[1]))]


@operator("UnfoldTensor", domain=DOMAIN, movement=True)
def _unfold(ctx: InferenceContext) -> Results:
    """Windows of `size` every `step` along `dim`; the window is the new last axis."""
    dims, size, step = ctx.dims(0), ctx.int_attr("size", 0), ctx.int_attr("step", 1)
    if dims is None or step < 1:
        return [ctx.tensor(ctx.dtype(0), None)]
    axis = normalized_axis(ctx.int_attr("dim", -1), len(dims))
    if axis is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    count = floordiv(dims[axis] - size, step) + 1
    return [ctx.tensor(ctx.dtype(0), (*dims[:axis], count, *dims[axis + 1 :], size))]


@operator("Tokenizer", domain=DOMAIN)
def _tokenizer(ctx: InferenceContext) -> Results:
    """Parts of each string, padded to the longest."""
    dims = ctx.dims(0)
    return [ctx.tensor(ir.DataType.STRING, None if dims is None else (*dims, ctx.fresh("tokens")))]


@operator("WordConvEmbedding", domain=DOMAIN, can_fail=True)
def _word_conv_embedding(ctx: InferenceContext) -> Results:
    """Characters (words, length) to (words, filters)."""
    words, filters = ctx.dims(0), ctx.dims(1)
    if not words or not filters:
        return [ctx.tensor(ctx.dtype(1), ctx.fresh_dims("embedding", 2))]
    return [ctx.tensor(ctx.dtype(1), (*words[:-1], filters[0]))]


@operator("DynamicQuantizeLSTM", domain=DOMAIN)
def _dynamic_quantize_lstm(ctx: InferenceContext) -> Results:
    """An LSTM whose weights (directions, input, 4 * hidden) are transposed."""
    recurrent = ctx.dims(2)
    hidden: Dim = ctx.int_attr("hidden_size", 0)
    if not hidden:
        hidden = recurrent[1] if recurrent is not None and len(recurrent) == 3 else ctx.fresh("hidden")
    return recurrent_facts(ctx, ctx.dtype(0), hidden)


@operator("Rfft", domain=DOMAIN)
def _real_fourier(ctx: InferenceContext) -> Results:
    """Real numbers to complex pairs; one-sided, the last axis is halved."""
    dims = ctx.dims(0)
    if not dims:
        return [ctx.tensor(ctx.dtype(0), None)]
    last = floordiv(dims[-1], 2) + 1 if ctx.int_attr("onesided", 1) else dims[-1]
    return [ctx.tensor(ctx.dtype(0), (*dims[:-1], last, 2))]


@operator("Irfft", domain=DOMAIN)
def _inverse_real_fourier(ctx: InferenceContext) -> Results:
    """Complex pairs back to real numbers."""
    dims = ctx.dims(0)
    if dims is None or len(dims) < 2:
        return [ctx.tensor(ctx.dtype(0), None)]
    last = 2 * (dims[-2] - 1) if ctx.int_attr("onesided", 1) else dims[-2]
    return [ctx.tensor(ctx.dtype(0), (*dims[:-2], last))]


@operator("RemovePadding", domain=DOMAIN)
def _remove_padding(ctx: InferenceContext) -> Results:
    """(batch, length, size) to (tokens, size), their places (batch, length), sums of lengths, the longest."""
    dims = ctx.dims(0)
    if dims is None or len(dims) != 3:
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("tokens", 2)), None, None, None]
    return [
        ctx.tensor(ctx.dtype(0), (ctx.fresh("tokens"), dims[2])),
        ctx.tensor(ir.DataType.INT32, dims[:2]),
        ctx.tensor(ir.DataType.INT32, (dims[0] + 1,)),
        ctx.tensor(ir.DataType.INT32, (1,)),
    ]


@operator("RestorePadding", domain=DOMAIN)
def _restore_padding(ctx: InferenceContext) -> Results:
    """Tokens (count, size) and their places (batch, length) to (batch, length, size)."""
    dims, places = ctx.dims(0), ctx.dims(1)
    if dims is None or len(dims) != 2 or places is None or len(places) != 2:
        return [ctx.tensor(ctx.dtype(0), ctx.fresh_dims("restored", 3))]
    return [ctx.tensor(ctx.dtype(0), (*places, dims[1]))]


@operator("MatMulNBitsMlp", domain=DOMAIN)
def _packed_mlp(ctx: InferenceContext) -> Results:
    dims, columns = ctx.dims(0), ctx.int_attr("N", 0)
    return [ctx.tensor(ctx.dtype(0), (*dims[:-1], columns) if dims and columns else None), like(ctx)]


@operator("MatMulNBitsQkv", domain=DOMAIN)
def _packed_projections(ctx: InferenceContext) -> Results:
    """Query, key, value, and the sum that was normalized."""
    dims = ctx.dims(0)
    found = [
        ctx.tensor(ctx.dtype(0), (*dims[:-1], columns) if dims and columns else None)
        for columns in (ctx.int_attr(name, 0) for name in ("Nq", "Nkv", "Nkv"))
    ]
    return [*found, like(ctx)]
