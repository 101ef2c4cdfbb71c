import pytest

from graphopt.passes.movement.convert_concats_to_tile import SHORT_BLOCKS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "convert-concats-to-tile"


@pytest.mark.parametrize("kind", ["float", "int64", "bool"])
@pytest.mark.parametrize(("axis", "repeats"), [(0, "[3,1,1]"), (1, "[1,3,1]"), (-1, "[1,1,3]")])
def test_one_value_behind_itself(kind, axis, repeats):
    dims = {0: "2,4,64", 1: "N,4,64", -1: "N,M,64"}[axis]
    head = f"g ({kind}[{dims}] x) => ({kind}[P,Q,R] y)"
    assert_rewrites(
        PASS,
        f"{head} {{ y = Concat <axis = {axis}> (x, x, x) }}",
        f"{head} {{ y = Tile (x, {repeats}) }}",
        sizes=[{"N": 2, "M": 3}, {"N": 0, "M": 1}],
    )


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        ("y = Concat <axis = 1> (x, x, z)", None),
        ("y = Concat <axis = 1> (x)", None),
        ("y = Concat <axis = 1> (x, x)", SHORT_BLOCKS),
        ("y = Concat <axis = 0> (x, x)", SHORT_BLOCKS),
        ("a = Cast <to = 10> (w)  y = Concat <axis = 1> (a, a)", None),
    ],
)
def test_leaves_alone(nodes, reason):
    assert_rejects(PASS, f"g (float[N,8] x, float[N,8] z, float[2,64] w) => (float y) {{ {nodes} }}", reason)
