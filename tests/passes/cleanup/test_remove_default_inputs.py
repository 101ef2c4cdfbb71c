import pytest

from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-default-inputs,remove-dead-code,remove-unused-outputs"
WEIGHTS = """
    w = ConstantOfShape <value = float[1] {0.5}> ([2, 8, 3])
    r = ConstantOfShape <value = float[1] {0.25}> ([2, 8, 2])
"""
SIGNATURE = "g (float[S,N,3] x, float[2,N,2] given) => (float[S,2,N,2] y)"
ZEROS = "s = Shape <start = 1, end = 2> (x)  d = Concat <axis = 0> ([2], s, [2])  z = ConstantOfShape(d)"
LSTM = 'LSTM <hidden_size = 2, direction = "bidirectional">'


def _graph(body: str) -> str:
    return f"{SIGNATURE} {{ {WEIGHTS} {body} }}"


def test_zero_states_are_left_out():
    assert_rewrites(
        PASS,
        before=_graph(f"{ZEROS}  y = {LSTM} (x, w, r, , , z, z)"),
        after=_graph(f"y = {LSTM} (x, w, r)"),
        sizes=[{"S": 3, "N": 1}, {"S": 1, "N": 2}],
    )


def test_parts_of_zeros_for_several_layers_are_zeros():
    zeros = ZEROS.replace("[2], s", "[4], s")
    assert_rewrites(
        PASS,
        before=_graph(
            f"{zeros}  a, b = Split <axis = 0, num_outputs = 2> (z)  y = {LSTM} (x, w, r, , , a, b)"
        ),
        after=_graph(f"y = {LSTM} (x, w, r)"),
        sizes=[{"S": 3, "N": 2}],
    )


def test_a_state_that_is_given_stays():
    assert_rewrites(
        PASS,
        before=_graph(f"{ZEROS}  y = {LSTM} (x, w, r, , , given, z)"),
        after=_graph(f"y = {LSTM} (x, w, r, , , given)"),
        sizes=[{"S": 3, "N": 2}],
    )


@pytest.mark.parametrize("fill", ["1.0", "-0.0"])
def test_other_fills_stay(fill):
    filled = ZEROS.replace("ConstantOfShape", f"ConstantOfShape <value = float[1] {{{fill}}}>")
    assert_rejects(PASS, _graph(f"{filled}  y = {LSTM} (x, w, r, , , z, z)"))
