import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import (
    assert_rejects,
    assert_rewrites,
    assert_same_outputs,
    model_from_text,
    operators_of,
    random_feeds,
    run_pass,
)

PASS = "merge-selections"
SIZES = [{}, {"N": 0}, {"N": 1}]

ROLL = """a, b = Split <axis = 1> (q, [1,3])  c = Concat <axis = 1> (b, a)
          d, e = Split <axis = 2> (c, [1,3])  f = Concat <axis = 2> (e, d)"""
WINDOWS = "r = Reshape(f, [0,2,2,2,2,16])  t = Transpose <perm = [0,1,3,2,4,5]> (r)"


def leaves(text: str) -> list[str]:
    """The operators that are left; the answers must be the same."""
    model = model_from_text(text)
    original = model.clone()
    run_pass(PASS, model)
    for size in SIZES:
        assert_same_outputs(original, model, random_feeds(original, size))
    return operators_of(model)


def test_roll_and_windows():
    text = f"""g (float[N,16,16] x) => (float[M,4,16] y) {{
        q = Reshape(x, [0,4,4,16])  {ROLL}  {WINDOWS}  y = Reshape(t, [-1,4,16]) }}"""
    assert leaves(text) == ["Gather", "Reshape"]


def test_windows_and_roll_back():
    text = f"""g (float[N,16,16] x) => (float[M,16,16] y) {{
        w = Reshape(x, [-1,4,16])  h = Relu(w)  r = Reshape(h, [-1,2,2,2,2,16])
        t = Transpose <perm = [0,1,3,2,4,5]> (r)  q = Reshape(t, [-1,4,4,16])  {ROLL}
        y = Reshape(f, [-1,16,16]) }}"""
    assert leaves(text) == ["Reshape", "Relu", "Reshape", "Gather"]


def test_patch_merging():
    text = """g (float[N,16,16] x) => (float[N,4,64] y) {
        q = Reshape(x, [0,4,4,16])
        a = Slice(q, [0,0], [4,4], [1,2], [2,2])  b = Slice(q, [1,0], [4,4], [1,2], [2,2])
        c = Slice(q, [0,1], [4,4], [1,2], [2,2])  d = Slice(q, [1,1], [4,4], [1,2], [2,2])
        e = Concat <axis = 3> (a, b, c, d)  y = Reshape(e, [0,4,64]) }"""
    assert leaves(text) == ["Gather", "Reshape"]


def test_parts_put_back_are_nothing():
    text = """g (float[N,4,16] x) => (float[N,4,16] y) {
        a, b = Split <axis = 1> (x, [1,3])  c = Concat <axis = 1> (b, a)
        d, e = Split <axis = 1> (c, [3,1])  f = Concat <axis = 1> (e, d)  y = Relu(f) }"""
    assert leaves(text) == ["Relu"]


