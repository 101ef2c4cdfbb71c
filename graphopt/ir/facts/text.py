"""Facts of string operators."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.facts.elementwise import broadcast_all
from graphopt.ir.facts.registry import InferenceContext, Results, operator


@operator("StringNormalizer")
def _string_normalizer(ctx: InferenceContext) -> Results:
    """(C) or (1, C); stop words leave fewer, and a single empty string where none is left."""
    dims = ctx.dims(0)
    if dims is not None and ctx.has_attr("stopwords"):
        dims = (*dims[:-1], ctx.fresh("words", low=1))
    return [ctx.tensor(ir.DataType.STRING, dims)]


@operator("TfIdfVectorizer")
def _tf_idf(ctx: InferenceContext) -> Results:
    """The last dim becomes one count an n-gram."""
    dims, places = ctx.dims(0), ctx.ints_attr("ngram_indexes")
    if dims is None or not places:
        return [ctx.tensor(ir.DataType.FLOAT, None)]
    return [ctx.tensor(ir.DataType.FLOAT, (*dims[:-1], max(places) + 1))]


@operator("RegexFullMatch", elementwise=True)
def _regex_full_match(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.BOOL, ctx.dims(0))]


@operator("StringConcat", elementwise=True)
def _string_concat(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.STRING, broadcast_all((ctx.dims(0), ctx.dims(1))))]


@operator("StringSplit")
def _string_split(ctx: InferenceContext) -> Results:
    """Parts, padded to the longest; and how many there are of each."""
    dims = ctx.dims(0)
    parts = None if dims is None else (*dims, ctx.fresh("parts"))
    return [ctx.tensor(ir.DataType.STRING, parts), ctx.tensor(ir.DataType.INT64, dims)]
