"""Facts of classical models and training operators against runs."""

from __future__ import annotations

import numpy as np

from graphopt.ir import facts as operator_facts
from tests.ir.facts.checking import check, facts_of, one_node

SIZES = ({"N": 3, "C": 4}, {"N": 1, "C": 4})
ML = {"domain": "ai.onnx.ml"}


def test_features():
    check("Binarizer", ["float[N,C]"], *SIZES, **ML, dims=("N, C",), threshold=1.0)
    check(
        "Imputer",
        ["float[N,C]"],
        *SIZES,
        **ML,
        dims=("N, C",),
        imputed_value_floats=[1.0],
        replaced_value_float=0.0,
    )
    check("Normalizer", ["float[N,C]"], *SIZES, **ML, dims=("N, C",), norm="L2")
    check("Scaler", ["int64[N,C]"], *SIZES, **ML, dims=("N, C",), scale=[2.0] * 4, offset=[1.0] * 4)
    check("ArrayFeatureExtractor", ["float[N,C]", np.array([0, 2, 3])], *SIZES, **ML, dims=("N, 3",))
    check("ArrayFeatureExtractor", ["float[C]", np.array([0, 2])], *SIZES, **ML, dims=("1, 2",))
    check("OneHotEncoder", ["int64[N,C]"], *SIZES, **ML, dims=("N, C, 3",), cats_int64s=[0, 1, 2])
    check(
        "FeatureVectorizer",
        ["float[N,2]", "float[N,3]"],
        *SIZES,
        **ML,
        dims=("N, 5",),
        inputdimensions=[2, 3],
    )


def test_labels():
    check(
        "LabelEncoder",
        ["string[N,C]"],
        *SIZES,
        **ML,
        version=2,
        dims=("N, C",),
        keys_strings=["a", "b"],
        values_int64s=[1, 2],
    )
    check(
        "LabelEncoder",
        ["int64[N]"],
        *SIZES,
        **ML,
        version=2,
        dims=("N",),
        keys_int64s=[0, 1],
        values_floats=[0.5, 1.5],
    )
    check(
        "CategoryMapper",
        ["string[N]"],
        *SIZES,
        **ML,
        dims=("N",),
        cats_int64s=[0, 1],
        cats_strings=["a", "b"],
    )


def test_models():
    check("LinearRegressor", ["float[N,C]"], *SIZES, **ML, dims=("N, 2",), targets=2, coefficients=[1.0] * 8)
    check("LinearRegressor", ["float[N,C]"], *SIZES, **ML, dims=("N, 1",), coefficients=[1.0] * 4)
    check(
        "LinearClassifier",
        ["float[N,C]"],
        *SIZES,
        **ML,
        outputs=2,
        dims=("N", "N, 3"),
        coefficients=[1.0] * 12,
        intercepts=[0.0] * 3,
        classlabels_ints=[0, 1, 2],
    )
    check(
        "LinearClassifier",
        ["float[N,C]"],
        *SIZES,
        **ML,
        outputs=2,
        exact=False,
        coefficients=[1.0] * 8,
        intercepts=[0.0] * 2,
        classlabels_strings=["no", "yes"],
    )
    tree = {
        "nodes_treeids": [0, 0, 0],
        "nodes_nodeids": [0, 1, 2],
        "nodes_featureids": [0, 0, 0],
        "nodes_values": [1.0, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ", "LEAF", "LEAF"],
        "nodes_truenodeids": [1, 0, 0],
        "nodes_falsenodeids": [2, 0, 0],
    }
    target = {
        "target_treeids": [0, 0],
        "target_nodeids": [1, 2],
        "target_ids": [0, 1],
        "target_weights": [1.0, 2.0],
    }
    check(
        "TreeEnsembleRegressor", ["float[N,C]"], *SIZES, **ML, dims=("N, 2",), n_targets=2, **tree, **target
    )


def test_optimizers_of_training():
    model = one_node(
        "Adam",
        ["float[]", "int64[]"] + ["float[A]", "float[B,C]"] * 4,
        opset=12,
        outputs=6,
        domain="ai.onnx.preview.training",
    )
    facts, node = facts_of(model)
    described = [facts.describe(output) for output in node.outputs]
    assert described == ["float32[A]", "float32[B, C]"] * 3
    assert operator_facts.is_pure(node)


def test_a_gradient_names_values_around_it_and_is_not_pure():
    model = one_node(
        "Gradient",
        ["float[A]", "float[B]"],
        opset=12,
        outputs=1,
        domain="ai.onnx.preview.training",
        xs=["x0"],
        zs=["x1"],
        y="z",
    )
    facts, node = facts_of(model)
    assert facts.describe(node.outputs[0]) == "float32[A]"
    assert not operator_facts.is_pure(node)
