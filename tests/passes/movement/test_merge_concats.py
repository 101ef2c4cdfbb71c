from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-concats"
SIZES = [{}, {"N": 0}, {"N": 1}, {"N": 5}]


def test_nested():
    assert_rewrites(
        PASS,
        before="""g (float[N,2] a, float[N,3] b, float[N,1] c) => (float[N,8] y) {
            d = Concat <axis = 1> (a, b)  e = Concat <axis = -1> (c, a)
            y = Concat <axis = 1> (d, e) }""",
        after="""g (float[N,2] a, float[N,3] b, float[N,1] c) => (float[N,8] y) {
            y = Concat <axis = 1> (a, b, c, a) }""",
        sizes=SIZES,
    )


def test_another_axis_stays():
    assert_rejects(
        PASS,
        """g (float[N,2] a, float[N,2] b) => (float[M,2] y) {
            d = Concat <axis = 1> (a, b)  y = Concat <axis = 0> (d, d) }""",
    )


def test_shared_concat_stays():
    assert_rejects(
        PASS,
        """g (float[N,2] a, float[N,3] b) => (float[N,7] y, float[N,5] d) {
            d = Concat <axis = 1> (a, b)  y = Concat <axis = 1> (d, a) }""",
        HAS_OTHER_CONSUMERS,
    )


def test_all_parts_of_a_split():
    assert_rewrites(
        PASS,
        before="""g (float[N,5] x, float[N,1] z) => (float[N,6] y) {
            a, b = Split <axis = 1> (x, [2,3])  y = Concat <axis = -1> (z, a, b) }""",
        after="g (float[N,5] x, float[N,1] z) => (float[N,6] y) { y = Concat <axis = 1> (z, x) }",
        sizes=SIZES,
    )


def test_parts_in_another_order_stay():
    assert_rejects(
        PASS,
        """g (float[N,4] x) => (float[N,4] y) {
            a, b = Split <axis = 1> (x, [2,2])  y = Concat <axis = 1> (b, a) }""",
    )


def test_adjacent_slices():
    assert_rewrites(
        PASS,
        before="""g (float[N,6] x, float[N,1] z) => (float[N,6] y) {
            a = Slice(x, [1], [3], [1])  b = Slice(x, [3], [6], [1])  y = Concat <axis = 1> (a, b, z) }""",
        after="""g (float[N,6] x, float[N,1] z) => (float[N,6] y) {
            a = Slice(x, [1], [6], [1])  y = Concat <axis = 1> (a, z) }""",
        sizes=SIZES,
    )


def test_slices_that_are_the_whole_of_a_dynamic_axis():
    assert_rewrites(
        PASS,
        before="""g (float[N,6] x) => (float[N,6] y) {
            a = Slice(x, [0], [2], [0])  b = Slice(x, [2], [9223372036854775807], [0])
            c = Concat <axis = 0> (a, b)  y = Neg(c) }""",
        after="g (float[N,6] x) => (float[N,6] y) { y = Neg(x) }",
        sizes=SIZES,
    )


def test_overlapping_slices_stay():
    assert_rejects(
        PASS,
        """g (float[N,6] x) => (float[N,6] y) {
            a = Slice(x, [0], [3], [1])  b = Slice(x, [2], [5], [1])  y = Concat <axis = 1> (a, b) }""",
    )


def test_slices_needed_elsewhere_stay():
    assert_rejects(
        PASS,
        """g (float[N,6] x, float[N,1] z) => (float[N,6] y, float[N,2] a, float[N,3] b) {
            a = Slice(x, [1], [3], [1])  b = Slice(x, [3], [6], [1])  y = Concat <axis = 1> (a, b, z) }""",
    )
