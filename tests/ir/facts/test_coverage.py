"""Every operator of the standard has an entry, and the entries fit together."""

from __future__ import annotations

import onnx.defs
import pytest

from graphopt.ir.facts import all_operators, find
from graphopt.ir.facts.registry import Operator, register

# Operators of onnx.defs without an entry: none. A new onnx that brings some makes this test fail,
# and until they are understood they stand here (unknown operators are impure and stay as they are).
WITHOUT_ENTRY: set[tuple[str, str]] = set()


def test_operators_of_the_standard_have_entries():
    known = {(schema.domain, schema.name) for schema in onnx.defs.get_all_schemas_with_history()}
    assert {key for key in known if find(*key) is None} == WITHOUT_ENTRY


def test_random_operators_are_not_pure():
    assert {entry.name for entry in all_operators() if entry.random and entry.pure} == set()
    assert {entry.name for entry in all_operators() if entry.random and entry.domain == ""} == {
        *("Bernoulli", "Dropout", "Multinomial", "RandomNormal", "RandomNormalLike"),
        *("RandomUniform", "RandomUniformLike"),
    }


def test_every_entry_infers():
    assert [entry.name for entry in all_operators() if entry.infer is None] == []


def test_commutative_operators_are_those_of_arithmetic():
    commutative = {entry.name for entry in all_operators() if entry.commutative and entry.domain == ""}
    assert commutative >= {"Add", "Mul", "Min", "Max", "Sum", "Mean", "Equal", "And", "Or", "Xor"}
    assert not commutative & {"Sub", "Div", "Pow", "Less", "Greater", "MatMul", "Concat", "Where"}


def test_a_second_entry_is_an_error():
    with pytest.raises(ValueError, match="two entries"):
        register(Operator("Add"))
