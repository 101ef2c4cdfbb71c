"""LSTM, GRU and RNN through the whole engine, against onnxruntime."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from tests.kernels.convolutions import ort
from tests.lowering.running import backend_cases, kernels_of, node_model, run

GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
CASES = {n: c for op in ("lstm", "gru", "rnn", "simple_rnn") for n, c in backend_cases(f"test_{op}_").items()}


def feeds_of(
    op: str,
    *,
    steps: int = 7,
    batch: int = 3,
    inputs: int = 5,
    hidden: int = 11,
    directions: int = 1,
    leave_out: tuple[str, ...] = (),
    dtype: np.dtype = np.float32,
) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    gates = GATES[op]
    dims = {
        "x": (steps, batch, inputs),
        "w": (directions, gates * hidden, inputs),
        "r": (directions, gates * hidden, hidden),
        "b": (directions, 2 * gates * hidden),
        "lengths": (batch,),
        "h": (directions, batch, hidden),
    }
    if op == "LSTM":
        dims |= {"c": (directions, batch, hidden), "p": (directions, 3 * hidden)}
    made = {n: (rng.standard_normal(d) / 2).astype(dtype) for n, d in dims.items()}
    made["lengths"] = np.array([steps, max(steps - 3, 0), 1][:batch], np.int32)
    return {n: a for n, a in made.items() if n not in leave_out}


def both(
    op: str, feeds: dict[str, np.ndarray], constant: bool = True, threads: int = 1, **attributes: object
) -> None:
    names = ["x", "w", "r", "b", "lengths", "h", *(["c", "p"] if op == "LSTM" else [])]
    given = [n if n in feeds else "" for n in names]
    outputs = 3 if op == "LSTM" else 2
    attributes = {"hidden_size": feeds["r"].shape[2], **attributes}
    constants = ["w", "r"] if constant else []
    model = node_model(op, feeds, outputs, inputs=given, constants=constants, opset=22, **attributes)
    assert "recurrent" in kernels_of(model)
    expected = ort(op, [feeds.get(n) for n in names], attributes, opset=22, outputs=outputs)
    for a, b in zip(run(model, feeds, threads), expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("direction", ["forward", "reverse", "bidirectional"])
@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize("hidden", [1, 11, 16, 33, 70])
def test_directions(op: str, direction: str, hidden: int) -> None:
    directions = 2 if direction == "bidirectional" else 1
    feeds = feeds_of(op, directions=directions, hidden=hidden)
    for constant, threads in itertools.product([True, False], [1, 2]):
        both(op, feeds, constant, threads, direction=direction)


@pytest.mark.parametrize("op", GATES)
@pytest.mark.parametrize(
    "leave_out", [("b",), ("lengths",), ("h", "c"), ("p",), ("b", "lengths", "h", "c", "p")], ids=str
)
def test_optional_inputs(op: str, leave_out: tuple[str, ...]) -> None:
    both(op, feeds_of(op, leave_out=leave_out))


@pytest.mark.parametrize(("steps", "batch"), [(1, 1), (1, 30), (30, 1), (40, 3)])
@pytest.mark.parametrize("op", GATES)
def test_sizes(op: str, steps: int, batch: int) -> None:
    both(op, feeds_of(op, steps=steps, batch=batch, leave_out=("lengths",)), threads=2)


@pytest.mark.parametrize("linear", [0, 1])
@pytest.mark.parametrize("direction", ["reverse", "bidirectional"])
def test_where_a_gru_resets(linear: int, direction: str) -> None:
    feeds = feeds_of("GRU", directions=2 if direction == "bidirectional" else 1)
    for constant in (True, False):
        both("GRU", feeds, constant, direction=direction, linear_before_reset=linear)


@pytest.mark.parametrize(
    ("op", "attributes"),
    [
        ("RNN", {"activations": ["Relu"]}),
        ("RNN", {"activations": ["LeakyRelu"], "activation_alpha": [0.2]}),
        ("RNN", {"activations": ["Affine"], "activation_alpha": [0.3], "activation_beta": [0.1]}),
        ("RNN", {"activations": ["Softsign"], "clip": 0.3}),
        (
            "GRU",
            {
                "activations": ["HardSigmoid", "ScaledTanh"],
                "activation_alpha": [0.3, 1.2],
                "activation_beta": [0.4, 0.7],
            },
        ),
        ("GRU", {"clip": 0.4}),
        ("LSTM", {"activations": ["Sigmoid", "Softplus", "Elu"]}),
        ("LSTM", {"input_forget": 1}),
    ],
)
def test_attributes(op: str, attributes: dict[str, object]) -> None:
    for constant in (True, False):
        both(op, feeds_of(op), constant, **attributes)


@pytest.mark.parametrize("name", CASES)
def test_standard_cases(name: str) -> None:
    model, inputs, outputs = CASES[name]
    got = run(model, {i.name: a for i, a in zip(model.graph.input, inputs, strict=True)})
    for a, b in zip(got, outputs, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float64, np.float16])
@pytest.mark.parametrize("op", GATES)
def test_element_types(op: str, dtype: np.dtype) -> None:
    narrow = feeds_of(op, dtype=dtype)
    outputs = 3 if op == "LSTM" else 2
    model = node_model(op, narrow, outputs, constants=["w", "r"], opset=22, hidden_size=11)
    wide = [a.astype(np.float32) if a.dtype == dtype else a for a in narrow.values()]
    expected = ort(op, wide, {"hidden_size": 11}, opset=22, outputs=outputs)
    near = 1e-5 if dtype == np.float64 else 4e-3
    for a, b in zip(run(model, narrow), expected, strict=True):
        assert a.dtype == dtype
        np.testing.assert_allclose(a.astype(np.float32), b, rtol=near, atol=near)


@pytest.mark.parametrize(("steps", "batch"), [(0, 2), (3, 0)])
def test_no_elements(steps: int, batch: int) -> None:
    feeds = feeds_of("LSTM", steps=steps, batch=batch, leave_out=("lengths", "p", "c"))
    model = node_model(
        "LSTM", feeds, 3, inputs=["x", "w", "r", "b", "", "h"], constants=["w", "r"], hidden_size=11
    )
    y, h, c = run(model, feeds)
    assert y.shape == (steps, 1, batch, 11)
    np.testing.assert_array_equal(h, feeds["h"])
    np.testing.assert_array_equal(c, np.zeros((1, batch, 11)))