def test_constant_indices():
    assert_rewrites(
        PASS,
        before="""g (float[N,4,16] x) => (float[N,2,16] y) {
            a = Gather <axis = 1> (x, [-1,0,2])  y = Gather <axis = 1> (a, [2,0]) }""",
        after="""g (float[N,4,16] x) => (float[N,2,16] y) {
            c = Constant <value = int32[2] {2,3}> ()  y = Gather <axis = 1> (x, c) }""",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        # Rows of less than 16 elements.
        (
            """g (float[N,4,4,8] x) => (float[N,4,4,8] y) {
                a, b = Split <axis = 1> (x, [1,3])  c = Concat <axis = 1> (b, a)
                d, e = Split <axis = 2> (c, [1,3])  y = Concat <axis = 2> (e, d) }""",
            None,
        ),
        # One copy.
        (
            """g (float[N,16,16] x) => (float[M,4,16] y) {
                r = Reshape(x, [0,2,2,2,2,16])  t = Transpose <perm = [0,1,3,2,4,5]> (r)
                y = Reshape(t, [-1,4,16]) }""",
            None,
        ),
        # Two sources.
        (
            """g (float[N,4,16] x, float[N,4,16] z) => (float[N,4,16] y) {
                a, b = Split <axis = 1> (x, [1,3])  c, d = Split <axis = 1> (z, [1,3])
                y = Concat <axis = 1> (b, c) }""",
            None,
        ),
        # Elements of a row go apart.
        (
            """g (float[N,4,4,16] x) => (float[N,4,4,16] y) {
                a, b = Split <axis = 3> (x, [1,15])  c = Concat <axis = 3> (b, a)
                d, e = Split <axis = 2> (c, [1,3])  y = Concat <axis = 2> (e, d) }""",
            None,
        ),
        # A dynamic axis is rolled.
        (
            """g (float[N,M,16] x) => (float[N,M,16] y) {
                a = Slice(x, [1], [9223372036854775807], [1])  b = Slice(x, [0], [1], [1])
                c = Concat <axis = 1> (a, b)  d = Slice(c, [1], [9223372036854775807], [1])
                e = Slice(c, [0], [1], [1])  y = Concat <axis = 1> (d, e) }""",
            None,
        ),
        # The parts are needed.
        (
            """g (float[N,4,16] x) => (float[N,4,16] y, float[N,1,16] a, float[N,3,16] b) {
                a, b = Split <axis = 1> (x, [1,3])  y = Concat <axis = 1> (b, a) }""",
            HAS_OTHER_CONSUMERS,
        ),
    ],
)
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)


@st.composite
def regions(draw):
    """Steps over [N, 4, 6, 16] that select rows."""
    shape = [4, 6]
    lines, value = [], "x"
    for i in range(draw(st.integers(2, 6))):
        axis = draw(st.integers(0, len(shape) - 1))
        kind = draw(st.sampled_from(["roll", "slice", "swap", "cut", "join", "double"]))
        if kind == "roll" and shape[axis] > 1:
            at = draw(st.integers(1, shape[axis] - 1))
            sizes = f"[{at},{shape[axis] - at}]"
            lines.append(f"a{i}, b{i} = Split <axis = {axis + 1}> ({value}, {sizes})")
            lines.append(f"v{i} = Concat <axis = {axis + 1}> (b{i}, a{i})")
        elif kind == "slice" and shape[axis] > 2:
            step = draw(st.integers(1, 2))
            lines.append(f"v{i} = Slice({value}, [1], [{shape[axis]}], [{axis + 1}], [{step}])")
            shape[axis] = len(range(1, shape[axis], step))
        elif kind == "swap" and len(shape) > 1:
            order = [0, *(n + 1 for n in draw(st.permutations(range(len(shape))))), len(shape) + 1]
            shape = [shape[n - 1] for n in order[1:-1]]
            lines.append(f"v{i} = Transpose <perm = {order}> ({value})")
        elif kind == "cut" and shape[axis] % 2 == 0 and len(shape) < 4:
            shape[axis : axis + 1] = [2, shape[axis] // 2]
            lines.append(f"v{i} = Reshape({value}, {[-1, *shape, 16]})")
        elif kind == "join" and len(shape) > 1:
            shape = [shape[0] * shape[1], *shape[2:]]
            lines.append(f"v{i} = Reshape({value}, {[-1, *shape, 16]})")
        elif kind == "double" and max(shape) < 40:
            shape[axis] *= 2
            lines.append(f"v{i} = Concat <axis = {axis + 1}> ({value}, {value})")
        else:
            continue
        value = f"v{i}"
    dims = ",".join(f"Q{n}" for n in range(len(shape) + 2))
    return f"g (float[N,4,6,16] x) => (float[{dims}] y) {{ {' '.join(lines)} y = Identity({value}) }}"


@given(regions())
@settings(max_examples=60, deadline=None)
def test_never_changes_an_answer(text):
    model = model_from_text(text)
    original = model.clone()
    before = len(operators_of(model))
    run_pass(PASS, model)
    assert len(operators_of(model)) <= before
    for size in (0, 1, 2):
        assert_same_outputs(original, model, random_feeds(original, {"N": size}))
