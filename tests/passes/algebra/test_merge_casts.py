from __future__ import annotations

import pytest

from graphopt.passes.algebra.merge_casts import ROUNDS, WRAPS
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "merge-casts"
CODES = {
    "float": 1,
    "uint8": 2,
    "int8": 3,
    "int32": 6,
    "int64": 7,
    "bool": 9,
    "float16": 10,
    "double": 11,
    "bfloat16": 16,
}


def chain(*types):
    """x in the first type, cast to the second and the third, and something after that."""
    first, middle, last = types
    return (
        f"g ({first}[N] x) => ({last}[N] y) {{ a = Cast <to = {CODES[middle]}> (x)  "
        f"b = Cast <to = {CODES[last]}> (a)  y = {'Not' if last == 'bool' else 'Abs'} (b) }}"
    )


def once(first, last):
    cast, value = ("", "x") if first == last else (f"b = Cast <to = {CODES[last]}> (x)", "b")
    return (
        f"g ({first}[N] x) => ({last}[N] y) {{ {cast}  y = {'Not' if last == 'bool' else 'Abs'} ({value}) }}"
    )


@pytest.mark.parametrize(
    "types",
    [
        ("int32", "int64", "float"),
        ("bool", "int64", "bool"),
        ("bool", "float", "int32"),
        ("float", "double", "float"),
        ("float16", "float", "double"),
        ("int8", "float", "int32"),
        ("int32", "int64", "int8"),
        ("uint8", "int32", "bool"),
    ],
)
def test_middle_type_goes(types):
    assert_rewrites(PASS, chain(*types), once(types[0], types[2]))


@pytest.mark.parametrize(
    ("types", "reason"),
    [
        (("float", "float16", "float"), ROUNDS),
        (("float", "bfloat16", "float"), ROUNDS),
        (("float16", "bfloat16", "float"), ROUNDS),
        (("int64", "int32", "int64"), ROUNDS),
        (("int64", "double", "int64"), ROUNDS),
        (("int32", "float", "int32"), ROUNDS),
        (("int8", "uint8", "int32"), ROUNDS),
        (("float", "int64", "float"), ROUNDS),
        (("int64", "bool", "int64"), ROUNDS),
        (("int8", "float", "uint8"), WRAPS),
    ],
)
def test_leaves_alone(types, reason):
    assert_rejects(PASS, chain(*types), reason)


@pytest.mark.parametrize(
    ("inputs", "operator"),
    [
        ("", "Gather <axis = 1> (x, {0})"),
        ("", "GatherElements <axis = 0> (x, {0})"),
        (", float[2,2] u", 'ScatterElements <axis = 1, reduction = "add"> (x, {0}, u)'),
    ],
)
def test_indices_are_taken_as_they_are(inputs, operator):
    head = f"g (float[4,4] x, int32[2,2] i{inputs}) => (float y)"
    assert_rewrites(
        PASS,
        f"{head} {{ j = Cast <to = 7> (i)  y = {operator.format('j')} }}",
        f"{head} {{ y = {operator.format('i')} }}",
        runs=False,
    )


@pytest.mark.parametrize(
    "body",
    [
        "j = Cast <to = 7> (k)  y = Gather(x, j)  z = Neg(j)",
        "j = Cast <to = 7> (i)  n = Unsqueeze(j, [2])  y = GatherND(x, n)  z = Shape(i)",
        "j = Cast <to = 7> (i)  y = Gather(x, j)  z = Neg(j)",
    ],
)
def test_indices_of_other_types_stay(body):
    assert_rejects(PASS, f"g (float[4,4] x, int32[2,2] i, int16[2,2] k) => (float y, int64 z) {{ {body} }}")
