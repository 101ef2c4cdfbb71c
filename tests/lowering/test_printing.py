"""A Program's text: readable, and the same Program when it is read again."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from graphopt.errors import ModelError
from graphopt.ir.dims import broadcast, floordiv, maximum, minimum, symbol
from graphopt.ir.load import load
from graphopt.lowering.lower import lower
from graphopt.lowering.printing import printed
from graphopt.lowering.program import (
    ABSENT,
    Constant,
    Definition,
    Growing,
    Instruction,
    Module,
    Program,
    Register,
    Source,
)
from graphopt.lowering.reading import read
from graphopt.runtime.compilation import program_of
from tests.runtime import models


def assert_reads_back(program: Program) -> str:
    text = printed(program)
    again = read(text, program.constants, program.defaults)
    assert again == program
    assert printed(again) == text
    return text


def everything() -> Program:
    """A program with all that the text can say, odd names among it."""
    n, m = symbol("N"), symbol("batch size/2", 1, 64)
    twin = symbol("N", 3)
    lambda_ = symbol("lambda")
    odd = floordiv(n * 3 + m, 4) * 2 - minimum(n, m) + broadcast(n, m) - 7
    body = Module("then_branch")
    body.add(Register(1, (n, 4), 'inner "name"'))
    body.add(Register(0, None, "", is_sized=False))
    body.captures = [(0, 0)]
    body.outputs = [1]
    body.instructions = [Instruction("sequence.construct", [0], [1], nodes=("a b", "c,d", "#"))]
    main = Module("main")
    main.add(Register(1, (n, 4), "x"))
    main.add(Register(1, (256, 256), "w", constant=0))
    main.add(Register(2, None, "packed", constant=1))
    main.add(Register(1, (odd, 1), "", strides=(4, n)))
    main.add(Register(1, (m,), "v", (1,), base=3, offset=n * m + 1))
    main.add(Register(7, (maximum(n, 2), twin, lambda_), "z", is_sized=False))
    main.add(Register(0, None, "seq"))
    main.add(Register(16, (), "unused"))
    main.inputs, main.outputs = [0], [5, 6, 0]
    main.definitions = [
        Definition("N", 0, Source.DIM, 0),
        Definition("batch size/2", 5, Source.ELEMENT, 3, 4, n * 2 - 1),
    ]
    main.growing = [Growing(0, 1, n + 1)]
    main.instructions = [
        Instruction(
            "gemm.f32", [0, 1, 2, ABSENT], [3], (1, -2, n), (0.5, float("inf"), -1e-30), nodes=("m/1",)
        ),
        Instruction("elementwise", [4], [ABSENT, 5], data=b"\x00\x01\xff", is_dynamic=True),
        Instruction("tap", [5], [], data=b'shown "so"'),
        Instruction("if", [0], [6], bodies=(body, Module("else_branch", outputs=[ABSENT]))),
        Instruction("copy", [3], [4]),
    ]
    constants = [
        Constant((np.zeros((256, 256), np.float32),), (1,)),
        Constant((np.zeros(3, np.int8),), (3,), "p"),
    ]
    return Program(
        main,
        constants,
        ("x",),
        ("z", "the sequence", "x"),
        (("N", 4),),
        ((None, 2, "a, b"), None, ()),
        (("ai.onnx.ml::TreeEnsemble", "there is no kernel"),),
        {},
        ("tensor(float)",),
        ("tensor(int64)", "seq(tensor(float))", "tensor(float)"),
    )


def test_all_that_can_be_said() -> None:
    text = assert_reads_back(everything())
    assert "  %3 float32[" in text
    assert " = gemm.f32 %0, %1, %2, - (1, -2, N) {0.5, inf, -1e-30}  # m/1" in text


def test_what_a_reader_sees() -> None:
    text = assert_reads_back(program_of(models.from_text(models.CHAIN), optimize=False))
    lines = text.splitlines()
    assert lines[:3] == ["program", '  input x tensor(float) ["N", 4]', '  output y tensor(float) ["N", 4]']
    assert "  main(%0) -> (" in text
    assert '    %0 float32[N, 4] "x"' in lines
    assert "    where N = %0 dim 0" in lines


@pytest.mark.parametrize("optimize", [True, False])
def test_programs_of_models_read_back(optimize: bool) -> None:
    for model in (models.loop(), models.perceptron()):
        assert_reads_back(program_of(model, optimize=optimize))
    assert_reads_back(program_of(models.loop(), keep=["repeat:body/negative"], optimize=optimize))
    assert_reads_back(program_of(models.loop(), is_plain=True))


@pytest.mark.slow
def test_programs_of_real_models_read_back(zoo: Path) -> None:
    for path in sorted(zoo.glob("*.onnx")):
        assert_reads_back(lower(load(path)))


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("program", "model", 1),
        ("gemm.f32 %0", "gemm.f32 %0 %1", 9),
        ("float32[256, 256]", "float31[256, 256]", 8),
        ("where N = %0 dim 0", "where N = %0 dims 0", 12),
        ("(1, -2, N)", "(1, -2, K)", 9),
    ],
)
def test_damaged_text_is_refused(old: str, new: str, line: int) -> None:
    text = printed(everything())
    assert old in text
    with pytest.raises(ModelError, match=r"line \d+ of the program's text: "):
        read(text.replace(old, new, 1))
