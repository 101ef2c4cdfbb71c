import pytest

from graphopt.passes.movement.merge_sequences import OTHER_USE, UNKNOWN_SIZES
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-sequences"


@pytest.mark.parametrize(("split", "sizes"), [("2", "[2,2,1]"), ("[1,3,1]", "[1,3,1]")])
def test_elements_at_known_places(split, sizes):
    assert_rewrites(
        PASS,
        before=f"""g (float[N,5] x) => (float[N,2] a, float[N,1] b) {{
            s = SplitToSequence <axis = -1> (x, {split})  a = SequenceAt(s, 0)  b = SequenceAt(s, -1) }}""",
        after=f"""g (float[N,5] x) => (float[N,2] a, float[N,1] b) {{
            a, c, b = Split <axis = -1> (x, {sizes}) }}""",
        sizes=[{}, {"N": 0}, {"N": 1}],
    )


def test_without_kept_dims():
    assert_rewrites(
        PASS,
        before="""g (float[N,3] x) => (float[N] a, float[N] b) {
            s = SplitToSequence <axis = 1, keepdims = 0> (x)  a = SequenceAt(s, 0)  b = SequenceAt(s, 2) }""",
        after="""g (float[N,3] x) => (float[N] a, float[N] b) {
            a = Gather <axis = 1> (x, 0)  b = Gather <axis = 1> (x, 2) }""",
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (
            """g (float[N,5] x) => (float[2,5] a) {
                s = SplitToSequence <axis = 0> (x, 2)  a = SequenceAt(s, 0) }""",
            UNKNOWN_SIZES,
        ),
        (
            """g (float[N,5] x) => (float[N,2] a, int64 n) {
                s = SplitToSequence <axis = 1> (x, 2)  a = SequenceAt(s, 0)  n = SequenceLength(s) }""",
            OTHER_USE,
        ),
        (
            """g (float[N,5] x, int64 i) => (float[N,2] a) {
                s = SplitToSequence <axis = 1> (x, 2)  a = SequenceAt(s, i) }""",
            OTHER_USE,
        ),
    ],
)
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)
