"""Segments of a module, and which registers live within one."""

from __future__ import annotations

import pytest

from graphopt.ir.dims import symbol
from graphopt.lowering.program import Definition, Instruction, Module, Register, Source
from graphopt.lowering.schedule import Schedule, is_boundary, schedule, used_symbols
from tests.lowering.comparing import program

N, U = symbol("N"), symbol("U")


def chain(*kernels: str, dynamic: tuple[int, ...] = ()) -> Module:
    """x -> instruction -> ... -> y; those of the given numbers compute sizes."""
    module = Module("main")
    module.inputs = [module.add(Register(1, (N,), "x"))]
    module.definitions = [Definition("N", 0, Source.DIM, 0)]
    for number, kernel in enumerate(kernels):
        made = module.add(Register(1, (N,)))
        module.instructions.append(Instruction(kernel, [made - 1], [made], is_dynamic=number in dynamic))
    module.outputs = [len(module.registers) - 1]
    return module


def cut(module: Module) -> Schedule:
    return schedule(module, used_symbols(module))


def shape(plan: Schedule) -> list[tuple[int, int, bool]]:
    return [(s.first, s.count, s.is_boundary) for s in plan.segments]


@pytest.mark.parametrize(
    "kernel", ["if", "loop", "scan", "reference", "tap", "sequence.at", "optional.get", "sequence.construct"]
)
def test_what_the_engine_does_itself_stands_alone(kernel: str) -> None:
    module = chain("copy", kernel, "copy", "copy")
    assert is_boundary(module.instructions[1])
    assert shape(cut(module)) == [(0, 1, False), (1, 1, True), (2, 2, False)]


def test_what_computes_sizes_stands_alone() -> None:
    assert shape(cut(chain("copy", "copy", "compress", dynamic=(2,)))) == [(0, 2, False), (2, 1, True)]


def test_a_module_of_kernels_is_one_segment() -> None:
    plan = cut(chain("copy", "softmax", "copy"))
    assert shape(plan) == [(0, 3, False)]
    assert [d.symbol for d in plan.entry] == ["N"]
    assert plan.local == [False, True, True, False], "input and output are kept"
    assert plan.segments[0].dead == []


def test_nothing_to_run() -> None:
    module = chain()
    assert shape(cut(module)) == []


def test_a_told_element_ends_the_segment() -> None:
    module = chain("copy", "cast", "expand", "copy")
    module.definitions.append(Definition("U", 2, Source.ELEMENT, 0))
    module.registers[3].dims = (U,)
    plan = cut(module)
    assert shape(plan) == [(0, 2, False), (2, 2, False)]
    assert [d.symbol for d in plan.segments[0].definitions] == ["U"]
    assert not plan.local[2], "it is read when the segment has run"


def test_a_symbol_that_nobody_reads_ends_nothing() -> None:
    module = chain("copy", "cast", "copy")
    module.definitions.append(Definition("U", 2, Source.ELEMENT, 0))
    assert shape(cut(module)) == [(0, 3, False)]


def test_kept_registers_die_with_their_last_reader() -> None:
    plan = cut(chain("copy", "compress", "copy", "reference", "copy", dynamic=(1,)))
    assert shape(plan) == [(0, 1, False), (1, 1, True), (2, 1, False), (3, 1, True), (4, 1, False)]
    assert [s.dead for s in plan.segments] == [[], [1], [2], [3], [4]]
    assert not any(plan.local)


def test_a_look_keeps_the_memory_behind_it() -> None:
    module = chain("copy", "compress", "copy", dynamic=(1,))
    look = module.add(Register(1, (N,), strides=(1,), base=1))
    module.instructions[2].inputs = [look]
    plan = cut(module)
    assert [s.dead for s in plan.segments] == [[], [2], [1]]
    assert not plan.local[look] and not plan.local[1]


def test_what_a_body_captures_is_kept_until_it_has_run() -> None:
    module = chain("copy", "if", "copy")
    body = Module("then_branch", [Register(1, (N,))], outputs=[0], captures=[(1, 0)])
    module.instructions[1].bodies = (body,)
    module.instructions[1].inputs = [0]
    plan = cut(module)
    assert not plan.local[1]
    assert plan.segments[1].dead == [1]


def test_an_input_never_dies_within() -> None:
    plan = cut(chain("reference", "copy", "copy"))
    assert all(0 not in s.dead for s in plan.segments)


def test_symbols_of_bodies_are_used() -> None:
    module = chain("if")
    body = Module("then_branch", [Register(1, (U * 2,))], outputs=[0])
    module.instructions[0].bodies = (body,)
    assert used_symbols(module) == {"N", "U"}


def test_definition_of_a_captured_size_comes_first() -> None:
    main = program("""g (float[N] x, bool c) => (float[M] y) {
        zero = Constant<value = float {0.0}>() m = Greater(x, zero) p = Compress<axis = 0>(x, m)
        y = If(c) <then_branch = t () => (float[M] a) { a = Neg(p) }, else_branch = e () => (float[M] b) { b = Exp(p) }>
    }""").main
    plan = cut(main)
    assert [s.is_boundary for s in plan.segments] == [False, True, True]
    (told,) = plan.segments[1].definitions
    assert main.root(told.register) == main.instructions[plan.segments[1].first].outputs[0]
