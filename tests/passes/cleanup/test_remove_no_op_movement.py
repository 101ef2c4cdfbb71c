import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-no-op-movement"


@pytest.mark.parametrize(
    "expression",
    [
        "Reshape(x, [0,4,6])",
        "Reshape(x, [-1,4,6])",
        "Reshape(x, s)",
        "Expand(x, [1,1])",
        "Expand(x, s)",
        "Tile(x, [1,1,1])",
        "Transpose <perm = [0,1,2]> (x)",
        "Pad(x, [0,0,0,0,0,0])",
        'Pad <mode = "edge"> (x, [0,0,0,0,0,0])',
        "Slice(x, [0,0], [9223372036854775807,4], [0,1])",
        "Slice(x, [-4], [100], [1], [1])",
        "Gather <axis = 1> (x, [0,1,2,3])",
        "Concat <axis = 1> (x, e)",
        "Concat <axis = -2> (e, x, e)",
        "Split <axis = 2, num_outputs = 1> (x)",
    ],
)
def test_what_moves_nothing_is_removed(expression):
    shape = "s = Shape(x) " if "s)" in expression else ""
    signature = "g (float[N,4,6] x, float[N,0,6] e) => (float[N,4,6] y)"
    assert_rewrites(
        PASS,
        before=f"{signature} {{ {shape} a = {expression}  y = Exp(a) }}",
        after=f"{signature} {{ y = Exp(x) }}",
        sizes=[{"N": 0}, {"N": 1}, {"N": 2}],
    )


@pytest.mark.parametrize(
    "expression",
    [
        "Reshape(x, [0,6,4])",
        "Reshape(x, [1,-1,6])",
        "Expand(x, [2,1,1,1])",
        "Expand(x, t)",
        "Tile(x, [1,2,1])",
        "Transpose <perm = [0,2,1]> (x)",
        "Transpose(x)",
        "Pad(x, [0,1,0,0,-1,0])",  # the same shape, moved by one
        "Slice(x, [-1], [-9223372036854775807], [1], [-1])",  # backwards
        "Slice(x, [1], [5], [1])",
        "Gather <axis = 1> (x, [0,1,3,2])",
        "Gather <axis = 1> (x, [0,1,2])",
        "Concat <axis = 1> (x, x)",
    ],
)
def test_what_moves_something_stays(expression):
    assert_rejects(
        PASS, f"g (float[N,4,6] x, int64[3] t) => (float y) {{ a = {expression}  y = ReduceMax(a) }}"
    )


def test_transpose_of_axes_of_size_1_among_themselves():
    assert_rewrites(
        PASS,
        before="g (float[1,N,1,3] x) => (float[1,N,1,3] y) { a = Transpose <perm=[2,1,0,3]> (x) y = Exp(a) }",
        after="g (float[1,N,1,3] x) => (float[1,N,1,3] y) { y = Exp(x) }",
    )


def test_transpose_that_changes_the_shape_stays():
    assert_rejects(
        PASS,
        "g (float[1,N] x) => (float[N,1] y) { y = Transpose <perm = [1,0]> (x) }",
    )


def test_unknown_rank_and_identity_permutation():
    assert_rewrites(
        PASS,
        before="""g (float[N] x, int64[K] s) => (float y) {
            r = Reshape(x, s)  a = Transpose <perm = [0,1]> (r)  y = ReduceMax(a)
        }""",
        after="g (float[N] x, int64[K] s) => (float y) { r = Reshape(x, s)  y = ReduceMax(r) }",
        runs=False,
    )


def test_flatten_of_a_matrix():
    assert_rewrites(
        PASS,
        before="g (float[N,6] x) => (float[N,6] y) { a = Flatten(x)  b = Unsqueeze(a, [])  y = Exp(b) }",
        after="g (float[N,6] x) => (float[N,6] y) { y = Exp(x) }",
    )


def test_old_spellings():
    assert_rewrites(
        PASS,
        before="""g (float[N,4] x) => (float[N,4] y) {
            a = Slice <starts = [0], ends = [4], axes = [1]> (x)
            b = Pad <pads = [0,0,0,0]> (a)
            y = Exp(b)
        }""",
        after="g (float[N,4] x) => (float[N,4] y) { y = Exp(x) }",
        opset=9,
    )


@pytest.mark.parametrize(
    "resize",
    [
        "Resize(x, , [1.0,1.0,1.0,1.0])",
        'Resize <mode = "linear"> (x, , , s)',
        'Resize <mode = "cubic", coordinate_transformation_mode = "align_corners"> (x, , [1.0,1.0,1.0,1.0])',
    ],
)
def test_resize_by_one(resize):
    shape = "s = Shape(x) " if "s)" in resize else ""
    assert_rewrites(
        PASS,
        before=f"g (float[1,2,H,W] x) => (float[1,2,H,W] y) {{ {shape} a = {resize}  y = Exp(a) }}",
        after="g (float[1,2,H,W] x) => (float[1,2,H,W] y) { y = Exp(x) }",
    )


@pytest.mark.parametrize(
    "resize",
    [
        "Resize(x, , [1.0,1.0,2.0,1.0])",
        'Resize <coordinate_transformation_mode = "tf_half_pixel_for_nn", nearest_mode = "ceil"> (x, , ones)',
        "Resize(x, , , s)",
        "Resize(x, , [1.0,1.0,1.01,1.0])",  # of 5 rows that makes 5, but other ones
    ],
)
def test_resize_that_does_something_stays(resize):
    ones = "ones = Constant <value = float[4] {1, 1, 1, 1}> ()"
    assert_rejects(
        PASS, f"g (float[1,2,5,5] x, int64[4] s) => (float y) {{ {ones} a = {resize}  y = ReduceMax(a) }}"
    )


def test_blocks_of_one():
    assert_rewrites(
        PASS,
        before="g (float[N,2,H,W] x) => (float[N,2,H,W] y) { a = DepthToSpace <blocksize=1> (x) y = Exp(a) }",
        after="g (float[N,2,H,W] x) => (float[N,2,H,W] y) { y = Exp(x) }",
    )


def test_concat_loses_its_empty_inputs():
    assert_rewrites(
        PASS,
        before="g (float[N,3] x, float[0,3] e) => (float[M,3] y) { y = Concat <axis = 0> (e, x, x) }",
        after="g (float[N,3] x, float[0,3] e) => (float[M,3] y) { y = Concat <axis = 0> (x, x) }",
    )


def test_cache_that_is_empty_in_the_first_step_only_stays_in_the_loop():
    # torch declares the body's input with the shape of its first step: [0,3].
    assert_rejects(
        PASS,
        """g (float[1,3] x, int64 n, float[0,3] empty) => (float[M,3] y) {
            y = Loop (n, , empty) <body = b (int64 i, bool c, float[0,3] old) => (bool d, float[P,3] grown) {
                d = Identity(c)
                grown = Concat <axis = 0> (old, x)
            }>
        }""",
    )
