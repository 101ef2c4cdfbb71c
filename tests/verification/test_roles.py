from __future__ import annotations

import onnx.parser
import onnx_ir as ir
import pytest

from graphopt.verification.flow import Flow
from graphopt.verification.roles import Role, role_of


def roles(text: str, opset: int = 18) -> dict[str, Role]:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}, "local" : 1]> {text}')
    model = ir.from_proto(proto)
    flow = Flow(model)
    return {v.name or "": role_of(v, flow) for v in model.graph.inputs}


EMBEDDING = "float[50,4] table = {" + ",".join(["0"] * 200) + "}"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Gather (table, x)", (0, 49)),
        ("i = Cast <to = 6> (x)  y = Gather (table, i)", (0, 49)),
        ("i = Unsqueeze (x, one)  y = Gather (table, i)", (0, 49)),
        ("i = Add (x, one)  y = Gather (table, i)", (-1, 48)),
        ("i = Sub (x, one)  y = Gather (table, i)", (1, 50)),
        ("two = Constant <value_int = 2> ()  i = Mul (x, two)  y = Gather (table, i)", (0, 24)),
        ("y = Gather <axis = 1> (table, x)", (0, 3)),
        ("y = GatherElements <axis = 1> (table, x)", (0, 3)),
        ("y = GatherND (table, x)", (0, 3)),
        ("d = Constant <value_int = 7> ()  v = Constant <value_floats = [0.0, 1.0]> () "
         "y = OneHot (x, d, v)", (0, 6)),
        ("s = Add (x, other)  y = Gather (table, s)", (0, 49)),
        ("r = Constant <value_ints = [0, 1, 2, 3]> ()  b = Equal (x, r)  y = Cast <to = 1> (b)", (0, 3)),
    ],
)  # fmt: skip
def test_indices_stay_within_the_axis(body, expected):
    found = roles(
        f"g (int64[N] x, int64[N] other) => (float[a] y) <{EMBEDDING}, int64[1] one = {{1}}> {{ {body} }}"
    )
    assert found["x"].kind == "index"
    assert (found["x"].low, found["x"].high) == expected


def test_an_index_of_an_axis_of_unknown_length_is_bounded_at_run_time():
    found = roles("g (float[N,4] t, int64[M] x) => (float[M,4] y) { y = Gather (t, x) }")
    assert found["x"] == Role("index", 0, None)


def test_a_padding_index_that_the_graph_looks_for_is_kept():
    found = roles(
        f"g (int64[N] x) => (float[a] y, bool[N] pad) <{EMBEDDING}, int64 p = {{3}}> "
        "{ y = Gather (table, x)  pad = Equal (x, p) }"
    )
    assert found["x"] == Role("index", 0, 49, (3.0,))


def test_uses_in_bodies_and_functions_count():
    found = roles(
        f"""g (int64[N] x, int64[N] z, bool c) => (float[a] y, float[b] w) <{EMBEDDING}> {{
            y = If (c) <then_branch = t () => (float[a] p) {{ p = Gather (table, x) }},
                        else_branch = e () => (float[a] q) {{ q = Gather (table, x) }}>
            w = local.look (table, z)
        }}
        <domain: "local", opset_import: ["" : 18]> look (t, i) => (r) {{ r = Gather (t, i) }}"""
    )
    assert found["x"] == found["z"] == Role("index", 0, 49)
    assert found["c"] == Role("plain")


def test_what_a_body_gives_is_followed_outside():
    found = roles(
        f"""g (int64[N] x, bool c) => (float[a] y) <{EMBEDDING}> {{
            i = If (c) <then_branch = t () => (int64[N] p) {{ p = Identity (x) }},
                        else_branch = e () => (int64[N] q) {{ q = Identity (x) }}>
            y = Gather (table, i)
        }}"""
    )
    assert found["x"] == Role("index", 0, 49)


@pytest.mark.parametrize(
    "body",
    [
        "b = Cast <to = 9> (x)  y = Where (b, f, g)",
        "zero = Constant <value_int = 0> ()  b = Equal (x, zero)  y = Where (b, f, g)",
        "one = Constant <value_float = 1.0> ()  k = Constant <value_float = -10000.0> () "
        "c = Cast <to = 1> (x)  n = Sub (one, c)  y = Mul (n, k)",
        "u = Cast <to = 9> (x)  n = Not (u)  y = Where (n, f, g)",
    ],
)
def test_masks(body):
    found = roles(f"g (int64[N,S] x, float[N,S] f, float[N,S] g) => (float[N,S] y) {{ {body} }}")
    assert found["x"].kind == "mask"


def test_a_mask_is_told_by_its_name_where_nothing_else_tells():
    found = roles("g (int64[N] attention_mask) => (int64[N] y) { y = Abs (attention_mask) }")
    assert found["attention_mask"].kind == "mask"


def test_a_float_mask():
    found = roles(
        """g (float[N] x) => (float[N] y) <float one = {1}, float big = {-1e9}>
        { n = Sub (one, x)  y = Mul (n, big) }"""
    )
    assert found["x"] == Role("plain", choices=()) or found["x"].kind == "mask"
    assert found["x"].kind == "mask"


def test_constants_that_an_input_is_compared_with_are_tried():
    found = roles(
        """g (int64 rate, string[N] s) => (bool y, bool[N] w)
        <int64 a = {16000}, string[1] b = {"cat"}> { y = Equal (rate, a)  w = Equal (s, b) }""",
        opset=19,
    )
    assert found["rate"] == Role("choice", choices=(16000.0,))
    assert found["s"] == Role("choice", choices=("cat",))


def test_trip_counts_and_sizes_are_small():
    found = roles(
        """g (int64 n, int64[1] k, float[N] x) => (float[a] y, float[b] v, int64[b] i)
        <int64 zero = {0}, int64 one = {1}>
        { r = Range (zero, n, one)  y = Cast <to = 1> (r)  v, i = TopK (x, k) }"""
    )
    assert found["n"].kind == found["k"].kind == "count"


def test_lengths_are_compared_with_positions():
    found = roles(
        """g (int64[N,1] lengths, int64[S] positions) => (bool[N,S] y)
        { y = Less (positions, lengths) }"""
    )
    assert found["lengths"].kind == "length"


def test_sequence_lengths_of_recurrent_operators():
    found = roles(
        """g (float[S,N,4] x, int32[N] n, float[1,16,4] w, float[1,16,4] r) => (float[S,a,N,4] y)
        { y = LSTM <hidden_size = 4> (x, w, r, , n) }"""
    )
    assert found["n"].kind == "length"


def test_floats_whose_logarithm_is_taken_are_positive():
    found = roles("g (float[N] x, float[N] z) => (float[N] y) { l = Log (x)  y = Add (l, z) }")
    assert found["x"].positive
    assert not found["z"].positive


def test_thresholds_of_scalar_floats():
    found = roles("g (float t) => (bool y) <float h = {0.25}> { y = Greater (t, h) }")
    assert found["t"].choices == (0.25,)
