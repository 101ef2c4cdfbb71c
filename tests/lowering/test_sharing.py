"""Results that lie where their instruction's operand did: the same answers from less memory."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import numpy as np
import onnx
import pytest

from graphopt.lowering import encode
from graphopt.lowering.operators import elementwise as _declares  # noqa: F401 (what its kernel takes)
from graphopt.lowering.program import Instruction, Module, Register
from graphopt.lowering.sharing import shared_memory
from graphopt.runtime.arrays import to_engine
from graphopt.runtime.compilation import compiled, program_of
from graphopt.runtime.native import NativeEngine
from graphopt.runtime.options import RunOptions
from tests.runtime import models

FLOAT = 1
RELU, ADD = 24, 45
NONE = 255


def module_of(instructions: list[Instruction], registers: Sequence[Register]) -> Module:
    return Module("main", list(registers), [0], [len(registers) - 1], instructions)


def shared(module: Module) -> dict[int, int]:
    kept = {*module.inputs, *module.outputs}
    return shared_memory(module, [module.root(r) not in kept for r in range(len(module.registers))])


def elementwise(inputs: list[int], output: int, steps: Sequence[tuple[int, int, int, int]]) -> Instruction:
    """Steps (opcode, slot of the result, slots of two sources) over float32."""
    data = struct.pack("4B", len(steps), 0, 0, 0)
    for op, out, a, b in steps:
        data += struct.pack("8B", op, FLOAT, FLOAT, out, a, b, a, NONE)
    return Instruction("elementwise", inputs, [output], data=data)


def matrices(n: int) -> list[Register]:
    return [Register(FLOAT, (4, 4), f"r{i}") for i in range(n)]


def test_a_chain_lies_in_one_place() -> None:
    relu = [(RELU, 1, 0, 0)]
    module = module_of([elementwise([i], i + 1, relu) for i in range(4)], matrices(5))
    assert shared(module) == {2: 1, 3: 1}  # neither the input nor the output


def test_what_is_read_again_keeps_its_memory() -> None:
    relu = [(RELU, 1, 0, 0)]
    add = [(ADD, 2, 0, 1)]
    made = [
        elementwise([0], 1, relu),
        elementwise([1], 2, relu),
        elementwise([1, 2], 3, add),
        elementwise([3], 4, relu),
    ]
    assert shared(module_of(made, matrices(5))) == {3: 1}


def test_a_step_that_reads_after_the_result_is_written() -> None:
    early = [(RELU, 1, 0, 0), (ADD, 1, 1, 0)]
    late = [(ADD, 1, 0, 0), (RELU, 1, 1, 1)]
    relu = [(RELU, 1, 0, 0)]
    for steps, expected in ((early, {}), (late, {2: 1})):
        made = [elementwise([0], 1, relu), elementwise([1], 2, steps), elementwise([2], 3, relu)]
        assert shared(module_of(made, matrices(4))) == expected


def test_looks_in_another_order_or_at_a_part_keep_their_memory() -> None:
    relu, add = [(RELU, 1, 0, 0)], [(ADD, 2, 0, 1)]
    registers = matrices(4)
    registers.insert(2, Register(FLOAT, (4, 4), "turned", (1, 4), 1))
    made = [elementwise([0], 1, relu), elementwise([1, 2], 3, add), elementwise([3], 4, relu)]
    assert shared(module_of(made, registers)) == {}
    made[1] = elementwise([1, 1], 3, add)
    assert shared(module_of(made, registers)) == {3: 1}
    # A part of a larger value does not hand on the whole of it.
    registers[1] = Register(FLOAT, (8, 4), "larger")
    registers[2] = Register(FLOAT, (4, 4), "part", None, 1)
    made[1] = elementwise([2], 3, relu)
    assert shared(module_of(made, registers)) == {}


def test_views_follow_the_memory() -> None:
    relu = [(RELU, 1, 0, 0)]
    registers = matrices(4)
    registers.insert(3, Register(FLOAT, (16,), "flat", None, 2))
    flat = Register(FLOAT, (16,), "end")
    made = [elementwise([0], 1, relu), elementwise([1], 2, relu), elementwise([3], 4, relu)]
    assert shared(module_of(made, [*registers[:4], flat])) == {2: 1, 3: 1}


CHAIN = (
    "g (float[N,{c}] x) => (float[N,{c}] y) <float[{c},{c}] w, float[{c}] s, float[{c}] b>"
    " {{ a = MatMul(x, w) n = {op} m = MatMul(n, w) k = {op2} y = MatMul(k, w) }}"
)
OPERATORS = {
    "softmax": "Softmax<axis = {axis}>({0})",
    "log_softmax": "LogSoftmax<axis = {axis}>({0})",
    "hardmax": "Hardmax<axis = {axis}>({0})",
    "layer_norm": "LayerNormalization<axis = {axis}>({0}, s, b)",
    "lp_normalize": "LpNormalization<axis = {axis}>({0})",
    "elementwise": "Erf({0})",
}


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("op", sorted(OPERATORS))
def test_every_kernel_gives_the_same_in_place(op: str, axis: int, monkeypatch: pytest.MonkeyPatch) -> None:
    if op == "layer_norm" and axis == 0:
        return
    draw = np.random.default_rng(5)
    for channels in (1, 7, 33):
        text = CHAIN.format(
            c=channels, op=OPERATORS[op].format("a", axis=axis), op2=OPERATORS[op].format("m", axis=axis)
        )
        model = models.from_text(text, opset=18)
        del model.graph.initializer[:]
        for name, dims in (("w", (channels, channels)), ("s", (channels,)), ("b", (channels,))):
            given = draw.standard_normal(dims).astype(np.float32)
            model.graph.initializer.append(onnx.numpy_helper.from_array(given, name))
        program = program_of(model, optimize=False)
        assert any(i.kernel == op for i in program.main.instructions)
        engines = []
        for is_on in (True, False):
            with monkeypatch.context() as patch:
                if not is_on:
                    patch.setattr(encode, "shared_memory", lambda module, local: {})
                made = compiled(program)
            engines += [NativeEngine(made, threads) for threads in (1, 2)]
        for rows in (1, 5, 129):
            x = draw.standard_normal((rows, channels)).astype(np.float32)
            answers = [engine.run([to_engine(x)], RunOptions())[0] for engine in engines]
            for answer in answers[1:]:
                np.testing.assert_array_equal(answer, answers[0])
        assert engines[0].arena_bytes <= engines[2].arena_bytes


def test_the_arena_is_smaller() -> None:
    text = CHAIN.format(c=64, op="LayerNormalization(a, s, b)", op2="Softmax(m)")
    model = models.from_text(text, opset=18)
    del model.graph.initializer[:]
    for name, dims in (("w", (64, 64)), ("s", (64,)), ("b", (64,))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(dims, np.float32), name))
    engine = NativeEngine(compiled(program_of(model, optimize=False)), 1)
    engine.run([to_engine(np.ones((4096, 64), np.float32))], RunOptions())
    # One value while a norm runs, two while a product does; a quarter is kept in reserve.
    assert engine.arena_bytes <= 2 * 4096 * 64 * 4 * 5 // 4 + 4096
