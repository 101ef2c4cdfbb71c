"""Each rule of the verifier: a graph that keeps it passes, one that breaks it is named."""

import gc
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.errors import ModelError
from graphopt.ir import scopes
from graphopt.ir.load import load
from graphopt.ir.verifier import InvalidGraph, verify, verify_structure


def model(text: str, opset: int = 18, more: str = "") -> ir.Model:
    header = f'<ir_version: 10, opset_import: ["": {opset}{more}]>\n'
    return ir.from_proto(onnx.parser.parse_model(header + text))


LOOP = """g (int64 n, float[2] x) => (float[2] y) { k = Constant <value = float[2] {1, 2}> ()
    y = Loop(n, , x) <body = b (int64 i, bool c, float[2] v) => (bool c2, float[2] w)
    { c2 = Identity(c) w = Add(v, k) }> }"""

GOOD = {
    "chain": "g (float[2] x) => (float[2] y) { a = Relu(x) y = Neg(a) }",
    "optional input left out": "g (float[2] x, float h) => (float[2] y) { y = Clip(x, , h) }",
    "unused outputs": "g (float[2, 4] x) => (float[2, 4] y) { y, m = Dropout(x) }",
    "variadic": "g (float[2] a, float[3] b, float[4] c) => (float[9] y) { y = Concat <axis = 0> (a, b, c) }",
    "captured by a loop": LOOP,
    "sequence": "g (seq(float[2]) s, int64 i) => (float[2] y) { y = SequenceAt(s, i) }",
    "mixed types where allowed": "g (float[2] x, int64[2] e) => (float[2] y) { y = Pow(x, e) }",
    "output that is an input": "g (float[2] x) => (float[2] x) { }",
}


@pytest.mark.parametrize("case", GOOD)
def test_passes(case: str) -> None:
    verify(model(GOOD[case]))


def test_layer_normalization_of_older_opsets() -> None:
    verify(model("g (float[2] x, float[2] s) => (float[2] y) { y = LayerNormalization(x, s) }", opset=11))
    with pytest.raises(InvalidGraph, match="GroupNormalization is not in opset 11"):
        verify(
            model("g (float[2, 2] x, float[2] s) => (float[2, 2] y) { y = GroupNormalization(x, s, s) }", 11)
        )


def test_body_may_hide_outer_names_with_its_own_inputs() -> None:
    hidden = LOOP.replace("k = Constant", "v = Relu(x) k = Constant")
    verify(model(hidden))


def test_custom_domain_is_not_judged() -> None:
    verify(model("g (float[2] x) => (float[2] y) { y = acme.Spin <what = 3> (x, , x) }", more=', "acme": 1'))


