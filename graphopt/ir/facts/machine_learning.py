"""Facts of classical models (domain ai.onnx.ml)."""

from __future__ import annotations

import onnx_ir as ir

from graphopt.ir.dims import Dim
from graphopt.ir.facts.registry import InferenceContext, Results, operator
from graphopt.ir.facts.results import Dims, like

DOMAIN = "ai.onnx.ml"


def _length(ctx: InferenceContext, *names: str) -> int:
    """How many entries the first of these attributes has that is given; 0 where none is."""
    for name in names:
        value = ctx.attr(name, None)
        if isinstance(value, tuple) and value:
            return len(value)
        if isinstance(value, ir.TensorProtocol):
            return value.size
    return 0


def _batch(ctx: InferenceContext) -> Dim:
    """Rows of input 0; a vector is one row."""
    dims = ctx.dims(0)
    if dims is None:
        return ctx.fresh("rows")
    return dims[0] if len(dims) > 1 else 1


@operator("Binarizer", "Imputer", domain=DOMAIN, elementwise=True)
def _same_type(ctx: InferenceContext) -> Results:
    return [like(ctx)]


@operator("Normalizer", "Scaler", domain=DOMAIN)
def _as_float(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.FLOAT, ctx.dims(0))]


@operator("ArrayFeatureExtractor", domain=DOMAIN, can_fail=True)
def _array_feature_extractor(ctx: InferenceContext) -> Results:
    """Columns chosen by input 1 of the last axis; a vector becomes one row."""
    dims, chosen = ctx.dims(0), ctx.dims(1)
    if dims is None or not dims or chosen is None:
        return [ctx.tensor(ctx.dtype(0), None)]
    count: Dim = 1
    for dim in chosen:
        count = count * dim
    front: Dims = dims[:-1] or (1,)
    return [ctx.tensor(ctx.dtype(0), (*front, count))]


@operator("CategoryMapper", domain=DOMAIN, elementwise=True)
def _category_mapper(ctx: InferenceContext) -> Results:
    """Strings to integers, or back."""
    dtype = {ir.DataType.STRING: ir.DataType.INT64, ir.DataType.INT64: ir.DataType.STRING}
    given = ctx.dtype(0)
    return [ctx.tensor(None if given is None else dtype.get(given), ctx.dims(0))]


@operator("LabelEncoder", domain=DOMAIN, elementwise=True)
def _label_encoder(ctx: InferenceContext) -> Results:
    """The dtype of the values that it maps to; version 1 maps strings to integers and back."""
    dtype: ir.DataType | None = None
    tensor = ctx.attr("values_tensor", None)
    if isinstance(tensor, ir.TensorProtocol):
        dtype = tensor.dtype
    elif ctx.has_attr("values_strings"):
        dtype = ir.DataType.STRING
    elif ctx.has_attr("values_int64s"):
        dtype = ir.DataType.INT64
    elif ctx.has_attr("values_floats"):
        dtype = ir.DataType.FLOAT
    elif ctx.has_attr("classes_strings"):
        dtype = ir.DataType.INT64 if ctx.dtype(0) is ir.DataType.STRING else ir.DataType.STRING
    return [ctx.tensor(dtype, ctx.dims(0))]


# Values outside the categories fail where `zeros` is 0.
@operator("OneHotEncoder", domain=DOMAIN, can_fail=True)
def _one_hot_encoder(ctx: InferenceContext) -> Results:
    dims, count = ctx.dims(0), _length(ctx, "cats_int64s", "cats_strings")
    return [ctx.tensor(ir.DataType.FLOAT, (*dims, count) if dims is not None and count else None)]


@operator("FeatureVectorizer", domain=DOMAIN)
def _feature_vectorizer(ctx: InferenceContext) -> Results:
    """Inputs side by side, each as wide as its entry of the attribute says."""
    widths = ctx.ints_attr("inputdimensions")
    width = sum(widths) if widths else ctx.fresh("features")
    return [ctx.tensor(ir.DataType.FLOAT, (_batch(ctx), width))]


@operator("LinearRegressor", domain=DOMAIN)
def _linear_regressor(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.FLOAT, (_batch(ctx), ctx.int_attr("targets", 1)))]


@operator("SVMRegressor", domain=DOMAIN)
def _svm_regressor(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.FLOAT, (_batch(ctx), 1))]


@operator("TreeEnsembleRegressor", domain=DOMAIN)
def _tree_regressor(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ir.DataType.FLOAT, (_batch(ctx), ctx.int_attr("n_targets", 1)))]


@operator("TreeEnsemble", domain=DOMAIN)
def _tree_ensemble(ctx: InferenceContext) -> Results:
    return [ctx.tensor(ctx.dtype(0), (_batch(ctx), ctx.int_attr("n_targets", 1)))]


@operator("LinearClassifier", "SVMClassifier", "TreeEnsembleClassifier", domain=DOMAIN)
def _classifier(ctx: InferenceContext) -> Results:
    """A label a row, and its scores; two classes may share one score, so their number stays open."""
    strings = ctx.has_attr("classlabels_strings")
    labels = _length(ctx, "classlabels_strings", "classlabels_ints", "classlabels_int64s")
    columns = labels if labels > 2 and ctx.node.op_type != "SVMClassifier" else ctx.fresh("scores", low=1)
    batch = _batch(ctx)
    dtype = ir.DataType.STRING if strings else ir.DataType.INT64
    return [ctx.tensor(dtype, (batch,)), ctx.tensor(ir.DataType.FLOAT, (batch, columns))]


# Maps are neither tensors nor sequences: nothing is said of what holds them.
@operator("CastMap", "DictVectorizer", "ZipMap", domain=DOMAIN)
def _map(ctx: InferenceContext) -> Results:
    return [None for _ in ctx.node.outputs]
