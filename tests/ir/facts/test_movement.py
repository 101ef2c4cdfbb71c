"""Facts of operators that move, pick or repeat elements, against runs."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tests.ir.facts.checking import Runtime, check, facts_of, one_node

SIZES = ({"N": 2, "M": 5, "K": 8}, {"N": 1, "M": 1, "K": 4}, {"N": 0, "M": 3, "K": 0})


def ints(*values):
    return np.array(values, np.int64)


def unknown(*values):
    return Runtime(ints(*values))


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "dims"),
    [
        ("Transpose", ["float[N,M,3]"], {}, "3, M, N"),
        ("Transpose", ["float[N,M,3]"], {"perm": [1, 0, 2]}, "M, N, 3"),
        ("Unsqueeze", ["float[N,M]", ints(-1, 0)], {}, "1, N, M, 1"),
        ("Squeeze", ["float[1,N,1,M]", ints(0, -2)], {}, "N, M"),
        ("Squeeze", ["float[1,3,1,2]"], {}, "3, 2"),
        ("Flatten", ["float[N,M,3]"], {}, "N, 3*M"),
        ("Flatten", ["float[N,M,3]"], {"axis": 0}, "1, 3*M*N"),
        ("Flatten", ["float[N,M,3]"], {"axis": -1}, "M*N, 3"),
        ("Trilu", ["float[N,M,3]"], {}, "N, M, 3"),
        ("Expand", ["float[N,1,3]", ints(4, 1)], {}, "N, 4, 3"),
        ("Tile", ["float[N,M]", ints(2, 3)], {}, "2*N, 3*M"),
        ("Concat", ["float[N,M]", "float[N,3]", "float[N,M]"], {"axis": -1}, "N, 2*M + 3"),
        ("Pad", ["float[N,M]", ints(1, 0, 2, 3)], {}, "N + 3, M + 3"),
        ("Pad", ["float[N,M]", ints(1, 2), None, ints(-1)], {}, "N, M + 3"),
        ("Gather", ["float[3,M]", "int64[N,2]"], {"axis": 0}, "N, 2, M"),
        ("Gather", ["float[N,3]", ints(2).reshape(())], {"axis": 1}, "N"),
        ("GatherElements", ["float[3,M]", "int64[2,M]"], {}, "2, M"),
        ("GatherND", ["float[3,4,M]", "int64[N,2]"], {}, "N, M"),
        ("ScatterND", ["float[3,M]", ints(0, 2).reshape(2, 1), "float[2,M]"], {}, "3, M"),
        ("ScatterElements", ["float[3,M]", "int64[1,M]", "float[1,M]"], {}, "3, M"),
        ("DepthToSpace", ["float[N,12,M,K]"], {"blocksize": 2}, "N, 3, 2*M, 2*K"),
        ("OneHot", ["int64[N,M]", ints(6), np.float32([0, 1])], {}, "N, M, 6"),
        ("OneHot", ["int64[N,M]", ints(6), np.float32([0, 1])], {"axis": 0}, "6, N, M"),
        ("Split", ["float[N,6]"], {"axis": 1, "num_outputs": 2}, "N, 3"),
        ("Split", ["float[N,6]", ints(2, 4)], {"axis": 1}, "N, 2"),
        ("Resize", ["float[N,2,M,K]", None, np.float32([1, 1, 2, 0.5])], {}, "N, 2, 2*M, K//2"),
        ("Resize", ["float[N,2,M,4]", None, None, ints(3, 2, 8, 8)], {}, "3, 2, 8, 8"),
    ],
)
def test_movement(op, inputs, attributes, dims):
    outputs = 2 if op == "Split" else 1
    for size in SIZES:
        empty = 0 in size.values() or op == "Resize"
        if op == "Resize":
            size = {**size, "N": 3}
            empty = size["K"] == 0
        if empty and op in ("Resize", "DepthToSpace", "GatherND", "Gather", "Pad", "OneHot", "Tile"):
            continue  # onnxruntime refuses these
        check(op, inputs, size, outputs=outputs, dims=(dims,), **attributes)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes", "dims"),
    [
        ("Squeeze", ["float[1,N]"], {"axes": [0]}, "N"),
        ("Unsqueeze", ["float[N]"], {"axes": [0, 2]}, "1, N, 1"),
        ("Slice", ["float[N,6]"], {"axes": [1], "starts": [1], "ends": [-1]}, "N, 4"),
        ("Split", ["float[N,6]"], {"axis": 1, "split": [2, 4]}, "N, 2"),
        ("Pad", ["float[N,6]"], {"pads": [1, 0, 0, 2]}, "N + 1, 8"),
        ("TopK", ["float[N,6]"], {"k": 2}, "N, 2"),
        ("Upsample", ["float[N,2,M,M]", np.float32([1, 1, 2, 3])], {}, "N, 2, 2*M, 3*M"),
    ],
)
def test_spellings_of_old_opsets(op, inputs, attributes, dims):
    outputs = 2 if op in ("Split", "TopK") else 1
    check(op, inputs, SIZES[0], opset=9, outputs=outputs, dims=(dims,), **attributes)


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Reshape", ["float[N,6]", unknown(2, -1)], {}),
        ("Expand", ["float[N,1]", unknown(2, 5)], {}),
        ("Tile", ["float[N,2]", unknown(2, 1)], {}),
        ("Slice", ["float[N,6]", unknown(1), unknown(4), ints(1)], {}),
        ("Slice", ["float[N,6]", unknown(1), unknown(4)], {}),
        ("Pad", ["float[N,6]", unknown(1, 1, 0, 0)], {}),
        ("Unsqueeze", ["float[N]", unknown(0)], {}),
        ("Squeeze", ["float[1,N]", unknown(0)], {}),
        ("ConstantOfShape", [unknown(3, 4)], {}),
        ("Range", [Runtime(np.array(number)) for number in (2, 9, 3)], {}),
        ("OneHot", ["int64[N]", unknown(4), np.float32([0, 1])], {}),
        ("Resize", ["float[N,2,4,4]", None, None, unknown(2, 2, 8, 3)], {}),
        ("TopK", ["float[N,6]", unknown(2)], {}),
        ("Split", ["float[N,6]", unknown(2, 4)], {"axis": 1}),
        ("NonZero", ["float[N,3]"], {}),
        ("Compress", ["float[N,6]", "bool[6]"], {"axis": 1}),
        ("Compress", ["float[N,6]", "bool[6]"], {}),
        ("Unique", ["float[N]"], {}),
        ("Unique", ["float[N,3]"], {"axis": 1}),
        ("Multinomial", ["float[N,6]"], {"sample_size": 4}),
        ("RandomNormalLike", ["float[N,6]"], {}),
        ("RandomUniform", [], {"shape": [2, 3]}),
        ("Bernoulli", ["float[N,6]"], {}),
        ("EyeLike", ["float[N,6]"], {"dtype": 7}),
    ],
)
def test_what_only_a_run_can_tell_is_unknown_and_ranked(op, inputs, attributes):
    outputs = {"TopK": 2, "Split": 2, "Unique": 4}.get(op, 1)
    check(op, inputs, SIZES[0], outputs=outputs, exact=False, **attributes)
    facts, node = facts_of(one_node(op, inputs, outputs=outputs, **attributes))
    assert all(facts.rank(output) is not None for output in node.outputs)


BOUND = st.one_of(st.integers(-8, 8), st.sampled_from([-(2**63), 2**63 - 1]))


@settings(max_examples=60)
@given(start=BOUND, end=BOUND, step=st.sampled_from([-3, -2, -1, 1, 2, 3]), size=st.integers(0, 7))
def test_slices_of_a_symbolic_dim(start, end, step, size):
    disputed = step < 0 and end == 2**63 - 1
    inputs = ["float[N]", ints(start), ints(end), ints(0), ints(step)]
    check("Slice", inputs, {"N": size}, exact=not disputed)


@settings(max_examples=40)
@given(start=BOUND, end=BOUND, step=st.sampled_from([-2, -1, 1, 2]))
def test_slices_of_known_contents(start, end, step):
    disputed = step < 0 and end == 2**63 - 1
    inputs = [ints(3, 1, 4, 1, 5), ints(start), ints(end), ints(0), ints(step)]
    check("Slice", inputs, exact=not disputed)


@settings(max_examples=40)
@given(start=st.integers(-9, 9), limit=st.integers(-9, 9), delta=st.sampled_from([-3, -1, 1, 2]))
def test_ranges(start, limit, delta):
    check("Range", [np.array(number, np.int64) for number in (start, limit, delta)])
    check("Range", [np.array(number, np.float32) for number in (start + 0.5, limit, delta)], exact=False)


@settings(max_examples=40)
@given(scale=st.sampled_from([0.1, 0.3, 0.5, 0.75, 1.0, 1.9, 2.0, 3.3]), size=st.integers(1, 40))
def test_scales(scale, size):
    scales = np.array([1, 1, 1, scale], np.float32)
    check("Resize", ["float[1,1,1,W]", None, scales], {"W": size}, exact=False)
    check("Resize", [f"float[1,1,1,{size}]", None, scales])


@pytest.mark.parametrize(
    ("op", "inputs", "attributes"),
    [
        ("Transpose", [np.arange(6).reshape(2, 3)], {}),
        ("Gather", [np.arange(12).reshape(3, 4), ints(2, -1)], {"axis": 1}),
        ("Gather", [ints(5, 6, 7), ints(-1, 0)], {"axis": 0}),
        ("Concat", [np.arange(4).reshape(2, 2), np.arange(6).reshape(2, 3)], {"axis": 1}),
        ("Expand", [np.arange(3).reshape(3, 1), ints(2, 1, 4)], {}),
        ("Tile", [np.arange(4).reshape(2, 2), ints(2, 3)], {}),
        ("Split", [ints(1, 2, 3, 4, 5), ints(2, 3)], {}),
        ("Pad", [ints(1, 2), ints(1, 2), ints(7).reshape(())], {}),
        ("Slice", [np.arange(12).reshape(3, 4), ints(-1), ints(-9), ints(0), ints(-1)], {}),
        ("Squeeze", [ints(4).reshape(1, 1)], {}),
        ("ScatterND", [ints(1, 2, 3), ints(2, 0).reshape(2, 1), ints(8, 9)], {}),
        ("Reshape", [np.arange(6), ints(2, -1)], {}),
        ("ConstantOfShape", [ints(2, 3)], {}),
        ("Size", [np.zeros((2, 5), np.float32)], {}),
        ("Shape", [np.zeros((2, 5, 3), np.float32)], {"start": -2}),
    ],
)
def test_contents_are_followed(op, inputs, attributes):
    outputs = 2 if op == "Split" else 1
    check(op, inputs, outputs=outputs, **attributes)
    facts, node = facts_of(one_node(op, inputs, outputs=outputs, **attributes))
    assert all(facts.elements(output) is not None for output in node.outputs)


@settings(max_examples=30)
@given(
    shapes=st.lists(st.lists(st.sampled_from([1, 2, 3, "N", "M"]), max_size=3), min_size=2, max_size=3),
    size=st.fixed_dictionaries({"N": st.sampled_from([0, 1, 2, 3]), "M": st.sampled_from([1, 2, 3])}),
)
def test_broadcasting(shapes, size):
    numbers = [[size.get(dim, dim) for dim in shape] for shape in shapes]
    try:
        np.broadcast_shapes(*[tuple(shape) for shape in numbers])
    except ValueError:
        assume(False)
    check("Sum", [f"float[{','.join(map(str, shape))}]" for shape in shapes], size)
