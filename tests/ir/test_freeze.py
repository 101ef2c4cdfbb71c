"""Open dims of inputs become numbers, everywhere they are named, or the wish is refused."""

from collections.abc import Mapping, Sequence

import onnx
import onnx_ir as ir
import pytest

from graphopt.errors import UsageError
from graphopt.ir.freeze import freeze_inputs

TEXT = """<ir_version: 10, opset_import: ["": 18]>
g (float[N, 3, H] x, int64[N] i, float[?] u) => (float[N, M] y, float[H] z) {
    y = acme.A(x, i) z = acme.B(u) }"""


def model() -> ir.Model:
    return ir.from_proto(onnx.parser.parse_model(TEXT))


def shapes(found: ir.Model) -> list[str]:
    return [str(value.shape) for value in (*found.graph.inputs, *found.graph.outputs)]


def test_named_dims_follow_everywhere() -> None:
    found = model()
    freeze_inputs(found, {"x": [2, 3, -1], "u": [7]})
    assert shapes(found) == ["[2,3,H]", "[2]", "[7]", "[2,M]", "[H]"]


def test_rank_may_be_given_where_there_is_none() -> None:
    found = model()
    found.graph.inputs[0].shape = None
    freeze_inputs(found, {"x": [2, -1]})
    assert found.graph.inputs[0].shape is not None and found.graph.inputs[0].shape[0] == 2


def test_minus_one_of_exporters_is_an_open_dim() -> None:
    found = model()
    found.graph.inputs[0].shape = ir.Shape([-1, 3, 4])
    freeze_inputs(found, {"x": [5, 3, 4]})
    assert shapes(found)[0] == "[5,3,4]"


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"q": [1]}, "there is no input 'q' to give a shape; inputs: x, i, u"),
        ({"x": [1, 3]}, "shape [1, 3] for input 'x': it has 3 dims"),
        ({"x": [1, 4, 5]}, "the model fixes 3 where 4 is given"),
        ({"x": [1, 3, 5], "i": [2]}, "dim 'N' would be"),
        ({"x": [1, 3, -2]}, "a dim is negative"),
    ],
)
def test_refused(wanted: Mapping[str, Sequence[int]], message: str) -> None:
    found = model()
    with pytest.raises(UsageError) as caught:
        freeze_inputs(found, wanted)
    assert message in str(caught.value)
    assert shapes(found) == shapes(model())
