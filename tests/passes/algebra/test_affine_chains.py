"""Random chains of linear operators, maps and movement: whatever is folded, the answers stay."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import onnx
import onnx_ir as ir
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from graphopt.testing import assert_same_outputs, run_pass

PASSES = (
    "fold-batch-normalization,fold-channel-constants,merge-parallel-convolutions,fold-pads-into-windows,"
    "fold-slices-into-strides,fold-numbers-into-weights,fold-maps-into-consumers,fuse-matmul-add,"
    "merge-consecutive-products,merge-clips,move-biases-above-reshapes,remove-reshapes-around-gemm"
)
STEPS = (
    "scale",
    "shift",
    "norm",
    "conv",
    "matmul",
    "relu",
    "clip",
    "pool",
    "transpose",
    "reshape",
    "pad",
    "branch",
)
SEEDS = st.integers(0, 2**31 - 1)


@dataclass
class Chain:
    """A model under construction: one value of known shape, and what led to it."""

    rng: np.random.Generator
    shape: list[int]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)
    value: str = "x"
    outputs: list[tuple[str, list[int]]] = field(default_factory=list)
    saved: list[tuple[str, list[int]]] = field(default_factory=list)

    def constant(self, array) -> str:
        name = f"c{len(self.constants)}"
        kept = np.asarray(array)
        kept = kept.astype(np.float32) if kept.dtype.kind == "f" else kept
        self.constants.append(numpy_helper.from_array(kept, name))
        return name

    def add(self, op_type: str, inputs: list[str], shape: list[int] | None = None, **attributes) -> None:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, inputs, [name], **attributes))
        self.value, self.shape = name, list(shape if shape is not None else self.shape)

    def numbers(self, shape) -> np.ndarray:
        return self.rng.choice([-2.0, -0.5, 0.5, 1.0, 1.5, 3.0], shape)

    def vector(self) -> np.ndarray:
        """A constant that broadcasts over the value along no axis, one or several."""
        varying = (
            self.rng.integers(0, 2, len(self.shape)) if self.rng.random() < 0.3 else np.zeros(len(self.shape))
        )
        if self.rng.random() < 0.6:
            varying = np.zeros(len(self.shape))
            varying[self.rng.integers(len(self.shape))] = 1
        dims = [d if v else 1 for d, v in zip(self.shape, varying, strict=True)]
        while dims and dims[0] == 1 and self.rng.random() < 0.7:
            dims.pop(0)
        return self.numbers(dims)

    def step(self, kind: str) -> None:
        getattr(self, f"_{kind}")()

    def _scale(self):
        self.add(str(self.rng.choice(["Mul", "Div"])), [self.value, self.constant(self.vector())])

    def _shift(self):
        self.add(*[("Add", [self.value, self.constant(self.vector())]), ("Sub", [self.constant(self.vector()), self.value])][
            self.rng.integers(2)
        ])  # fmt: skip

    def _norm(self):
        if len(self.shape) >= 2:
            count = self.shape[1]
            parameters = [self.constant(self.numbers(count)) for _ in range(3)]
            variance = self.constant(np.abs(self.numbers(count)))
            self.add("BatchNormalization", [self.value, *parameters, variance])

    def _conv(self):
        if len(self.shape) != 3:
            return
        batch, channels, size = self.shape
        groups = channels if self.rng.random() < 0.3 else 1
        taps, pad = (1, 0) if size < 3 or self.rng.random() < 0.5 else (3, int(self.rng.integers(0, 2)))
        out = channels * int(self.rng.integers(1, 3))
        inputs = [self.value, self.constant(self.numbers((out, channels // groups, taps)))]
        if self.rng.random() < 0.5:
            inputs.append(self.constant(self.numbers(out)))
        self.add("Conv", inputs, [batch, out, size + 2 * pad - taps + 1], group=groups, pads=[pad, pad])

    def _matmul(self):
        columns = int(self.rng.integers(1, 4))
        inputs = [self.value, self.constant(self.numbers((self.shape[-1], columns)))]
        self.add("MatMul", inputs, [*self.shape[:-1], columns])

    def _relu(self):
        self.add("Relu", [self.value])

    def _clip(self):
        bounds = sorted(float(b) for b in self.rng.choice([-3.0, -1.0, 0.0, 2.0, 4.0], 2))
        self.add("Clip", [self.value, *(self.constant(np.float32(b)) for b in bounds)])

    def _pool(self):
        if len(self.shape) == 3 and self.shape[2] >= 2:
            kind = str(self.rng.choice(["MaxPool", "AveragePool"]))
            self.add(kind, [self.value], [*self.shape[:2], self.shape[2] - 1], kernel_shape=[2])

    def _transpose(self):
        perm = [int(p) for p in self.rng.permutation(len(self.shape))]
        self.add("Transpose", [self.value], [self.shape[p] for p in perm], perm=perm)

    def _reshape(self):
        total = int(np.prod(self.shape))
        choices = [[1, 1, total], [total, 1, 1], [*self.shape[:1], -1, self.shape[-1]], [1, *self.shape[1:]]]
        target = choices[self.rng.integers(len(choices))]
        found = np.zeros(self.shape).reshape(
            target if -1 in target or np.prod(target) == total else self.shape
        )
        self.add("Reshape", [self.value, self.constant(np.array(found.shape, np.int64))], list(found.shape))

    def _pad(self):
        if len(self.shape) == 3:
            amounts = self.constant(np.array([0, 0, 1, 0, 0, 1], np.int64))
            self.add("Pad", [self.value, amounts], [*self.shape[:2], self.shape[2] + 2])

    def _branch(self):
        self.outputs.append((self.value, list(self.shape)))

    def _save(self):
        self.saved.append((self.value, list(self.shape)))

    def _residual(self):
        alike = [name for name, shape in self.saved if shape == self.shape]
        if alike:
            self.add("Add", [self.value, str(self.rng.choice(alike))])

    def declared(self) -> list[onnx.ValueInfoProto]:
        unique = {name: shape for name, shape in [*self.outputs, (self.value, self.shape)] if name != "x"}
        return [
            helper.make_tensor_value_info(n, TensorProto.FLOAT, [None] * len(s)) for n, s in unique.items()
        ]


def build(kinds: list[str], seed: int, *, is_symbolic: bool) -> tuple[onnx.ModelProto, list[int]]:
    """A model of one input, and the input's shape."""
    rng = np.random.default_rng(seed)
    start = [int(n) for n in rng.integers(1, 5, 3)]
    chain = Chain(rng, list(start))
    for kind in kinds:
        chain.step(kind)
    if chain.value == "x":
        chain.step("relu")
    dims = ["batch", start[1], "length"] if is_symbolic else start
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, dims)
    graph = helper.make_graph(chain.nodes, "g", [x], chain.declared(), chain.constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), start


@settings(max_examples=60, deadline=None)
@given(kinds=st.lists(st.sampled_from(STEPS), min_size=2, max_size=9), seed=SEEDS, is_symbolic=st.booleans())
def test_never_changes_an_answer(kinds, seed, is_symbolic):
    proto, shape = build(kinds, seed, is_symbolic=is_symbolic)
    original, model = ir.from_proto(proto), ir.from_proto(proto)
    run_pass(f"({PASSES})", model)
    assert len(model.graph) <= len(original.graph)
    feeds = {"x": np.random.default_rng(seed).standard_normal(shape).astype(np.float32)}
    assert_same_outputs(original, model, feeds, exact=False)
