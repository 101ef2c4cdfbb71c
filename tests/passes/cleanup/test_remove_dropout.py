import pytest

from graphopt.passes.cleanup.remove_dropout import MASK_IS_NEEDED, TRAINS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-dropout"


@pytest.mark.parametrize(
    ("opset", "dropout"),
    [
        (6, "a = Dropout <is_test = 1> (x)"),
        (7, "a = Dropout <ratio = 0.5> (x)"),
        (10, "a, m = Dropout <ratio = 0.5> (x)"),
        (13, "a = Dropout(x)"),
        (13, "a, m = Dropout(x, 0.5)"),
        (13, "a = Dropout(x, 0.5, false)"),
    ],
)
def test_dropout_at_inference_is_removed(opset, dropout):
    assert_rewrites(
        PASS,
        before=f"g (float[N] x) => (float[N] y) {{ {dropout}  y = Exp(a) }}",
        after="g (float[N] x) => (float[N] y) { y = Exp(x) }",
        opset=opset,
        runs=opset > 6,
    )


@pytest.mark.parametrize(
    ("opset", "dropout"),
    [(6, "a = Dropout(x)"), (13, "a = Dropout(x, 0.5, true)"), (13, "a = Dropout(x, 0.5, t)")],
)
def test_dropout_in_training_stays(opset, dropout):
    graph = f"g (float[N] x, bool t) => (float[N] y) {{ {dropout}  y = Exp(a) }}"
    assert_rejects(PASS, graph, TRAINS, opset=opset)


def test_needed_mask_of_known_size_is_a_constant():
    assert_rewrites(
        PASS,
        before="g (float[3] x) => (float[3] y, bool[3] m) { a, m = Dropout(x)  y = Exp(a) }",
        after="""g (float[3] x) => (float[3] y, bool[3] m) {
            m = Constant <value = bool[3] {1, 1, 1}> ()  y = Exp(x)
        }""",
        opset=13,
    )


@pytest.mark.parametrize(("shape", "opset"), [("N", 13), ("3", 10), ("100,100", 13)])
def test_needed_mask_of_unknown_size_or_contents_stays(shape, opset):
    graph = f"g (float[{shape}] x) => (float[{shape}] y, bool[{shape}] m) {{ a, m = Dropout(x)  y = Exp(a) }}"
    assert_rejects(PASS, graph, MASK_IS_NEEDED, opset=opset)
