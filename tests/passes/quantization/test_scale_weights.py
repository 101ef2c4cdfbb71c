"""Constants are multiplied as the quant table says: once, in every scope, whatever form they have."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt import targets
from graphopt.errors import UsageError
from graphopt.ir import constants
from graphopt.ir.quant_table import ModelIdentity, QuantTable, Scaling
from graphopt.ir.scoped_names import values_by_name
from graphopt.ir.verifier import verify
from graphopt.rewriting import Driver, Editor, registry
from graphopt.rewriting.pipeline import Group, Pipeline

W = np.arange(6, dtype=np.float32).reshape(2, 3)
ROWS, COLUMNS = np.array([2, 4], np.float32), np.array([1, 0.5, -1], np.float32)
TEXT = """g (float[N,2] x, bool c) => (float[N,3] y) {
    p = MatMul(x, w)
    y = If <then_branch = t () => (float[N,3] a) { [k] b = Constant <value_floats = [1.0, 2.0, 3.0]> ()  a = Add(p, b) },
            else_branch = e () => (float[N,3] d) { d = Identity(p) }> (c) }"""


def model() -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["": 21]>\n{TEXT}')
    proto.graph.initializer.append(onnx.numpy_helper.from_array(W, "w"))
    proto.graph.node[1].name = "if"
    return ir.from_proto(proto)


def applied(**scalings: tuple[Scaling, ...]) -> dict[str, np.ndarray]:
    table = QuantTable(
        ModelIdentity("0" * 64, 21),
        scalings={name.replace("__", ":").replace("_S_", "/"): s for name, s in scalings.items()},
    )
    source = model()
    editor = Editor(source.clone(), target=targets.find("onnx"))
    made = registry.find("scale-weights")(table=table)  # type: ignore[call-arg]
    for _ in range(2):
        Driver(editor, strict=True).run(Pipeline((Group((made,)),)))
    verify(editor.model)
    onnx.checker.check_model(ir.to_proto(editor.model), full_check=True)
    values = values_by_name(editor.model)
    np.testing.assert_array_equal(constants.array(values_by_name(source)["w"]), W)
    return {name: array for name, v in values.items() if (array := constants.array(v)) is not None}


def test_one_axis_and_several_are_applied_once() -> None:
    np.testing.assert_array_equal(applied(w=(Scaling(0, ROWS),))["w"], W * ROWS[:, None])
    both = applied(w=(Scaling(0, ROWS), Scaling(-1, COLUMNS)))["w"]
    np.testing.assert_array_equal(both, W * ROWS[:, None] * COLUMNS)
    assert both.dtype == np.float32


def test_a_constant_node_of_a_body() -> None:
    found = applied(if__then_branch_S_b=(Scaling(0, COLUMNS),))
    np.testing.assert_array_equal(found["if:then_branch/b"], np.array([1, 1, -3], np.float32))
    np.testing.assert_array_equal(found["w"], W)


@pytest.mark.parametrize(
    ("scalings", "message"),
    [
        ({"v": (Scaling(0, ROWS),)}, "names constant 'v', which the model does not have"),
        ({"w": (Scaling(1, ROWS),)}, "2 factors do not fit"),
        ({"x": (Scaling(1, ROWS),)}, "no constant of floats"),
    ],
)
def test_what_does_not_fit_is_an_error(scalings: dict[str, tuple[Scaling, ...]], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        applied(**scalings)
