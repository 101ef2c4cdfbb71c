import pytest

from graphopt.passes.movement.simplify_gathers import LONG_ROWS, OTHER_AXES, OUT_OF_RANGE
from graphopt.rewriting.match import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "simplify-gathers"
SIXTEEN = "[3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18]"


@pytest.mark.parametrize(
    ("picks", "wanted"), [("[2,0]", "[1,5]"), ("[-1]", "[1]"), ("0", "5"), ("[-3,1]", "[5,3]")]
)
@pytest.mark.parametrize("axis", [0, 1])
def test_one_gather(picks, wanted, axis):
    head = "g (float[6,6] x) => (float y)"
    assert_rewrites(
        PASS,
        f"{head} {{ a = Gather <axis = {axis}> (x, [5,3,1])  y = Gather <axis = {axis - 2}> (a, {picks}) }}",
        f"{head} {{ y = Gather <axis = {axis}> (x, {wanted}) }}",
    )


def test_indices_from_the_end_stay_so():
    head = "g (float[N,3] x) => (float y)"
    assert_rewrites(
        PASS,
        f"{head} {{ a = Gather <axis = 0> (x, [-1,0])  y = Gather <axis = 0> (a, [0]) }}",
        f"{head} {{ y = Gather <axis = 0> (x, [-1]) }}",
        sizes=[{"N": 1}, {"N": 4}],
    )


def test_neighbours_in_short_rows():
    head = "g (float[N,20,3] x) => (float[N,16,3] y)"
    assert_rewrites(
        PASS,
        f"{head} {{ y = Gather <axis = -2> (x, {SIXTEEN}) }}",
        f"{head} {{ y = Slice(x, [3], [19], [1]) }}",
        sizes=[{"N": 2}, {"N": 0}],
    )


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("a = Gather <axis = 0> (x, [1,0])  y = Gather <axis = 1> (a, [0])", OTHER_AXES),
        ("a = Gather <axis = 0> (x, 1)  y = Gather <axis = 0> (a, [0])", OTHER_AXES),
        ("a = Gather <axis = 0> (x, [1,0])  y = Gather <axis = 0> (a, [2])", OUT_OF_RANGE),
        (
            "a = Gather <axis = 0> (x, [1,0])  b = Gather <axis = 0> (a, [0])  y = Add(a, b)",
            HAS_OTHER_CONSUMERS,
        ),
        ("a = Gather <axis = 0> (x, i)  y = Gather <axis = 0> (a, [0])", None),
        (f"y = Gather <axis = 0> (z, {SIXTEEN})", LONG_ROWS),
        (f"y = Gather <axis = 1> (z, {SIXTEEN})", OUT_OF_RANGE),
        ("y = Gather <axis = 1> (x, [0,1,2])", None),
        ("y = Gather <axis = 1> (x, [0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,16])", None),
        # From the last to the first: a Slice does not go round.
        ("y = Gather <axis = 1> (x, [-8,-7,-6,-5,-4,-3,-2,-1,0,1,2,3,4,5,6,7])", OUT_OF_RANGE),
    ],
)
def test_leaves_alone(nodes, reason):
    graph = f"g (float[20,20] x, float[20,M] z, int64[3] i) => (float y) {{ {nodes} }}"
    assert_rejects(PASS, graph, reason)
