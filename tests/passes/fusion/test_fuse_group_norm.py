from __future__ import annotations

import pytest

from graphopt.passes.fusion.fuse_group_norm import NOT_BARE, NOT_GROUPS, WRONG_SHAPE
from graphopt.rewriting import HAS_OTHER_CONSUMERS, NEEDS_OPSET
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fuse-group-norm"
CONSTANTS = (
    "ones = Constant <value = float[2] {1.0, 1.0}> ()  zeros = Constant <value = float[2] {0.0, 0.0}> ()  "
    "s = Constant <value = float[4,1,1] {1.0, 2.0, 3.0, 4.0}> ()  "
    "b = Constant <value = float[4,1,1] {4.0, 3.0, 2.0, 1.0}> ()  "
    "s4 = Constant <value = float[4] {1.0, 2.0, 3.0, 4.0}> ()  "
    "b4 = Constant <value = float[4] {4.0, 3.0, 2.0, 1.0}> ()  "
)
PARTS = (
    "g = Reshape (x, [0,2,-1])  n = InstanceNormalization <epsilon = 0.0009765625> (g, ones, zeros)  "
    "r = Reshape (n, [0,4,6,5])  m = Mul (r, s)  y = Add (b, m)"
)
NORM = "y = GroupNormalization <epsilon = 0.0009765625, num_groups = 2> (x, s4, b4)"


def graph(body, x="[N,4,6,5]"):
    return f"g (float{x} x) => (float{x} y) {{ {CONSTANTS} {body} }}"


@pytest.mark.parametrize("opset", [11, 18, 21])
def test_the_form_of_torch(opset):
    assert_rewrites(
        PASS,
        before=graph(PARTS),
        after=graph(NORM),
        opset=opset,
        raised_to=None if opset == 21 else 23,
        exact=False,
        sizes=[{"N": 2}, {"N": 1}],
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (graph(PARTS.replace("[0,2,-1]", "[-1,2,30]")), NOT_GROUPS),
        (graph(PARTS.replace("(g, ones, zeros)", "(g, zeros, ones)")), NOT_BARE),
        (graph(PARTS.replace("Mul (r, s)", "Mul (r, x)")), WRONG_SHAPE),
        (graph(PARTS.replace("y = Add (b, m)", "t = Add (b, m)  y = Add (t, r)")), HAS_OTHER_CONSUMERS),
        (graph(PARTS, "[2,4,6,5]").replace("[0,4,6,5]", "[0,6,4,5]").replace("[4,1,1]", "[4,1]"), NOT_GROUPS),
    ],
)
def test_leaves_alone(text, reason):
    assert_rejects(PASS, text.replace("(float[2,4,6,5] y)", "(float[2,6,4,5] y)"), reason, opset=21)


def test_keeping_the_opset_keeps_the_parts():
    assert_rejects(PASS, graph(PARTS), NEEDS_OPSET, opset=18)
