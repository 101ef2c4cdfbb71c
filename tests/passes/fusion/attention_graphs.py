"""Attention as exporters write it, as text."""

from __future__ import annotations

from graphopt.testing import assert_rewrites

PASS = "fuse-attention"
INPUTS = "float[B,2,S,4] q, float[B,2,T,4] k, float[B,2,T,4] v"
OUTPUT = "float[B,2,S,4] y"
SIZES = [{"B": 2, "S": 3, "T": 5}, {"B": 1, "S": 1, "T": 1}, {"B": 3, "S": 4, "T": 4}]
KEYS = "t = Transpose <perm = [0, 1, 3, 2]> (k)"
WEIGHTS = "w = Softmax <axis = -1> (s)"
# A mask that is computed holds no fills: those of graph inputs are told apart further down.
MASK = "m = Tanh (n)"
LENGTHS = "sq = Shape <start = 2, end = 3> (q)  tk = Shape <start = 2, end = 3> (k)"


def head(more: str = "", inputs: str = INPUTS, output: str = OUTPUT) -> str:
    return f"g ({inputs}{', ' + more if more else ''}) => ({output})"


def graph(
    scores: str, *, more: str = "", values: str = "", inputs: str = INPUTS, output: str = OUTPUT
) -> str:
    """Attention whose scores s are made from q, k and t, the transposed keys."""
    return f"{head(more, inputs, output)} {values} {{ {KEYS} {scores} {WEIGHTS} y = MatMul (w, v) }}"


def rewrites(before: str, after: str, *, opset: int = 23, sizes=SIZES, runs: bool = True) -> None:
    assert_rewrites(PASS, before, after, opset=opset, exact=False, sizes=sizes, runs=runs)


# The lowest number, the one next to it, and the fills that are taken as they are.
FILLS = (
    "<float low = {-3.4028234663852886e38}, float less = {-3.4028232635611926e38}, float inf = {-inf}, "
    "float nine = {-1e9}, float zero = {0}>"
)
