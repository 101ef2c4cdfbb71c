"""Reshape over symbolic dims: 0 copies, -1 is inferred, and both meet dims that may be 0."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from graphopt.ir.inference import Facts
from tests.ir.facts.checking import assert_holds, check, facts_of, one_node, run

SIZES = ({"N": 2, "M": 6, "K": 4}, {"N": 1, "M": 1, "K": 1}, {"N": 3, "M": 12, "K": 2})


def ints(*values):
    return np.array(values, np.int64)


@pytest.mark.parametrize(
    ("source", "target", "dims"),
    [
        ("N,M,12", (0, 0, 3, 4), "N, M, 3, 4"),
        ("N,M,12", (0, -1), "N, 12*M"),
        ("N,M,12", (-1, 4), "3*M*N, 4"),
        ("N,M,12", (-1, 0, 6), "2*N, M, 6"),
        ("N,M", (-1,), "M*N"),
        ("N,2", (0, -1, 1), "N, 2, 1"),
        ("2,3,4", (4, -1), "4, 6"),
        ("1,1", (), ""),
    ],
)
def test_constant_targets(source, target, dims):
    check("Reshape", [f"float[{source}]", ints(*target)], *SIZES, dims=(dims,))


def test_allowzero_makes_an_empty_result():
    check("Reshape", ["float[0,3]", ints(3, 0)], dims=("3, 0",), allowzero=1)


def test_the_target_of_opset_1_is_an_attribute():
    facts, node = facts_of(one_node("Reshape", ["float[N,12]"], opset=4, shape=[0, 3, 4]))
    assert facts.describe(node.outputs[0]) == "float32[N, 3, 4]"


def computed(source: str, target: str, allowzero: int = 0) -> onnx.ModelProto:
    """x of shape `source`, reshaped to a target computed from the shape of `like`."""
    names = target.split(",")
    symbols = [name for name in names if not name.lstrip("-").isdigit()]
    like = ",".join(dict.fromkeys(symbols)) or "1"
    at = {name: i for i, name in enumerate(dict.fromkeys(symbols))}
    lines = ["s = Shape(like)"]
    for i, name in enumerate(names):
        if name in at:
            lines.append(f"i{i} = Constant<value = int64[1] {{{at[name]}}}>()  t{i} = Gather(s, i{i})")
        else:
            lines.append(f"t{i} = Constant<value = int64[1] {{{name}}}>()")
    lines.append("t = Concat<axis = 0>(" + ", ".join(f"t{i}" for i in range(len(names))) + ")")
    lines.append(f"y = Reshape<allowzero = {allowzero}>(x, t)")
    return onnx.parser.parse_model(
        f'<ir_version: 8, opset_import: ["" : 17]> g (float[{source}] x, float[{like}] like) => (float y)'
        "{" + "\n".join(lines) + "}"
    )


def inferred(model: onnx.ModelProto) -> tuple[Facts, ir.Value]:
    known = ir.serde.deserialize_model(model)
    facts = Facts(known)
    facts.of(known.graph.outputs[0])
    assert not facts.failures
    return facts, known.graph.outputs[0]


@pytest.mark.parametrize(
    ("source", "target", "dims"),
    [
        ("N,M,12", "N,M,3,4", "N, M, 3, 4"),
        ("N,M,12", "N,-1,4", "N, 3*M, 4"),
        ("N,M,12", "-1,M,12", "N, M, 12"),
        ("N,M,K", "N,-1", "N, K*M"),
    ],
)
def test_a_computed_target_that_copies_itself_needs_no_assumption(source, target, dims):
    facts, y = inferred(computed(source, target))
    assert facts.describe(y) == f"float32[{dims}]"
    assert not facts.assumptions


def test_the_only_dim_that_may_be_zero_is_itself():
    # 0 would copy 12; but then the result would not be empty, and the input is.
    facts, y = inferred(computed("2,M,12", "24,M"))
    assert facts.describe(y) == "float32[24, M]"
    assert not facts.assumptions


def test_zero_that_copies_another_dim_is_an_assumption_that_is_said():
    facts, y = inferred(computed("N,8,M,4", "-1,M,4"))
    assert facts.describe(y) == "float32[8*N, M, 4]"
    (node,) = facts.assumptions
    assert node.op_type == "Reshape"
    facts, y = inferred(computed("N,8,M,4", "-1,M,4", allowzero=1))
    assert not facts.assumptions


def test_an_unknown_element_follows_from_the_volume():
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 17]> g (float[N,6] x, int64[1] k) => (float y)'
        "{ two = Constant<value = int64[1] {2}>()  t = Concat<axis = 0>(two, k)  y = Reshape(x, t) }"
    )
    facts, y = inferred(model)
    assert facts.describe(y) == "float32[2, 3*N]"


DIM = st.sampled_from(["N", "M", "2", "3", "6"])


@settings(max_examples=60)
@given(
    source=st.lists(DIM, min_size=1, max_size=4),
    target=st.lists(st.one_of(DIM, st.just("-1"), st.just("0")), min_size=1, max_size=4),
    size=st.fixed_dictionaries({"N": st.integers(1, 4), "M": st.integers(1, 6)}),
)
def test_any_legal_reshape_has_the_inferred_dims(source, target, size):
    assume(target.count("-1") <= 1)
    model = computed(",".join(source), ",".join(target))
    shape = [size.get(dim) or int(dim) for dim in source]
    like = [
        size[dim.dim_param] if dim.dim_param else dim.dim_value
        for dim in model.graph.input[1].type.tensor_type.shape.dim
    ]
    feeds = {"x": np.zeros(shape, np.float32), "like": np.zeros(like, np.float32)}
    try:
        (found,) = run(model, feeds, "onnxruntime")
    except Exception:
        assume(False)
    facts, y = inferred(model)
    assert_holds(facts.of(y), found, size, exact=True)


@settings(max_examples=60)
@given(
    source=st.lists(DIM, min_size=1, max_size=4),
    target=st.lists(st.one_of(DIM, st.just("-1"), st.just("0")), min_size=1, max_size=4),
    size=st.fixed_dictionaries({"N": st.integers(0, 2), "M": st.integers(0, 2)}),
)
def test_dims_of_zero_only_differ_under_an_assumption_that_is_said(source, target, size):
    assume(target.count("-1") <= 1)
    model = computed(",".join(source), ",".join(target))
    shape = [size[dim] if dim in size else int(dim) for dim in source]
    like = [
        size[dim.dim_param] if dim.dim_param else dim.dim_value
        for dim in model.graph.input[1].type.tensor_type.shape.dim
    ]
    feeds = {"x": np.zeros(shape, np.float32), "like": np.zeros(like, np.float32)}
    try:
        (found,) = run(model, feeds, "onnxruntime")
    except Exception:
        assume(False)
    facts, y = inferred(model)
    if not facts.assumptions:
        assert_holds(facts.of(y), found, size, exact=True)
