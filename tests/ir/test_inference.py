"""Facts of whole graphs: chains of shape arithmetic, functions, what is believed and what is not."""

from __future__ import annotations

import sys

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.dims import symbol
from graphopt.ir.inference import UNKNOWN, Facts, TensorFact


def parsed(text: str, opset: int = 18) -> ir.Model:
    """A model from the text of its graph."""
    return ir.serde.deserialize_model(
        onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["" : {opset}]> {text}')
    )


def described(text: str, opset: int = 18) -> str:
    """The fact of the only output; nothing may fail."""
    model = parsed(text, opset)
    facts = Facts(model)
    found = facts.describe(model.graph.outputs[0])
    assert not facts.failures
    return found


def chain(body: str, inputs: str = "float[batch, seq, 12] x") -> str:
    return described(f"g ({inputs}) => (float y) {{ {body} }}")


CONSTANTS = """
    zero = Constant<value = int64[1] {0}>()
    one = Constant<value = int64[1] {1}>()
    two = Constant<value = int64[1] {2}>()
    three = Constant<value = int64[1] {3}>()
    minus = Constant<value = int64[1] {-1}>()
    half = Constant<value = float[1] {0.5}>()
    thirds = Constant<value = float[1] {3}>()
    s = Shape(x)
    batch = Slice(s, zero, one)
    seq = Slice(s, one, two)
"""


@pytest.mark.parametrize(
    ("size", "dim"),
    [
        ("k = Identity(seq)", "seq"),
        ("k = Gather(s, one)", "seq"),
        ("i = Squeeze(one)  c = Gather(s, i)  k = Unsqueeze(c, zero)", "seq"),
        ("k = Mul(seq, batch)", "batch*seq"),
        ("a = Add(seq, three)  k = Sub(a, one)", "seq + 2"),
        ("a = Add(seq, one)  k = Div(a, two)", "(seq + 1)//2"),
        ("k = Mod(seq, three)", "seq - 3*(seq//3)"),
        ("n = Neg(seq)  m = Mod(n, three)  k = Add(seq, m)", "3*((seq + 2)//3)"),
        ("k = Min(seq, three)", "min(3, seq)"),
        ("a = Sub(seq, three)  k = Max(a, zero)", "max(3, seq) - 3"),
        ("f = Cast<to = 1>(seq)  h = Mul(f, half)  d = Floor(h)  k = Cast<to = 7>(d)", "seq//2"),
        ("f = Cast<to = 1>(seq)  h = Div(f, thirds)  d = Floor(h)  k = Cast<to = 7>(d)", "seq//3"),
        ("f = Cast<to = 1>(seq)  h = Div(f, thirds)  d = Ceil(h)  k = Cast<to = 7>(d)", "(seq + 2)//3"),
        ("f = Cast<to = 1>(seq)  h = Div(f, thirds)  k = Cast<to = 7>(h)", "seq//3"),
        ("f = Cast<to = 1>(seq)  r = Sqrt(thirds)  h = Mul(f, r)  k = Cast<to = 7>(h)", "filled#0"),
        ("e = Equal(seq, minus)  k = Where(e, one, seq)", "seq"),
        ("e = Equal(seq, three)  k = Where(e, one, seq)", "filled#0"),
        ("e = Equal(seq, three)  k = Where(e, seq, seq)", "seq"),
        ("b = ConstantOfShape<value = int64[1] {5}>(one)  k = Expand(b, one)", "5"),
        ("r = Range(zero0, two0, one0)  k = Gather(r, one)", "1"),
        ("k = ReduceProd<keepdims = 1>(s)", "12*batch*seq"),
        ("c = Concat<axis = 0>(seq, batch)  p = Transpose(c)  k = Slice(p, one, two)", "batch"),
        ("n = Size(x)  k = Reshape(n, one)", "12*batch*seq"),
        ("a, b = Split<axis = 0, num_outputs = 3>(s)  k = Identity(b)", "seq"),
    ],
)
def test_sizes_are_followed_through_shape_arithmetic(size, dim):
    scalars = "zero0 = Squeeze(zero) one0 = Squeeze(one) two0 = Squeeze(two)"
    if size.startswith("a, b"):
        size = size.replace("a, b", "a, b, c")
    assert chain(f"{CONSTANTS} {scalars} {size} y = ConstantOfShape(k)") == f"float32[{dim}]"


@pytest.mark.parametrize(("value", "divisor"), [(-7, 2), (7, -2), (-7, -2), (7, 2), (-1, 3)])
def test_division_of_numbers_is_towards_zero(value, divisor):
    text = f"a = Constant<value_ints = [{value}]>() b = Constant<value_ints = [{divisor}]>() y = Div(a, b)"
    model = parsed(f"g () => (int64[1] y) {{ {text} }}")
    assert Facts(model).elements(model.graph.outputs[0]) == (int(value / divisor),)


