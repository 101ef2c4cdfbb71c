"""Copies where operands do not lie as kernels want them, and nowhere else."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.ir.dims import symbol
from graphopt.lowering.kernels import Layout, traits
from graphopt.lowering.passes.layouts import fits, settle_layouts
from graphopt.lowering.program import Instruction, Module, Register
from graphopt.lowering.registry import find
from graphopt.runtime import InferenceSession
from tests.lowering.comparing import assert_same, instructions, parsed, program

# The families of operators say what their kernels want.
assert find("", "Relu")

N, M = symbol("N"), symbol("M")


def floats(*dims: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(dims).astype(np.float32)


@pytest.mark.parametrize(
    ("dims", "strides", "layouts"),
    [
        ((N, 4), None, {Layout.DENSE, Layout.ROWS, Layout.ANY, Layout.CHANNELS_LAST}),
        ((N, 4), (4, 1), {Layout.DENSE, Layout.ROWS, Layout.ANY, Layout.CHANNELS_LAST}),
        ((N, 4), (8, 1), {Layout.ROWS, Layout.ANY}),
        ((N, 4), (1, N), {Layout.ANY}),
        ((1, 4), (99, 1), {Layout.DENSE, Layout.ROWS, Layout.ANY, Layout.CHANNELS_LAST}),
        ((N, 1), (1, 7), {Layout.DENSE, Layout.ROWS, Layout.ANY, Layout.CHANNELS_LAST}),
        ((N, 4), (0, 1), {Layout.ROWS, Layout.ANY}),
        ((N, 3, M), (3 * M, 1, 3), {Layout.ANY, Layout.CHANNELS_LAST}),
        ((1, 1, M), (M, M, 1), {Layout.DENSE, Layout.ROWS, Layout.ANY, Layout.CHANNELS_LAST}),
        ((), None, {Layout.DENSE, Layout.ROWS, Layout.ANY, Layout.CHANNELS_LAST}),
        (None, None, {Layout.DENSE, Layout.ROWS, Layout.ANY, Layout.CHANNELS_LAST}),
    ],
)
def test_what_fits(
    dims: tuple[object, ...] | None, strides: tuple[object, ...] | None, layouts: set[Layout]
) -> None:
    register = Register(1, dims, strides=strides)  # type: ignore[arg-type]
    assert {layout for layout in Layout if fits(register, layout)} == layouts


def turned(*kernels: str, outputs: int = 1) -> Module:
    """A look at the turned input, read by all kernels."""
    module = Module("main", [Register(1, (N, 4), "x"), Register(1, (4, N), "xt", (1, 4), base=0)], inputs=[0])
    for kernel in kernels:
        made = module.add(Register(1, (4, N)))
        module.instructions.append(Instruction(kernel, [1], [made]))
        module.outputs.append(made)
    settle_layouts(module)
    return module


def names(module: Module) -> list[str]:
    return [i.kernel for i in module.instructions]


def test_dense_operand_is_copied_once_for_all_its_readers() -> None:
    assert traits("dense").input(0) is Layout.DENSE, "as all kernels of which nothing is said"
    module = turned("dense", "dense")
    assert names(module) == ["copy", "dense", "dense"]
    assert module.instructions[1].inputs == module.instructions[2].inputs == module.instructions[0].outputs


def test_operand_of_any_layout_is_not_copied() -> None:
    assert traits("elementwise").input(0) is Layout.ANY
    assert names(turned("elementwise")) == ["elementwise"]


def test_output_in_a_layout_that_the_kernel_does_not_write_is_copied() -> None:
    module = Module("main", [Register(1, (N, 4), "x"), Register(1, (N, 4), "y", (1, N))], inputs=[0])
    module.instructions = [Instruction("dense", [0], [1])]
    settle_layouts(module)
    assert names(module) == ["dense", "copy"]
    inner, outer = module.instructions[0].outputs[0], module.instructions[1].outputs[0]
    assert outer == 1 and module.registers[inner].is_dense


@pytest.mark.parametrize("name", ["main", "body"])
def test_outputs_are_dense_and_own_their_memory(name: str) -> None:
    module = Module(name, [Register(1, (N, 4), "x"), Register(1, (4, N), "xt", (1, 4), base=0)], inputs=[0])
    module.outputs = [1, 0, 0]
    settle_layouts(module)
    # A body may hand its input on; what leaves the model is memory of its own, each output another.
    assert names(module) == ["copy"] * (3 if name == "main" else 1)
    assert len(set(module.outputs)) == (3 if name == "main" else 2)
    assert all(module.registers[r].is_dense for r in module.outputs)


def test_constant_outputs_are_copied_out_of_the_model() -> None:
    module = Module("main", [Register(1, (2,), "w", constant=0)], outputs=[0, 0])
    settle_layouts(module)
    assert names(module) == ["copy", "copy"] and 0 not in module.outputs


def test_views_cost_nothing_where_kernels_take_them() -> None:
    graph = """g (float[B,T,8] x) => (float[B,2,T,4] y) {
        s = Constant<value = int64[4] {0, 0, 2, 4}>() h = Reshape(x, s)
        t = Transpose<perm = [0, 2, 1, 3]>(h) y = Tanh(t) }"""
    assert [i.kernel for i in instructions(program(graph))] == ["elementwise"]
    assert_same(graph, {"x": floats(2, 3, 8)}, {"x": floats(1, 1, 8)}, {"x": floats(0, 3, 8)})


@pytest.mark.parametrize(
    "body",
    [
        "y = Transpose(x) z = Identity(x)",
        "t = Transpose(x) y = Softmax<axis = 0>(t) z = Softmax<axis = 1>(t)",
        "y = Identity(x) z = Identity(x)",
        "t = Transpose(x) y = Transpose(t) z = Identity(t)",
        "t = Transpose(x) u = Transpose(x) y = Add(t, u) z = Identity(t)",
        "y = Constant<value = float[2,2] {1.0, 2.0, 3.0, 4.0}>() z = Identity(y)",
        "a = Exp(x) y = Transpose(a) z = Identity(a)",
    ],
)
def test_values_of_outputs_that_share_memory(body: str) -> None:
    graph = f"g (float[A,B] x) => (float[p,q] y, float[r,s] z) {{ {body} }}"
    assert_same(graph, {"x": floats(2, 3)}, {"x": floats(1, 4)}, {"x": floats(0, 2)})


def test_outputs_can_be_written_to_without_changing_each_other() -> None:
    graph = parsed(
        "g (float[N] x) => (float[N] y, float[N] z, float[N] v) { y = Identity(x) z = Identity(x) v = Exp(x) }"
    )
    x = floats(4)
    kept = x.copy()
    y, z, v = InferenceSession(graph, optimize=False).run(None, {"x": x})
    for output in (y, z, v):
        assert isinstance(output, np.ndarray)
        output[:] = 7
        np.testing.assert_array_equal(x, kept)
        if output is y:
            np.testing.assert_array_equal(z, kept)


@pytest.mark.parametrize("taken", [True, False])
def test_outputs_of_a_rank_that_the_run_knows_alone_may_share_memory_too(taken: bool) -> None:
    model = parsed(
        """g (float[N] x, bool c) => (float y, float z) {
            t = If (c) <
                then_branch = a () => (float p) { p = ReduceSum <keepdims = 0> (x) },
                else_branch = b () => (float q) { q = Neg(x) }
            >
            y = Abs(t)
            z = Cast <to = 1> (y)
        }"""
    )
    for output in model.graph.output:
        output.type.tensor_type.ClearField("shape")
    assert_same(model, {"x": floats(3), "c": np.array(taken)})
