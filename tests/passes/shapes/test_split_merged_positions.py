"""Height and width kept apart, in random places of random graphs too."""

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from graphopt.testing import (
    assert_rejects,
    assert_rewrites,
    assert_same_outputs,
    model_from_text,
    operators_of,
    run,
    run_pass,
)

PASS = "split-merged-positions"
SIZES = [{"B": 2}, {"B": 1}, {"B": 0}]


def test_between_convolutions():
    assert_rewrites(
        PASS,
        before="""g (float[B,3,5,4] x, float[3,6] w, float[6] b) => (float[B,6,5,4] y) {
            p = Reshape(x, [0,3,20])  q = Transpose <perm = [0,2,1]> (p)  m = MatMul(q, w)  a = Add(m, b)
            r = Transpose <perm = [0,2,1]> (a)  y = Reshape(r, [0,6,5,4]) }""",
        after="""g (float[B,3,5,4] x, float[3,6] w, float[6] b) => (float[B,6,5,4] y) {
            q = Transpose <perm = [0,2,3,1]> (x)  m = MatMul(q, w)  a = Add(m, b)
            y = Transpose <perm = [0,3,1,2]> (a) }""",
        sizes=SIZES,
    )


def test_a_table_of_positions_is_parted_too():
    assert_rewrites(
        PASS,
        before="""g (float[B,2,3,2] x) => (float[B,2,3,2] y) {
            table = Constant <value = float[1,6,2] {1,2,3,4,5,6,7,8,9,10,11,12}> ()
            p = Reshape(x, [0,6,2])  a = Add(p, table)  y = Reshape(a, [0,2,3,2]) }""",
        after="""g (float[B,2,3,2] x) => (float[B,2,3,2] y) {
            table = Constant <value = float[1,6,2] {1,2,3,4,5,6,7,8,9,10,11,12}> ()
            t = Reshape(table, [1,2,3,2])  y = Add(x, t) }""",
        sizes=SIZES,
    )


def test_what_broadcasts_over_positions_gets_their_axes():
    assert_rewrites(
        PASS,
        before="""g (float[B,2,3,2] x, float[B,2,3,2] z, float[B,2,3,2] u) => (float[B,2,3,2] y) {
            p = Reshape(x, [0,6,2])  q = Reshape(z, [0,6,2])  s = Add(p, q)
            m = ReduceMean(u, [1,2])  n = Squeeze(m, [2])  a = Mul(s, n)  y = Reshape(a, [0,2,3,2]) }""",
        after="""g (float[B,2,3,2] x, float[B,2,3,2] z, float[B,2,3,2] u) => (float[B,2,3,2] y) {
            s = Add(x, z)  m = ReduceMean(u, [1,2])  y = Mul(s, m) }""",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    "graph",
    [
        # Along the positions.
        """g (float[B,2,3,2] x) => (float[B,2,3,2] y) {
            p = Reshape(x, [0,6,2])  a = Softmax <axis = 1> (p)  y = Reshape(a, [0,2,3,2]) }""",
        """g (float[B,2,3,2] x) => (float[B,2,3,2] y) {
            p = Reshape(x, [0,6,2])  a = LayerNormalization <axis = 1> (p, [1.0])  y = Reshape(a, [0,2,3,2]) }""",
        # Columns, and what is summed over, of a product.
        """g (float[B,2,2,3] x, float[B,4,2] w) => (float[B,4,2,3] y) {
            p = Reshape(x, [0,2,6])  a = MatMul(w, p)  y = Reshape(a, [0,4,2,3]) }""",
        # Rows beside a batch: each row of the batch has a matrix of its own.
        """g (float[B,2,3,2] x, float[B,2,2] w) => (float[B,2,3,2] y) {
            p = Reshape(x, [0,6,2])  a = MatMul(p, w)  y = Reshape(a, [0,2,3,2]) }""",
    ],
)
def test_leaves_alone(graph):
    assert_rejects(PASS, graph)


@st.composite
def graphs(draw):
    """Steps on tensors [B,6,2]; 6 is 2 times 3."""
    lines = ["m0 = Reshape(q, [0,6,2])", "m1 = Reshape(k, [0,6,2])"]
    names = {"m0": ("p", 2), "m1": ("p", 2)}  # order of positions and channels, number of channels
    for place in range(draw(st.integers(1, 7))):
        name, given_name = f"a{place}", draw(st.sampled_from(sorted(names)))
        order, channels = names[given_name]
        kind = draw(
            st.sampled_from(["unary", "binary", "turn", "weight", "softmax", "join", "mean", "batch", "row"])
        )
        same = [other for other, what in sorted(names.items()) if what == (order, channels)]
        along = 2 if order == "p" else 1
        if kind == "unary":
            lines.append(f"{name} = Neg({given_name})")
        elif kind == "binary":
            lines.append(f"{name} = Sub({given_name}, {draw(st.sampled_from(same))})")
        elif kind == "turn":
            lines.append(f"{name} = Transpose <perm = [0,2,1]> ({given_name})")
            order = "c" if order == "p" else "p"
        elif kind == "weight" and order == "p" and channels == 2:
            lines.append(f"{name} = MatMul({given_name}, w)")
        elif kind == "softmax":
            lines.append(f"{name} = Softmax <axis = {along}> ({given_name})")
        elif kind == "join":
            lines.append(f"{name} = Concat <axis = {along}> ({given_name}, {draw(st.sampled_from(same))})")
            channels *= 2
        elif kind == "mean":
            lines.append(f"{name} = ReduceMean({given_name}, [{along}])")
            channels = 1
        elif kind == "batch":
            lines.append(f"{name} = Mul({given_name}, d)")
        elif kind == "row" and order == "p":
            lines.append(f"{name} = Add({given_name}, [{','.join(str(0.5 * i) for i in range(channels))}])")
        else:
            continue
        names[name] = (order, channels)
    outputs = []
    for place in range(draw(st.integers(1, 3))):
        given_name = draw(st.sampled_from(sorted(names)))
        order, channels = names[given_name]
        dims = ["2", "3"] if draw(st.booleans()) else ["6"]
        shape = [*dims, str(channels)] if order == "p" else [str(channels), *dims]
        lines.append(f"o{place} = Reshape({given_name}, [0,{','.join(shape)}])")
        outputs.append(f"float[B,{','.join(shape)}] o{place}")
    body = "\n    ".join(lines)
    signature = "float[B,2,3,2] q, float[B,2,3,2] k, float[2,2] w, float[B,1,1] d"
    return f"g ({signature}) => ({', '.join(outputs)}) {{\n    {body}\n}}"


def feeds(size):
    rng = np.random.default_rng(0)
    shapes = {"q": (size, 2, 3, 2), "k": (size, 2, 3, 2), "w": (2, 2), "d": (size, 1, 1)}
    return {name: rng.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()}


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(text=graphs())
def test_the_same_answers_in_no_more_nodes(text):
    model = model_from_text(text)
    run_pass("remove-dead-code", model)
    original = model.clone()
    before = len(operators_of(model))
    run_pass(f"({PASS},remove-repeated-reshapes,fold-constants)", model)
    assert len(operators_of(model)) <= before
    for sizes in SIZES:
        try:
            run(original, feeds(sizes["B"]))
        except Exception:  # the model itself does not run at this size
            continue
        assert_same_outputs(original, model, feeds(sizes["B"]), exact=False)
