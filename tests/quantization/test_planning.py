"""Which operators are quantized, and between which values."""

from __future__ import annotations

import numpy as np
import onnx
import onnx_ir as ir
import pytest

from graphopt.ir.scoped_names import name_nodes
from graphopt.quantization.calibration import Calibration
from graphopt.quantization.observers import Observer
from graphopt.quantization.planning import between, candidates, plan, values_to_observe

RNG = np.random.default_rng(0)


def model(text: str, **weights: np.ndarray) -> ir.Model:
    proto = onnx.parser.parse_model(f'<ir_version: 8, opset_import: ["": 17]>\n{text}')
    proto.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in weights.items())
    found = ir.from_proto(proto)
    name_nodes(found)
    return found


def observed(names: list[str], *, but: tuple[str, ...] = ()) -> Calibration:
    observers = {name: Observer() for name in names}
    for i, name in enumerate(names):
        if name not in but:
            observers[name].update(np.linspace(-i - 1, i + 1, 100, dtype=np.float32))
    return Calibration(observers, 1)


W = RNG.standard_normal((16, 16, 3, 3)).astype(np.float32)
RESIDUAL = """g (float[1,16,9,9] x) => (float[1,16,1,1] y) {
    [one] a = Conv <pads = [1,1,1,1]> (x, w)  r = Relu(a)
    [pool] p = MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> (r)
    [two] b = Conv <pads = [1,1,1,1]> (p, v)
    [add] c = Add(b, p)  s = Relu(c)
    [free] d = Add(s, x)
    [mean] e = GlobalAveragePool(s)
    f = GlobalAveragePool(d)  y = Mul(e, f)
}"""


def test_values_between_convolutions_stay_codes() -> None:
    source = model(RESIDUAL, w=W, v=W + 1)
    found = candidates(source)
    assert [(c.name, c.input, c.output) for c in found] == [("one", "x", "r"), ("two", "p", "b")]
    others = between(source, found)
    assert [(o.name, o.inputs, o.output) for o in others] == [
        ("pool", ("r",), "p"),
        ("add", ("b", "p"), "s"),
        ("mean", ("s",), "e"),
    ]
    names = values_to_observe(found, others)
    tensors, operators = plan(found, observed(names), "minmax", others)
    assert {name: o.mode for name, o in operators.items()} == dict.fromkeys(
        ("one", "two", "pool", "add", "mean"), "int8"
    )
    assert tensors["p"].grid is tensors["r"].grid and tensors["p"].group == "r"
    assert tensors["s"].grid.scale != tensors["b"].grid.scale


def test_what_saturation_does_anyway_is_left_to_it() -> None:
    source = model(
        "g (float[1,16,9,9] x) => (float[1,16,7,7] y, float[1,16,7,7] z) { [c] a = Conv(x, w)  y = Clip(a, lo, hi)  [d] z = Conv(x, v) }",
        w=W,
        v=W + 1,
        lo=np.float32(0),
        hi=np.float32(6),
    )
    assert [c.output for c in candidates(source)] == ["y", "z"]


def test_what_was_never_seen_keeps_floats() -> None:
    source = model(RESIDUAL, w=W, v=W + 1)
    found = candidates(source)
    others = between(source, found)
    seen = observed(values_to_observe(found, others), but=("x",))
    _, operators = plan(found, seen, "minmax", others)
    assert operators["one"].mode == "weight_only" and operators["one"].reason
    # Its output is a float now, and so is what is made of it alone.
    assert "pool" not in operators and "add" not in operators and "mean" not in operators
    assert operators["two"].mode == "int8"


def test_products_give_floats_and_tables_are_stored() -> None:
    w = RNG.standard_normal((64, 64)).astype(np.float32)
    source = model(
        "g (int64[N] i, float[N,64] x) => (float[N,64] y) { [look] e = Gather(t, i)  s = Add(e, x)  [mul] y = MatMul(s, w) }",
        w=w,
        t=w + 1,
    )
    found = candidates(source)
    assert [(c.name, c.input, c.output) for c in found] == [("look", None, None), ("mul", "s", None)]
    assert between(source, found) == []
    _, operators = plan(found, observed(["s"]), "mse")
    assert [o.mode for o in operators.values()] == ["weight_only", "int8"]


def test_two_axes_of_one_weight() -> None:
    w = RNG.standard_normal((64, 64)).astype(np.float32)
    source = model(
        "g (float[N,64] x) => (float[N,64] y, float[N,64] z) { [a] y = MatMul(x, w)  [b] z = Gemm <transB = 1> (x, w) }",
        w=w,
    )
    _, operators = plan(candidates(source), observed(["x"]), "minmax")
    assert operators["a"].mode == "int8"
    assert operators["b"].mode == "float" and "another axis" in (operators["b"].reason or "")


@pytest.mark.parametrize("per_tensor", [False, True])
def test_one_scale_for_a_whole_weight(per_tensor: bool) -> None:
    found = candidates(model(RESIDUAL, w=W, v=W + 1))
    tensors, _ = plan(found, observed(values_to_observe(found)), "minmax", per_tensor=per_tensor)
    grids = [tensors[name].grid for name in "wv"]
    assert [(grid.axis, grid.scale.size) for grid in grids] == [(None, 1) if per_tensor else (0, 16)] * 2