def test_division_of_what_may_be_negative_is_not_floordiv():
    size = "a = Sub(seq, three)  k = Div(a, two)  m = Max(k, minus)  n = Add(m, three)"
    found = chain(f"{CONSTANTS} {size} y = ConstantOfShape(n)")
    # -1 / 2 is 0 and -3 / 2 is -1: rounding down would give one less.
    assert "max(3, seq)" in found


def test_an_unknown_element_is_one_of_many():
    found = chain(
        f"{CONSTANTS} t = Concat<axis = 0>(batch, k, three) y = Expand(h, t) h = Cast<to = 1>(one)",
        "float[batch, seq, 12] x, int64[1] k",
    )
    assert found == "float32[batch, expanded#0, 3]" or found == "float32[...]"


def test_equal_params_of_inputs_are_equal_and_ranges_start_at_zero():
    model = parsed("g (float[N, 4] x, float[N, 4] z) => (float y) { y = Add(x, z) }")
    facts = Facts(model)
    x, z = model.graph.inputs
    assert facts.same_shape(x, z)
    assert facts.dims(x) == (symbol("N"), 4)


def test_unnamed_dims_of_inputs_differ():
    shape = ir.Shape([None, "?", "?", ""])
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=shape)
    model = ir.Model(ir.Graph([x], [x], nodes=[], opset_imports={"": 18}), ir_version=8)
    dims = Facts(model).dims(x)
    assert dims is not None and len(set(dims)) == 4
    assert [str(dim) for dim in dims] == ["x.0", "x.1", "x.2", "x.3"]


def test_declared_shapes_of_outputs_and_inner_values_are_not_believed():
    text = "g (float[N, 4] x) => (float[7, 7] y) <float[3, 3] h> { h = Relu(x)  y = Relu(h) }"
    assert described(text) == "float32[N, 4]"


def test_an_initializer_that_an_input_overrides_has_no_contents():
    t = ir.tensor(np.array([2, 3], np.int64), name="t")
    target = ir.Value(name="t", type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([2]), const_value=t)
    node = ir.node("ConstantOfShape", [target])
    graph = ir.Graph([target], node.outputs, nodes=[node], initializers=[target], opset_imports={"": 18})
    facts = Facts(ir.Model(graph, ir_version=8))
    assert facts.elements(target) is None
    assert facts.rank(node.outputs[0]) == 2
    graph.inputs.clear()
    facts = Facts(ir.Model(graph, ir_version=8))
    assert facts.dims(node.outputs[0]) == (2, 3)


def test_lazy_and_external_weights_are_not_read():
    def never() -> ir.TensorProtocol:
        raise AssertionError("read")

    tensor = ir.LazyTensor(never, dtype=ir.DataType.FLOAT, shape=ir.Shape([2]), name="w")
    w = ir.Value(name="w", const_value=tensor)
    node = ir.node("Relu", [w])
    graph = ir.Graph([], node.outputs, nodes=[node], initializers=[w], opset_imports={"": 18})
    assert Facts(ir.Model(graph, ir_version=8)).describe(node.outputs[0]) == "float32[2]"


def test_a_node_that_breaks_its_rules_is_unknown_and_said():
    model = parsed("g (float[2] x, float[3] z) => (float y) { h = Add(x, z)  y = Relu(h) }")
    facts = Facts(model)
    assert facts.of(model.graph.outputs[0]) is UNKNOWN
    assert list(facts.failures.values()) == ["ValueError: dims 2 and 3 do not broadcast"]


def test_unknown_operators_are_unknown():
    model = ir.serde.deserialize_model(
        onnx.parser.parse_model(
            '<ir_version: 8, opset_import: ["" : 18, "mine" : 1]>'
            "g (float[N] x) => (float y) { h = mine.Something(x)  y = Relu(h) }"
        )
    )
    assert Facts(model).of(model.graph.outputs[0]) == TensorFact(None, None, None)


def test_chains_deeper_than_python_recurses():
    x = ir.Value(name="x", type=ir.TensorType(ir.DataType.FLOAT), shape=ir.Shape(["N"]))
    value, nodes = x, []
    for _ in range(3 * sys.getrecursionlimit()):
        nodes.append(ir.node("Relu", [value]))
        value = nodes[-1].outputs[0]
    model = ir.Model(ir.Graph([x], [value], nodes=nodes, opset_imports={"": 18}), ir_version=8)
    assert Facts(model).describe(value) == "float32[N]"


