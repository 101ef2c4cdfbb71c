"""Where channels may be rescaled: what a model computes stays, and what can't be rescaled is left alone."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt import targets
from graphopt.ir.quant_table import ModelIdentity, QuantTable
from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization.rescaling import Seam, seams
from graphopt.quantization.scalings import scalings_of
from graphopt.rewriting import Driver, Editor, registry
from graphopt.rewriting.pipeline import Group, Pipeline

RNG = np.random.default_rng(0)


@pytest.fixture(autouse=True)
def same_numbers() -> None:
    """Each test gets the same ones, whatever ran before it."""
    RNG.bit_generator.state = np.random.default_rng(0).bit_generator.state


def numbers(*shape: int) -> np.ndarray:
    return RNG.standard_normal(shape).astype(np.float32)


W, V, U = numbers(8, 12), numbers(12, 6), numbers(12, 6)
B = numbers(12)


def model(text: str, opset: int = 23, **weights: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": {opset}]>\n{text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    found = ir.from_proto(proto)
    name_nodes(found)
    return found


def rescaled(source: ir.Model, found: list[Seam], seed: int = 0) -> ir.Model:
    """The model with every channel of every seam divided by a number of its own."""
    rng = np.random.default_rng(seed)
    chosen = [np.exp(rng.uniform(-1.5, 1.5, seam.size)) for seam in found]
    table = QuantTable(ModelIdentity("0" * 64, 21), scalings=scalings_of(found, chosen))
    editor = Editor(source.clone(), target=targets.find("onnx"))
    made = registry.find("scale-weights")(table=table)  # type: ignore[call-arg]
    Driver(editor, strict=True).run(Pipeline((Group((made,)),)))
    return editor.model


def answers(found: ir.Model, feeds: dict[str, np.ndarray]) -> list[np.ndarray]:
    options = ort.SessionOptions()
    options.log_severity_level = 3
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(ir.to_proto(found).SerializeToString(), options).run(None, feeds)


def assert_same(source: ir.Model, found: list[Seam], seed: int = 0, **feeds: np.ndarray) -> None:
    after = rescaled(source, found, seed)
    for a, b in zip(answers(source, feeds), answers(after, feeds), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-4 * max(np.abs(a).max(initial=0), 1e-3))


X = numbers(3, 8)
PAIR = "g (float[N,8] x) => (float[N,6] y) {{ h = MatMul(x, w)  a = Add(h, b)  {between}  [down] y = MatMul(r, v) }}"


@pytest.mark.parametrize(
    "between",
    [
        "r = Relu(a)",
        "r = LeakyRelu <alpha = 0.3> (a)",
        "s = Constant <value = float[1] {0.2}> ()  r = PRelu(a, s)",
        "r = Identity(a)",
        "p = Neg(a)  r = Abs(p)",
        "k = Constant <value_ints = [-1, 3, 4]> ()  p = Reshape(a, k)  q = Relu(p)"
        "  l = Constant <value_ints = [-1, 12]> ()  r = Reshape(q, l)",
        "p = Transpose <perm = [1, 0]> (a)  q = Relu(p)  r = Transpose <perm = [1, 0]> (q)",
        "z = Constant <value_float = 0.0> ()  r = Max(a, z)",
        "t = Constant <value_float = 3.0> ()  r = Mul(a, t)",
    ],
)
def test_between_two_products(between: str) -> None:
    source = model(PAIR.format(between=between), w=W, b=B, v=V)
    [seam] = seams(source)
    assert seam.size == 12 and [layer.name for layer in seam.takers] == ["down"]
    assert {(p.name, p.axis, p.is_given) for p in seam.constants if p.name in "wbv"} == {
        ("w", 1, True),
        ("b", 0, True),
        ("v", 0, False),
    }
    assert_same(source, [seam], x=X)


@pytest.mark.parametrize(
    "between",
    [
        "r = Gelu(a)",
        "r = Sigmoid(a)",
        "r = Tanh(a)",
        "r = Softmax(a)",
        "p = Sigmoid(a)  r = Mul(a, p)",
        "t = Constant <value_float = 6.0> ()  z = Constant <value_float = 0.0> ()  r = Clip(a, z, t)",
        "t = Constant <value_float = 1.0> ()  r = Add(a, t)",
        "r = Mul(a, a)",
        "r = Exp(a)",
        "g = Constant <value = float[12] {1,1,1,1,1,1,1,1,1,1,1,1}> ()  r = RMSNormalization(a, g)",
    ],
)
def test_what_is_no_multiple_of_its_input_is_left_alone(between: str) -> None:
    source = model(PAIR.format(between=between), w=W, b=B, v=V)
    # What comes out of a norm can be rescaled; what goes into it can't.
    assert not [part for seam in seams(source) for part in seam.constants if part.name in ("w", "b")]
    assert_same(source, seams(source), x=X)


def test_a_graph_output_keeps_its_numbers() -> None:
    text = "g (float[N,8] x) => (float[N,6] y, float[N,12] r) { h = MatMul(x, w)  r = Relu(h)  y = MatMul(r, v) }"
    assert not seams(model(text, w=W, v=V))


def test_another_consumer_that_mixes_channels() -> None:
    text = "g (float[N,8] x) => (float[N,6] y, float[N,12] z) { h = MatMul(x, w)  y = MatMul(h, v)  z = Softmax(h) }"
    assert not seams(model(text, w=W, v=V))


def test_a_weight_that_an_input_overrides() -> None:
    text = "g (float[N,8] x, float[12,6] v) => (float[N,6] y) { h = MatMul(x, w)  y = MatMul(h, v) }"
    assert not seams(model(text, w=W, v=V))


def test_a_weight_with_another_user() -> None:
    text = """g (float[N,8] x) => (float[N,6] y, float[12,6] z) {
        h = MatMul(x, w)  y = MatMul(h, v)  z = Tanh(v) }"""
    assert not seams(model(text, w=W, v=V))


def test_a_weight_used_twice_ties_its_inputs() -> None:
    text = """g (float[N,8] x) => (float[N,6] y, float[N,6] z) {
        h = MatMul(x, w)  k = MatMul(x, u)  y = MatMul(h, v)  z = MatMul(k, v) }"""
    source = model(text, w=W, u=numbers(8, 12), v=V)
    [seam] = seams(source)
    assert len(seam.takers) == 2
    assert {p.name for p in seam.constants} == {"w", "u", "v"}
    assert_same(source, [seam], x=X)
    half = text.replace("k = MatMul(x, u)", "j = MatMul(x, u)  k = Tanh(j)")
    assert not seams(model(half, w=W, u=numbers(8, 12), v=V))


NORM = """g (float[N,12] x) => (float[N,6] y, float[N,6] z) {{
    n = {norm}  [one] y = MatMul(n, v)  [two] z = MatMul(n, u){more} }}"""


@pytest.mark.parametrize("norm", ["LayerNormalization(x, b, c)", "RMSNormalization(x, b)"])
def test_a_norm_and_all_products_behind_it(norm: str) -> None:
    source = model(NORM.format(norm=norm, more=""), v=V, u=U, b=B, c=numbers(12))
    [seam] = seams(source)
    assert [layer.name for layer in seam.takers] == ["one", "two"] and not seam.givers
    assert {p.name for p in seam.constants} - {"c"} == {"b", "u", "v"}
    assert_same(source, [seam], x=numbers(3, 12))


def test_a_norm_with_a_residual_connection_stays() -> None:
    text = NORM.format(norm="LayerNormalization(x, b)", more="  s = Add(n, x)").replace(
        "=> (", "=> (float[N,12] s, "
    )
    assert not seams(model(text, v=V, u=U, b=B))


CONVS = """g (float[N,3,9,9] x) => (float[N,4] y) {{
    [expand] h = Conv(x, w, b)  r = {act}
    [depthwise] d = Conv <group = 6, pads = [1,1,1,1]> (r, f, c)  s = Relu(d)
    [project] p = Conv(s, v)  [pool] q = GlobalAveragePool(p)  t = Flatten(q)  [out] y = Gemm <transB = 1> (t, m, a) }}"""
FILTERS = {
    "w": numbers(6, 3, 3, 3),
    "b": numbers(6),
    "f": numbers(6, 1, 3, 3),
    "c": numbers(6),
    "v": numbers(5, 6, 1, 1),
    "m": numbers(4, 5),
    "a": numbers(4),
}


def test_a_depthwise_triple() -> None:
    source = model(CONVS.format(act="Relu(h)"), **FILTERS)
    found = seams(source)
    assert [[layer.name for layer in seam.takers] for seam in found] == [["depthwise"], ["project"], ["out"]]
    assert [[layer.name for layer in seam.givers] for seam in found] == [
        ["expand"],
        ["depthwise"],
        ["project"],
    ]
    assert_same(source, found, x=numbers(2, 3, 9, 9))


def test_a_bounded_activation_ends_it() -> None:
    text = CONVS.format(act="Clip(h, lo, hi)")
    source = model(text, lo=np.zeros((), np.float32), hi=np.full((), 6, np.float32), **FILTERS)
    assert [[layer.name for layer in seam.givers] for seam in seams(source)] == [["depthwise"], ["project"]]


def test_both_sides_of_a_sum() -> None:
    text = """g (float[N,3,9,9] x) => (float[N,6,9,9] y) {
        a = Conv(x, w)  b = Conv(x, v)  s = Add(a, b)  r = Relu(s)
        [pool] p = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (r)  c = Concat <axis = 1> (p, r)  y = Conv(c, u) }"""
    source = model(text, w=numbers(4, 3, 1, 1), v=numbers(4, 3, 1, 1), u=numbers(6, 8, 1, 1))
    [seam] = seams(source)
    assert seam.size == 4 and {p.name for p in seam.constants} == {"w", "v", "u"}
    assert_same(source, [seam], x=numbers(2, 3, 9, 9))
    assert not seams(
        model(
            text.replace("b = Conv(x, v)", "e = Conv(x, v)  b = Tanh(e)"),
            w=numbers(4, 3, 1, 1),
            v=numbers(4, 3, 1, 1),
            u=numbers(6, 8, 1, 1),
        )
    )


ATTENTION = """g (float[N,T,8] x) => (float[N,T,6] y) {{
    q = MatMul(x, wq)  k = MatMul(x, wk)  v = MatMul(x, wv)
    {attention}
    [out] y = MatMul(a, v2) }}"""
FUSED = "a = Attention <q_num_heads = {heads}, kv_num_heads = {shared}> (q, k, v)"
PLAIN = """s = Constant <value_ints = [0, 0, 3, 4]> ()  q4 = Reshape(q, s)  k4 = Reshape(k, s)  v4 = Reshape(v, s)
    qt = Transpose <perm = [0, 2, 1, 3]> (q4)  kt = Transpose <perm = [0, 2, 3, 1]> (k4)
    vt = Transpose <perm = [0, 2, 1, 3]> (v4)  w = MatMul(qt, kt)  p = Softmax(w)  o = MatMul(p, vt)
    ot = Transpose <perm = [0, 2, 1, 3]> (o)  l = Constant <value_ints = [0, 0, 12]> ()  a = Reshape(ot, l)"""


@pytest.mark.parametrize("attention", [FUSED.format(heads=3, shared=3), PLAIN])
def test_values_of_attention_and_pairs_of_q_and_k(attention: str) -> None:
    weights = {"wq": numbers(8, 12), "wk": numbers(8, 12), "wv": numbers(8, 12), "v2": V}
    source = model(ATTENTION.format(attention=attention), **weights)
    values, pair = seams(source)
    assert {p.name for p in values.constants} == {"wv", "v2"}
    assert {p.name for p in pair.constants} == {"wq", "wk"}
    first, second = pair.constants
    np.testing.assert_array_equal(first.power, -second.power)
    assert_same(source, [values, pair], x=numbers(2, 5, 8))


def test_heads_that_share_keys_and_values() -> None:
    weights = {"wq": numbers(8, 12), "wk": numbers(8, 6), "wv": numbers(8, 6), "v2": V}
    source = model(ATTENTION.format(attention=FUSED.format(heads=4, shared=2)), **weights)
    assert [seam.size for seam in seams(source)] == [6, 6]
    assert_same(source, seams(source), x=numbers(2, 5, 8))


def test_the_linear_branch_of_a_gate() -> None:
    text = """g (float[N,8] x) => (float[N,6] y) {
        u = MatMul(x, w)  g = MatMul(x, k)  s = Sigmoid(g)  a = Mul(g, s)  m = Mul(a, u)  y = MatMul(m, v) }"""
    source = model(text, w=W, k=numbers(8, 12), v=V)
    [seam] = seams(source)
    assert {p.name for p in seam.constants} == {"w", "v"}
    assert_same(source, [seam], x=X)


def test_rotated_pairs_have_one_number() -> None:
    text = """g (float[N,8] x, float[N,12] c, float[N,12] s) => (float[N,N] y) {
        q = MatMul(x, w)  k = MatMul(x, u)  kt = Transpose(k)
        h = Constant <value_ints = [6, 6]> ()  a, b = Split <axis = 1> (q, h)  n = Neg(b)
        t = Concat <axis = 1> (n, a)  qc = Mul(q, c)  ts = Mul(t, s)  r = Add(qc, ts)  y = MatMul(r, kt) }"""
    source = model(text, w=W, u=numbers(8, 12))
    [seam] = seams(source)
    assert seam.size == 6
    assert_same(source, [seam], x=X, c=numbers(3, 12), s=numbers(3, 12))


LOOP = """g (float[2,8] x, int64 n, bool c) => (float[2,6] y) {
    start = MatMul(x, w)
    end = Loop <body = b (int64 i, bool go, float[2,12] h) => (bool on, float[2,12] k) {
        on = Identity(go)  norm = LayerNormalization(h, gamma)  f = MatMul(norm, up)  r = Relu(f)
        d = MatMul(r, down)  k = Add(h, d) }> (n, c, start)
    y = MatMul(end, v) }"""


def test_bodies_captured_constants_and_what_is_carried() -> None:
    source = model(LOOP, w=W, v=V, gamma=B, up=numbers(12, 16), down=numbers(16, 12))
    found = seams(source)
    assert [{p.name for p in seam.constants} for seam in found] == [{"gamma", "up"}, {"up", "down"}]
    feeds = {"x": numbers(2, 8), "n": np.asarray(3, np.int64), "c": np.asarray(True)}
    assert_same(source, found, **feeds)
    plain = LOOP.replace("norm = LayerNormalization(h, gamma)  f = MatMul(norm, up)", "f = MatMul(h, up)")
    carried = seams(model(plain, w=W, v=V, up=numbers(12, 16), down=numbers(16, 12)))
    assert {"w", "v", "up", "down"} in [{p.name for p in seam.constants} for seam in carried]
    assert_same(model(plain, w=W, v=V, up=numbers(12, 16), down=numbers(16, 12)), carried, **feeds)


# ------------------------------------------------------------------ any graph

STEPS = {
    "matmul": "{o} = MatMul({i}, {w})",
    "bias": "{o} = Add({i}, {b})",
    "gain": "{o} = Mul({i}, {b})",
    "relu": "{o} = Relu({i})",
    "gelu": "{o} = Gelu({i})",
    "norm": "{o} = LayerNormalization({i}, {b}, {b})",
    "residual": "{o} = Add({i}, {j})",
    "gate": "{o} = Mul({i}, {j})",
    "halves": "{o}a, {o}b = Split <axis = 1, num_outputs = 2> ({i})  {o} = Concat <axis = 1> ({o}b, {o}a)",
    "max": "{o} = Max({i}, {j})",
}


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(sorted(STEPS)), st.integers(0, 5), st.integers(0, 2)), max_size=10
    ),
    seed=st.integers(0, 5),
)
@settings(max_examples=150, deadline=None)
def test_any_chain_computes_the_same(steps: list[tuple[str, int, int]], seed: int) -> None:
    lines, made = [], ["x"]
    for n, (step, back, shared) in enumerate(steps):
        place = {"o": f"o{n}", "i": made[-1], "j": made[max(len(made) - 1 - back, 0)]}
        lines.append(STEPS[step].format(**place, w=f"w{shared}", b=f"b{shared}"))
        made.append(f"o{n}")
    text = f"g (float[N,4] x) => (float[N,4] y) {{ {'  '.join(lines)}  y = MatMul({made[-1]}, w0) }}"
    rng = np.random.default_rng(seed)
    weights = {f"w{i}": rng.standard_normal((4, 4)).astype(np.float32) / 2 for i in range(3)}
    weights |= {f"b{i}": rng.standard_normal(4).astype(np.float32) for i in range(3)}
    source = model(text, **weights)
    assert_same(source, seams(source), seed, x=rng.standard_normal((5, 4)).astype(np.float32))
