import numpy as np
import onnx_ir as ir

from graphopt.testing import model_from_text, run_pass

PASS = "merge-initializers"
TEXT = "g (float[N,2] x, float[2,2] v, float[2,2] w) => (float[N,2] y) { a = MatMul(x, v)  y = MatMul(a, w) }"


def _model(v: np.ndarray, w: np.ndarray, *, text: str = TEXT, overridable: str = "") -> ir.Model:
    model = model_from_text(text)
    for value, array in zip(list(model.graph.inputs)[1:], (v, w), strict=True):
        value.const_value = ir.tensor(array, name=value.name)
        if value.name != overridable:
            model.graph.inputs.remove(value)
        model.graph.register_initializer(value)
    return model


def _merged(model: ir.Model) -> bool:
    run_pass(PASS, model)
    return len(model.graph.initializers) == 1


ONES = np.ones((2, 2), np.float32)


def test_equal_ones_become_one():
    model = _model(ONES, ONES.copy())
    assert _merged(model)
    assert model.graph[0].inputs[1] is model.graph[1].inputs[1]


def test_other_contents_stay():
    assert not _merged(_model(ONES, 2 * ONES))


def test_signs_of_zeros_count():
    assert not _merged(_model(0 * ONES, -0.0 * ONES))


def test_nan_is_compared_by_bits():
    assert _merged(_model(np.nan * ONES, np.nan * ONES))


def test_types_and_shapes_count():
    text = """g (float[N,2] x, int32[1] v, float[1] w) => (float[N,2] y) {
        a = Cast <to = 1> (v)  b = Mul(a, w)  y = Mul(x, b)
    }"""
    assert not _merged(_model(np.zeros(1, np.int32), np.zeros(1, np.float32), text=text))
    text = text.replace("int32", "float")
    assert not _merged(_model(np.zeros((1, 1), np.float32), np.zeros(1, np.float32), text=text))


def test_one_that_an_input_overrides_stays():
    assert not _merged(_model(ONES, ONES.copy(), overridable="w"))


def test_constants_of_two_branches_meet_in_the_main_graph():
    model = model_from_text(
        """g (float[N] x, bool c) => (float[N] y) {
            y = If (c) <
                then_branch = t () => (float[N] p) { k = Constant <value_floats = [1.0]> () p = Mul(x, k) },
                else_branch = e () => (float[N] q) { k = Constant <value_floats = [1.0]> () q = Add(x, k) }
            >
        }"""
    )
    run_pass(f"lift-constants,{PASS}", model)
    assert len(model.graph.initializers) == 1
    branches = [a.as_graph() for a in model.graph[0].attributes.values()]
    assert [len(b) for b in branches] == [1, 1]
    assert branches[0][0].inputs[1] is branches[1][0].inputs[1]
