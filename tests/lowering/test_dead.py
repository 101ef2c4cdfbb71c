"""What nobody reads is not run."""

from __future__ import annotations

import numpy as np
import pytest

from graphopt.lowering.passes.dead import remove_dead
from graphopt.lowering.program import Instruction, Module, Register
from tests.lowering.comparing import assert_same, instructions, program

CUT = "zero = Constant<value = float {0.0}>() m = Greater(x, zero) p = Compress<axis = 0>(x, m)"


def module(*kernels: tuple[str, list[int], list[int]]) -> Module:
    """Instructions over registers of which 0 is the input and 1 the output."""
    made = Module("main", [Register(1, (2,)) for _ in range(6)], inputs=[0], outputs=[1])
    made.instructions = [Instruction(*kernel) for kernel in kernels]
    remove_dead(made)
    return made


def kernels(of: Module) -> list[str]:
    return [i.kernel for i in of.instructions]


def test_instruction_without_a_reader_goes_and_what_only_it_reads() -> None:
    assert kernels(module(("neg", [0], [2]), ("exp", [2], [3]), ("abs", [0], [1]))) == ["abs"]


def test_instruction_of_which_one_output_is_read_stays() -> None:
    assert kernels(module(("topk", [0], [2, 1]), ("exp", [2], [3]))) == ["topk"]


def test_instruction_that_writes_a_part_stays() -> None:
    made = Module(
        "main", [Register(1, (4,)), Register(1, (4,)), Register(1, (2,), base=1)], inputs=[0], outputs=[1]
    )
    made.instructions = [Instruction("copy", [0], [2])]
    remove_dead(made)
    assert kernels(made) == ["copy"]


def test_tap_stays() -> None:
    assert kernels(module(("neg", [0], [2]), ("tap", [2], []), ("abs", [0], [1]))) == ["neg", "tap", "abs"]


def test_output_that_is_the_input_needs_nothing() -> None:
    made = Module("main", [Register(1, (2,)), Register(1, (2,))], inputs=[0], outputs=[0])
    made.instructions = [Instruction("neg", [0], [1])]
    remove_dead(made)
    assert made.instructions == []


def test_what_only_a_dead_branch_captures_goes() -> None:
    graph = """g (float[N] x, bool c) => (float[N] y) {
        h = Exp(x)
        d = If(c) <then_branch = t () => (float[N] a) { a = Neg(h) }, else_branch = e () => (float[N] b) { b = Abs(h) }>
        y = Sin(x) }"""
    assert [i.kernel for i in instructions(program(graph))] == ["elementwise"]


def test_captures_that_a_body_does_not_use_go() -> None:
    graph = """g (float[N] x, int64 n) => (float[N] y) {
        h = Exp(x)
        y = Loop(n, , x) <body = b (int64 i, bool k, float[N] a) => (bool ko, float[N] ao)
            { ko = Identity(k) unused = Neg(h) ao = Add(a, x) }> }"""
    main, body = program(graph).main.walk()
    assert kernels(main) == ["loop"] and kernels(body) == ["elementwise"]
    assert len(body.captures) == 1
    assert_same(graph, {"x": np.ones(2, np.float32), "n": np.array(3)})


@pytest.mark.parametrize("used", [True, False])
def test_what_tells_a_size_that_is_used_stays(used: bool) -> None:
    graph = f"""g (float[N] x) => (float[M] y, int64 s) {{ {CUT} q = Exp(p)
        d = Shape(q) z = Constant<value = int64 {{0}}>() s0 = Gather(d, z) s = Add(s0, s0) y = {"Neg(p)" if used else "Neg(x)"} }}"""
    assert len(instructions(program(graph), "compress")) == 1, "s is computed of it"
    assert_same(graph, {"x": np.float32([1, -1, 2])}, {"x": np.float32([-1])})


def test_what_tells_a_size_that_nothing_uses_goes() -> None:
    graph = f"g (float[N] x) => (float[N] y) {{ {CUT} q = Exp(p) y = Neg(x) }}"
    assert [i.kernel for i in instructions(program(graph))] == ["elementwise"]
