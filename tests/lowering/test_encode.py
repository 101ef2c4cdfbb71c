"""Sizes as the engine computes them: what Python makes of the same expressions."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.errors import ExecutionError
from graphopt.ir.dims import Dim, broadcast, floordiv, maximum, minimum, mod, substitute, symbol, symbols
from graphopt.lowering.encode import FORMAT, encode
from graphopt.lowering.program import Definition, Instruction, Module, Program, Register, Source
from graphopt.runtime.arrays import to_engine
from graphopt.runtime.compilation import compiled
from graphopt.runtime.native import NativeEngine
from graphopt.runtime.options import RunOptions

INT64 = 7
NAMES = ("A", "B", "C")
SYMBOLS = tuple(symbol(name, None) for name in NAMES)


def program_of(expressions: list[Dim]) -> Program:
    """A program of three numbers, whose answer holds the expressions."""
    main = Module("main")
    for name in NAMES:
        main.inputs.append(main.add(Register(INT64, (), name)))
    main.definitions = [Definition(name, i, Source.ELEMENT, 0) for i, name in enumerate(NAMES)]
    main.outputs = [main.add(Register(INT64, (len(expressions),), "y"))]
    main.instructions = [Instruction("values", [], [3], tuple(expressions))]
    types = ("tensor(int64)",)
    return Program(main, [], NAMES, ("y",), ((), (), ()), ((len(expressions),),), (), {}, types * 3, types)


def computed(expressions: list[Dim], values: tuple[int, int, int]) -> list[int]:
    engine = NativeEngine(compiled(program_of(expressions)), 1)

    (y,) = engine.run([to_engine(np.array(v, np.int64)) for v in values], RunOptions())
    assert isinstance(y, np.ndarray)
    return [int(v) for v in y]


def joined(a: Dim, b: Dim) -> Dim:
    """The broadcast; numbers that are known to have none are added."""
    try:
        return broadcast(a, b)
    except ValueError:
        return a + b


def sums(parts: st.SearchStrategy[Dim]) -> st.SearchStrategy[Dim]:
    two = [
        lambda a, b: a + b,
        lambda a, b: a - b,
        lambda a, b: a * b,
        minimum,
        maximum,
        joined,
        lambda a, b: floordiv(a, maximum(b, 1)),
    ]
    return st.one_of(
        st.builds(lambda a, b, op: op(a, b), parts, parts, st.sampled_from(two)),
        st.builds(
            lambda a, n, op: op(a, n),
            parts,
            st.sampled_from([1, 2, 3, 7, -2, -3]),
            st.sampled_from([floordiv, mod]),
        ),
    )


EXPRESSIONS = st.recursive(st.one_of(st.integers(-9, 9), st.sampled_from(SYMBOLS)), sums, max_leaves=6)
NUMBERS = st.integers(-12, 12)


@given(expressions=st.lists(EXPRESSIONS, min_size=1, max_size=4), values=st.tuples(NUMBERS, NUMBERS, NUMBERS))
def test_the_engine_computes_what_python_does(expressions: list[Dim], values: tuple[int, int, int]) -> None:
    known: dict[str, int | Dim] = dict(zip(NAMES, values, strict=True))
    expected: list[Dim] = []
    for expression in expressions:
        try:
            expected.append(substitute(expression, known))
        except (ValueError, ZeroDivisionError):
            return  # dims that do not broadcast
    if not all(type(e) is int for e in expected):
        return  # a broadcast of numbers that are no dims
    assert computed(expressions, values) == expected


def test_dims_that_do_not_broadcast_are_told() -> None:
    with pytest.raises(ExecutionError, match="dims 2 and 3 do not broadcast"):
        computed([broadcast(SYMBOLS[0], SYMBOLS[1])], (2, 3, 0))


@pytest.mark.parametrize("dim", [SYMBOLS[0] * SYMBOLS[1], SYMBOLS[0] + SYMBOLS[1]])
def test_sizes_that_overflow_are_told(dim: Dim) -> None:
    with pytest.raises(ExecutionError, match="a size overflows"):
        computed([dim], (2**62, 2**62, 0))


def test_quotient_by_0_belongs_to_an_empty_tensor() -> None:
    assert computed([floordiv(SYMBOLS[0], SYMBOLS[1])], (5, 0, 0)) == [0]


def test_each_expression_and_text_stands_once() -> None:
    a, b, _ = SYMBOLS
    once = encode(program_of([floordiv(a * b + 1, 2)]))
    twice = encode(program_of([floordiv(a * b + 1, 2)] * 2))
    assert len(twice.words) == len(once.words) + 1, "one number more in the list of integers"
    assert len(set(twice.texts)) == len(twice.texts)
    assert twice.words[0] == FORMAT


def test_symbols_that_nothing_uses_are_left_out() -> None:
    """Those that the kernels read, and what these are told by."""
    tables = encode(program_of([SYMBOLS[1] * 2]))
    assert tables.words[1] == 1 and tables.texts[tables.words[2]] == "B"
    assert symbols(SYMBOLS[1] * 2) == ("B",)


@pytest.mark.parametrize("cut", [1, 5, 20, 60])
def test_tables_that_are_cut_off_are_refused(cut: int) -> None:
    from graphopt.kernels import _engine

    tables = encode(program_of([SYMBOLS[0] + 1]))
    assert cut < len(tables.words)
    with pytest.raises(ExecutionError, match="program"):
        _engine.Engine(tables.words[:-cut], tables.texts, tables.blobs, [], 1, 0, 0)


def test_tables_with_one_number_changed_do_no_harm() -> None:
    """Each is refused, or is another program."""
    from graphopt.kernels import _engine

    tables = encode(program_of([SYMBOLS[0] + 1, SYMBOLS[1]]))
    for place in range(len(tables.words)):
        for value in (-1, 10**6, 2**40):
            words = tables.words.copy()
            words[place] = value
            try:
                _engine.Engine(words, tables.texts, tables.blobs, [], 1, 0, 0)
            except ExecutionError:
                continue
