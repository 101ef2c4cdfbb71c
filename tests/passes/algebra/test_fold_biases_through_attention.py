from __future__ import annotations

import pytest

from graphopt.passes.algebra.fold_biases_through_attention import KEEPS_KEYS, NO_BIAS, NOT_TAKEN
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "fold-biases-through-attention"
HEAD = "(float[B,S,4] q, float[B,T,4] k, float[B,T,4] v, float[S,T] m) => (float[B,S,1] y)"
HEADS = "q_num_heads = 2, kv_num_heads = 2"
CONSTANTS = "float[4] b = {1,2,3,4}, float[4] c = {1,2,3,4}, float[4,1] w = {1,2,3,4}, float[1] d = {5}"
OUT = "p = MatMul (a, w)  y = Add (p, d)"
SIZES = [{"B": 2, "S": 3, "T": 5}, {"B": 1, "S": 1, "T": 1}]


def folds(before, after, constants, head=HEAD):
    assert_rewrites(
        PASS,
        f"g {head} <{CONSTANTS}> {{ {before} }}",
        f"g {head} <{constants}> {{ {after} }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )


@pytest.mark.parametrize("mask", ["", ", m"])
def test_keys_and_values(mask):
    folds(
        f"e = Add (k, b)  f = Add (c, v)  a = Attention <{HEADS}, scale = 0.5> (q, e, f{mask})  {OUT}",
        f"a = Attention <{HEADS}, scale = 0.5> (q, k, v{mask})  {OUT}",
        "float[4,1] w = {1,2,3,4}, float[1] d = {35}",
    )


def test_keys_alone():
    folds(
        f"e = Add (k, b)  a = Attention <{HEADS}> (q, e, v)  {OUT}",
        f"a = Attention <{HEADS}> (q, k, v)  {OUT}",
        "float[4,1] w = {1,2,3,4}, float[1] d = {5}",
    )


def test_values_of_fewer_heads():
    head = HEAD.replace("float[B,T,4]", "float[B,T,2]")
    assert_rewrites(
        PASS,
        f"g {head} <{CONSTANTS}, float[2] s = {{1, 2}}> "
        f"{{ f = Add (v, s)  a = Attention <q_num_heads = 2, kv_num_heads = 1> (q, k, f)  {OUT} }}",
        f"g {head} <float[4,1] w = {{1,2,3,4}}, float[1] d = {{21}}> "
        f"{{ a = Attention <q_num_heads = 2, kv_num_heads = 1> (q, k, v)  {OUT} }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("nodes", "reason"),
    [
        (f"e = Add (q, b)  a = Attention <{HEADS}> (e, k, v)  {OUT}", NO_BIAS),
        (f"f = Add (v, c)  a = Attention <{HEADS}> (q, k, f)  r = Relu (a)  {OUT.replace('a,', 'r,')}", NOT_TAKEN),
        (f"e = Add (k, b)  a = Attention <{HEADS}, softcap = 2.0> (q, e, v)  {OUT}", KEEPS_KEYS),
        (f"e = Add (k, b)  a = Attention <{HEADS}> (q, e, e)  {OUT}", NO_BIAS),
    ],
)  # fmt: skip
def test_leaves_alone(nodes, reason):
    assert_rejects(PASS, f"g {HEAD} <{CONSTANTS}> {{ {nodes} }}", reason, opset=23)


def test_heads_on_an_axis():
    head = "(float[B,1,S,4] q, float[B,1,T,4] k, float[B,1,T,4] v) => (float[B,S,1] y)"
    folds(
        f"e = Add (k, b)  f = Add (v, c)  r = Attention (q, e, f)  a = Squeeze (r, [1])  {OUT}",
        f"r = Attention (q, k, v)  a = Squeeze (r, [1])  {OUT}",
        "float[4,1] w = {1,2,3,4}, float[1] d = {35}",
        head=head,
    )


def test_keys_that_are_given_on():
    head = HEAD.replace(" y)", " y, float[B,2,T,2] r)")
    nodes = f"e = Add (k, b)  a, r = Attention <{HEADS}> (q, e, v)  {OUT}"
    assert_rejects(PASS, f"g {head} <{CONSTANTS}> {{ {nodes} }}", KEEPS_KEYS, opset=23)


def test_keys_from_around_a_body():
    head = "g (bool n, float[B,S,4] q, float[B,T,4] k, float[B,T,4] v) => (float[B,S,4] y)"
    other = "else_branch = f () => (float[B,S,4] s) { s = Relu (q) }>"
    attention = f"r = Attention <{HEADS}>"
    assert_rewrites(
        PASS,
        f"{head} <{CONSTANTS}> {{ e = Add (k, b)  "
        f"y = If (n) <then_branch = t () => (float[B,S,4] r) {{ {attention} (q, e, v) }}, {other} }}",
        f"{head} {{ y = If (n) <then_branch = t () => (float[B,S,4] r) {{ {attention} (q, k, v) }}, {other} }}",
        opset=23,
        exact=False,
        sizes=SIZES,
    )
