"""Facts of normalizations, softmaxes and losses against runs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.ir.facts.checking import Runtime, check, facts_of, one_node

SIZES = ({"N": 2, "C": 4, "H": 5}, {"N": 0, "C": 4, "H": 3}, {"N": 1, "C": 4, "H": 1})
SHAPE = "N, C, H"


@pytest.mark.parametrize("opset", [7, 9, 14, 15])
def test_batch_normalization(opset):
    inputs = ["float[N,C,H]", "float[C]", "float[C]", "float[C]", "float[C]"]
    check("BatchNormalization", inputs, *SIZES, opset=opset, dims=(SHAPE,))


def test_batch_normalization_in_training():
    inputs = ["float[N,C,H]", "float[C]", "float[C]", "float[C]", "float[C]"]
    check(
        "BatchNormalization",
        inputs,
        SIZES[0],
        opset=15,
        outputs=3,
        dims=(SHAPE, "C", "C"),
        judge="reference",
        training_mode=1,
    )


@pytest.mark.parametrize(
    ("axis", "reduced"), [(-1, "N, C, 1"), (2, "N, C, 1"), (1, "N, 1, 1"), (-3, "1, 1, 1")]
)
def test_layer_normalization(axis, reduced):
    shapes = {"N, C, 1": "float[H]", "N, 1, 1": "float[C,H]", "1, 1, 1": "float[N,C,H]"}
    inputs = ["float[N,C,H]", shapes[reduced], shapes[reduced]]
    check(
        "LayerNormalization",
        inputs,
        SIZES[0],
        SIZES[2],
        opset=17,
        outputs=3,
        axis=axis,
        dims=(SHAPE, reduced, reduced),
    )


def test_layer_normalization_of_half_precision():
    check("LayerNormalization", ["half[N,C,H]", "half[H]"], SIZES[0], opset=17, dims=(SHAPE,))


def test_other_normalizations():
    channel = ["float[N,C,H]", "float[C]", "float[C]"]
    check("InstanceNormalization", channel, SIZES[0], dims=(SHAPE,))
    check("GroupNormalization", channel, SIZES[0], opset=21, dims=(SHAPE,), num_groups=2)
    check("MeanVarianceNormalization", ["float[N,C,H,2]"], SIZES[0], dims=("N, C, H, 2",))
    check("LpNormalization", ["float[N,C,H]"], *SIZES, dims=(SHAPE,), axis=1)
    check("LRN", ["float[N,C,H,2]"], SIZES[0], dims=("N, C, H, 2",), size=3)
    check("RMSNormalization", ["float[N,C,H]", "float[H]"], SIZES[0], opset=23, dims=(SHAPE,))
    check(
        "SimplifiedLayerNormalization",
        ["float[N,C,H]", "float[H]"],
        SIZES[0],
        outputs=2,
        dims=(SHAPE, "N, C, 1"),
    )


@pytest.mark.parametrize("op", ["Softmax", "LogSoftmax", "Hardmax"])
@pytest.mark.parametrize("opset", [7, 11, 13])
def test_softmaxes(op, opset):
    check(op, ["float[N,C,H]"], *SIZES, opset=opset, dims=(SHAPE,))
    check(op, ["float[N,C,H]"], *SIZES, opset=opset, dims=(SHAPE,), axis=0)


@pytest.mark.parametrize(("reduction", "dims"), [("none", "N, H"), ("mean", ""), ("sum", "")])
def test_losses(reduction, dims):
    target = Runtime(np.zeros((2, 5), np.int64))
    inputs = ["float[N,C,H]", target]
    check("NegativeLogLikelihoodLoss", inputs, SIZES[0], dims=(dims,), reduction=reduction)
    check("SoftmaxCrossEntropyLoss", inputs, SIZES[0], outputs=2, dims=(dims, SHAPE), reduction=reduction)


def test_nothing_is_guessed_where_the_rank_is_unknown():
    model = one_node("LayerNormalization", ["float[N,H]", "float[H]"], opset=17, domain="", outputs=2)
    model.graph.input[0].type.tensor_type.ClearField("shape")
    facts, node = facts_of(model)
    assert facts.describe(node.outputs[0]) == facts.describe(node.outputs[1]) == "float32[...]"