def test_facts_of_new_nodes_and_of_changed_ones():
    model = parsed("g (float[N, 4] x) => (float y) { h = Transpose(x)  y = Relu(h) }")
    facts, (transpose, relu) = Facts(model), list(model.graph)
    assert facts.describe(relu.outputs[0]) == "float32[4, N]"
    added = ir.node("Flatten", [transpose.outputs[0]])
    assert facts.describe(added.outputs[0]) == "float32[4, N]"
    transpose.attributes["perm"] = ir.AttrInt64s("perm", [0, 1])
    assert facts.describe(relu.outputs[0]) == "float32[4, N]"
    facts.forget(transpose.outputs[0])
    assert facts.describe(relu.outputs[0]) == facts.describe(added.outputs[0]) == "float32[N, 4]"


def test_functions_are_inferred_a_call():
    model = ir.serde.deserialize_model(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 18, "f" : 1]>
            g (float[N, 4] x, int32[2, M] z) => (float a, int32 b) {
                a = f.Turn<by = [1, 0]>(x)
                b = f.Outer(z)
            }
            <domain: "f", opset_import: ["" : 18]> Turn <by> (v) => (w) { w = Transpose<perm: ints = @by>(v) }
            <domain: "f", opset_import: ["" : 18, "f" : 1]> Outer (v) => (w) {
                h = f.Turn<by = [0, 1]>(v)
                w = f.Turn<by = [1, 0]>(h)
            }"""
        )
    )
    facts = Facts(model)
    assert [facts.describe(output) for output in model.graph.outputs] == ["float32[4, N]", "int32[M, 2]"]
    assert not facts.failures
    inner = next(iter(model.functions.values()))
    assert facts.of(inner.inputs[0]) is UNKNOWN


def test_a_function_that_calls_itself_is_unknown():
    model = ir.serde.deserialize_model(
        onnx.parser.parse_model(
            """<ir_version: 8, opset_import: ["" : 18, "f" : 1]>
            g (float[N] x) => (float y) { y = f.Loop(x) }
            <domain: "f", opset_import: ["" : 18, "f" : 1]> Loop (v) => (w) { w = f.Loop(v) }"""
        )
    )
    assert Facts(model).of(model.graph.outputs[0]) is UNKNOWN


def test_a_table_cut_to_a_length_tells_that_it_is_long_enough():
    text = """g (int64[batch, seq] ids, float[512, 8] table, float[batch, seq, 8] h) => (float y) {
        s = Shape<start = 1, end = 2>(ids)
        none = Constant<value = int64[1] {0}>()
        rows = Slice(table, none, s, none)
        y = Add(h, rows)
    }"""
    assert described(text) == "float32[batch, seq, 8]"


def test_a_dim_is_not_negative():
    # (seq - 3) is the size of a tensor, so cutting it at 0 changes nothing.
    text = """g (float[batch, 2, seq] x, float[2, 2, 4] w) => (float y) {
        h = Conv(x, w)
        s = Shape(h)
        y = ConstantOfShape(s)
        }"""
    assert described(text) == "float32[batch, 2, seq - 3]"
    cut = text.replace(
        "y = ConstantOfShape(s)",
        "two = Constant<value = int64[1] {2}>()  n = Slice(s, two, t) "
        "t = Constant<value = int64[1] {3}>()  zero = Constant<value = int64[1] {0}>()"
        " y = Slice(h, zero, n, two)",
    )
    ordered = cut.replace(
        "n = Slice(s, two, t) t = Constant<value = int64[1] {3}>()",
        "t = Constant<value = int64[1] {3}>()  n = Slice(s, two, t)",
    )
    assert described(ordered) == "float32[batch, 2, seq - 3]"


def test_expressions_stay_small():
    body = "h0 = Identity(x)"
    for i in range(40):
        body += (
            f" s{i} = Shape(h{i}) n{i} = Slice(s{i}, one, two) m{i} = Slice(n{i}, minus, big)"
            f" a{i} = Mul(m{i}, m{i}) d{i} = Add(a{i}, three) q{i} = Div(d{i}, seven)"
            f" t{i} = Concat<axis = 0>(q{i}, q{i}) z{i} = ConstantOfShape(t{i})"
            f" h{i + 1} = Concat<axis = 1>(z{i}, z{i})"
        )
    text = f"g (float[b, n] x) => (float y) {{ {CONSTANTS} big = Constant<value = int64[1] {{9}}>()"
    text += f" seven = Constant<value = int64[1] {{7}}>() {body} y = Relu(h40) }}"
    assert len(described(text)) < 2000
