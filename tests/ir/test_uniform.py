import numpy as np
import pytest

from graphopt.ir.uniform import uniform_contents
from graphopt.testing import model_from_text


def _contents(body: str) -> np.ndarray | None:
    model = model_from_text(f"g (float[N] x, int64[2] s, int64 n) => (float y) {{ {body} }}")
    return uniform_contents(model.graph.outputs[0], model.graph.opset_imports)


@pytest.mark.parametrize(
    ("body", "number"),
    [
        ("y = ConstantOfShape(s)", 0.0),
        ("y = ConstantOfShape <value = int64[1] {3}> (s)", 3),
        ("y = Expand(2.5, s)", 2.5),
        ("a = Expand(2.5, s)  b = Unsqueeze(a, [0])  y = Slice(b, [0], [1])", 2.5),
        ("a = Expand(2.5, s)  b = ConstantOfShape(s)  y = Mul(a, b)", 0.0),
        ("a = ConstantOfShape <value = float[1] {1}> (s)  b = Cast <to = 9> (a)  y = Not(b)", False),
        ("a = Range(0, n, 1)  b = Unsqueeze(a, [0])  y = GreaterOrEqual(b, 0)", True),
        ("a = Range(3, n, 2)  y = Less(a, 3)", False),
        ("a = Expand(2.5, s)  y = Concat <axis = 0> (a, a)", 2.5),
    ],
)
def test_is_known(body, number):
    found = _contents(body)
    assert found is not None and found.shape == () and found == number


@pytest.mark.parametrize(
    "body",
    [
        "y = Identity(x)",
        "a = Expand(2.5, s)  y = Mul(a, x)",
        "a = Expand(2.5, s)  b = ConstantOfShape(s)  y = Concat <axis = 0> (a, b)",
        "y = Expand([1.0, 2.0], s)",
        "a = Expand(2.5, s)  y = RandomNormalLike(a)",
        "a = Expand(2.5, s)  y = Trilu(a)",
        "a = Range(0, n, 1)  y = GreaterOrEqual(a, 1)",
        "a = Range(0, n, -1)  y = GreaterOrEqual(a, 0)",
        "a = Range(n, 9, 1)  y = GreaterOrEqual(a, 0)",
    ],
)
def test_is_not_known(body):
    assert _contents(body) is None
