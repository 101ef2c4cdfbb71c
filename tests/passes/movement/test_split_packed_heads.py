import pytest

from graphopt.passes.movement.split_packed_heads import NOT_PACKED
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "split-packed-heads"


def packed(cut: str, perm: str, rest: str = "", dims: str = "N,T,24") -> str:
    return f"""g (float[{dims}] x) => (float[N,2,T,4] y{rest and ", float[A,B,C,D] z"}) {{
        r = Reshape(x, {cut})  t = Transpose <perm = {perm}> (r)
        q = Gather <axis = 0> (t, 0)  k = Gather <axis = 0> (t, 1)  v = Gather <axis = 0> (t, 2)
        y = Attention <scale = 0.25> (q, k, v)  {rest} }}"""


def test_packed_projections_of_a_vision_transformer():
    assert_rewrites(
        PASS,
        before=packed("[0,-1,3,2,4]", "[2,0,3,1,4]"),
        after="""g (float[N,T,24] x) => (float[N,2,T,4] y) {
            q, k, v = Split <axis = 2> (x, [8,8,8])
            a = Attention <kv_num_heads = 2, q_num_heads = 2, scale = 0.25> (q, k, v)
            b = Reshape(a, [0,0,2,4])  y = Transpose <perm = [0,2,1,3]> (b) }""",
        opset=23,
        exact=False,
        sizes=[{}, {"N": 1, "T": 1}],
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        # Each head has its own queries, keys and values.
        (packed("[0,-1,2,3,4]", "[3,0,2,1,4]"), NOT_PACKED),
        (packed("[0,-1,3,2,4]", "[2,0,3,1,4]", "z = Relu(q)"), None),
        (packed("[0,-1,3,2,4]", "[2,0,3,1,4]", "z = Gather <axis = 0> (t, 0)"), HAS_OTHER_CONSUMERS),
    ],
)
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason, opset=23)