BAD = {
    "unknown operator": (
        "g (float[2] x) => (float[2] y) { [n] y = Relux(x) }",
        "node 'n' (Relux): operator Relux is not in opset 18 of ai.onnx",
    ),
    "operator of a newer opset": (
        "g (float[2] x) => (float[2] y) { [n] y = Gelu(x) }",
        "node 'n' (Gelu): operator Gelu is not in opset 18 of ai.onnx",
    ),
    "operator of an older opset": (
        "g (float[1,1,2,2] x, float[4] s) => (float[1,1,4,4] y) { [n] y = Upsample(x, s) }",
        "node 'n' (Upsample): operator Upsample was removed before opset 18 of ai.onnx",
    ),
    "domain not imported": (
        "g (float[2] x) => (float[2] y) { [n] y = acme.Spin(x) }",
        "node 'n' (acme.Spin): no opset of domain 'acme' is imported",
    ),
    "too many inputs": (
        "g (float[2] x) => (float[2] y) { [n] y = Relu(x, x) }",
        "node 'n' (Relu): 2 inputs, 1 allowed",
    ),
    "too few inputs": (
        "g (float[2] x) => (float[2] y) { [n] y = Add(x) }",
        "node 'n' (Add): 1 inputs, 2 allowed",
    ),
    "too few of many": (
        "g (float[2] x) => (float[2] y) { [n] y = Concat <axis = 0> () }",
        "0 inputs, 1 or more",
    ),
    "too many outputs": (
        "g (float[2] x) => (float[2] y) { [n] y, z = Relu(x) }",
        "node 'n' (Relu): 2 outputs, 1 allowed",
    ),
    "needed input left out": (
        "g (float[2] x) => (float[2] y) { [n] y = Where(x, , x) }",
        "node 'n' (Where): input 'X' is missing",
    ),
    "attribute unknown": (
        "g (float[2] x) => (float[2] y) { [n] y = Relu <alpha = 1.0> (x) }",
        "node 'n' (Relu): has no attribute 'alpha' in opset 14",
    ),
    "attribute of an older opset": (
        "g (float[2] x) => (float[1] y) { [n] y = ReduceMean <axes = [0]> (x) }",
        "node 'n' (ReduceMean): has no attribute 'axes' in opset 18",
    ),
    "attribute of another type": (
        "g (float[2] x) => (float[2] y) { [n] y = Concat <axis = 1.0> (x) }",
        "node 'n' (Concat): attribute 'axis' is FLOAT, INT needed",
    ),
    "attribute missing": (
        "g (float[2] x) => (float[2] y) { [n] y = Concat(x) }",
        "node 'n' (Concat): attribute 'axis' is missing",
    ),
    "type not allowed": (
        "g (bool[2] x) => (bool[2] y) { [n] y = Relu(x) }",
        "node 'n' (Relu): value 'x' is tensor(bool), not allowed for 'X'",
    ),
    "types differ": (
        "g (float[2] x, double[2] z) => (float[2] y) { [n] y = Add(x, z) }",
        "node 'n' (Add): value 'z' is tensor(double) where tensor(float) is needed",
    ),
    "type of the output differs": (
        "g (float[2] x) => (double[2] y) { [n] y = Relu(x) }",
        "node 'n' (Relu): value 'y' is tensor(double) where tensor(float) is needed",
    ),
    "sequence for a tensor": (
        "g (seq(float[2]) x) => (float[2] y) { [n] y = Relu(x) }",
        "value 'x' is seq(tensor(float)), not allowed for 'X'",
    ),
    "used before it is made": (
        "g (float[2] x) => (float[2] y) { [n] y = Relu(a) [m] a = Neg(x) }",
        "node 'n' (Relu): uses value 'a', which is made later, or out of its reach, by node 'm' (Neg)",
    ),
    "reference outside of a function": (
        "g (float[2] x) => (float[2] y) { [n] y = LeakyRelu <alpha: float = @a> (x) }",
        "node 'n' (LeakyRelu): attribute 'alpha' refers to a function's attribute outside of one",
    ),
    "output of a body made outside": (
        """g (bool c, float[2] x) => (float[2] y) { a = Relu(x) y = If(c) <then_branch = t () => (float[2] p)
        { p = Neg(x) }, else_branch = e () => (float[2] a) { q = Neg(x) }> }""",
        "output 'a' of graph 'e' is made by nothing in it",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str) -> None:
    text, message = BAD[case]
    with pytest.raises(InvalidGraph) as caught:
        verify(model(text))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert isinstance(caught.value, ModelError)


def rename(name: str, to: str) -> Callable[[ir.Model], None]:
    def edit(graph: ir.Model) -> None:
        for scope in scopes.all_graphs(graph):
            for node in scope:
                for value in node.outputs:
                    if value.name == name:
                        value.name = to

    return edit


def test_a_name_that_is_taken_where_it_is_used() -> None:
    """In memory the right value is used; on disk the name would lead to another one."""
    broken = model("g (float[2] x) => (float[2] y) { a = Relu(x) b = Neg(x) y = Add(a, b) }")
    rename("b", "a")(broken)
    with pytest.raises(InvalidGraph, match="makes value 'a', a name that is already taken"):
        verify_structure(broken)


def test_a_name_that_an_inner_input_hides() -> None:
    broken = model(LOOP)
    rename("k", "v")(broken)
    with pytest.raises(InvalidGraph, match="uses a value 'v' that another value of the same name hides"):
        verify_structure(broken)


def test_a_node_that_was_taken_out() -> None:
    broken = model(GOOD["chain"])
    broken.graph.remove(broken.graph[0])
    with pytest.raises(InvalidGraph, match="uses value 'a', which nothing makes"):
        verify_structure(broken)


def test_an_initializer_without_data_or_under_another_name() -> None:
    broken = model("g (float[2] x) => (float[2] y) <float[2] w = {1, 2}> { y = Add(x, w) }")
    value = broken.graph.initializers["w"]
    value.const_value = None
    with pytest.raises(InvalidGraph, match="initializer 'w' has no data"):
        verify_structure(broken)
    value.const_value = ir.tensor(np.zeros(2, np.float32))
    broken.graph.initializers.data["v"] = broken.graph.initializers.data.pop("w")
    with pytest.raises(InvalidGraph, match="initializer 'v' holds a value with the name 'w'"):
        verify_structure(broken)


FUNCTION = """<ir_version: 10, opset_import: ["": 18, "local": 1]>
g (float[2] x) => (float[2] y) { [call] y = local.F %s (x%s) }
<domain: "local", opset_import: ["": 18%s]> F <a> (v) => (r) { [inner] r = %s }"""


@pytest.mark.parametrize(
    ("call", "inputs", "imports", "body", "message"),
    [
        ("<a = 1.0>", "", "", "LeakyRelu <alpha: float = @a> (v)", None),
        ("<a = 1.0>", "", "", "Relux(v)", "node 'inner' (Relux): operator Relux is not in opset 18"),
        ("<b = 1.0>", "", "", "Relu(v)", "node 'call' (local.F): the function has no attribute 'b'"),
        ("<a = 1.0>", ", x", "", "Relu(v)", "2 inputs and 1 outputs for a function of 1 and 1"),
        ("<a = 1.0>", "", "", "local.G(v)", "node 'inner' (local.G): no opset of domain 'local' is imported"),
        ("<a = 1.0>", "", ', "local": 1', "local.F <a = 1.0> (v)", "function 'local::F' calls itself"),
        ("<a = 1.0>", "", "", "Add(v, x)", "node 'inner' (Add): uses value 'x', which nothing makes"),
    ],
)
def test_functions(call: str, inputs: str, imports: str, body: str, message: str | None) -> None:
    text = FUNCTION % (call, inputs, imports, body)
    found = ir.from_proto(onnx.parser.parse_model(text))
    if message is None:
        verify(found)
        return
    with pytest.raises(InvalidGraph) as caught:
        verify(found)
    assert message in str(caught.value)


def deep_chain(count: int) -> ir.Model:
    lines = " ".join(f"v{i + 1} = Add(v{i}, v{i})" for i in range(count))
    return model(f"g (float[2] v0) => (float[2] v{count}) {{ {lines} }}")


def test_time_is_linear() -> None:
    def seconds(count: int) -> float:
        graph = deep_chain(count)
        found = []
        gc.disable()  # its cost grows with the heap of the whole test run
        try:
            for _ in range(5):
                start = time.process_time()
                verify(graph)
                found.append(time.process_time() - start)
        finally:
            gc.enable()
        return min(found)

    seconds(100)
    assert seconds(8000) < 16 * seconds(1000)


@pytest.mark.parametrize("name", ["router_if_ts17", "silero_vad", "functions_script18", "lstm_keras13"])
def test_real_models_pass(zoo: Path, name: str) -> None:
    verify(load(zoo / f"{name}.onnx"))
