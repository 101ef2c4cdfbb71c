import onnx_ir as ir

from graphopt.testing import model_from_text, run_pass

PASS = "correct-declared-shapes"


def _shapes(graph: ir.Graph) -> dict[str, list[object] | None]:
    """Declared shapes by name; None for an unknown dim."""
    values = [*graph.inputs, *(v for node in graph for v in node.outputs)]
    return {
        str(v.name): None if v.shape is None else [d if isinstance(d, int) else d.value for d in v.shape]
        for v in values
    }


GROWING = """g (float[1,3] x, int64 n, float[0,3] empty) => (float[M,3] y) {
    y = Loop (n, , empty) <body = b (int64 i, bool c, float[0,3] cache) => (bool d, float[1,3] grown) {
        d = Identity(c)
        grown = Concat <axis = 0> (cache, x)
    }>
}"""


def test_growing_cache_is_not_declared_with_the_size_of_its_first_step():
    model = model_from_text(GROWING)
    run_pass(PASS, model)
    body = model.graph[0].attributes["body"].as_graph()
    found = _shapes(body)
    assert found["cache"] == [None, 3]
    assert found["grown"] == [None, 3]


def test_cache_that_keeps_its_shape_stays_declared():
    model = model_from_text(GROWING.replace("Concat <axis = 0> (cache, x)", "Neg(cache)"))
    run_pass(PASS, model)
    assert _shapes(model.graph[0].attributes["body"].as_graph())["cache"] == [0, 3]


def test_signature_stays_even_if_it_is_wrong():
    model = model_from_text("g (float[N,3] x) => (float[N,4] y) { y = Exp(x) }")
    run_pass(PASS, model)
    assert _shapes(model.graph)["y"] == ["N", 4]


def test_inner_value_is_corrected_where_it_contradicts_what_is_known():
    model = model_from_text("g (float[N,3] x) => (float[N,3] y) { a = Exp(x)  b = Neg(a)  y = Exp(b) }")
    first, second, _ = model.graph
    first.outputs[0].shape = ir.Shape([None, 4])
    second.outputs[0].shape = ir.Shape([2, 3])  # more than is known, and maybe so
    run_pass(PASS, model)
    assert _shapes(model.graph)["a"] == [None, 3]
    assert _shapes(model.graph)["b"] == [2, 3]
