from __future__ import annotations

import onnx_ir as ir
import pytest

from graphopt.verification.signature import Input
from graphopt.verification.structure import all_equal, evaluate, structures

INT, FLOAT = ir.DataType.INT64, ir.DataType.FLOAT


def parts(*inputs: Input) -> list[dict[str, tuple[str, ...]]]:
    return [s.parts for s in structures(inputs)]


def test_the_first_guess_is_what_the_names_say():
    found = next(structures([Input("a", INT, ("N", "S")), Input("b", FLOAT, ("N", 3, "T"))]))
    assert found.parts == {"N": ("N",), "S": ("S",), "T": ("T",)}
    assert found.batch == {"N"}
    assert found.sizes({"N": 2, "S": 7, "T": 5}) == {"N": 2, "S": 7, "T": 5}


def test_leading_dims_are_guessed_equal_before_others():
    found = parts(Input("ids", INT, ("s0", "s1")), Input("mask", INT, ("s2", "s1")))
    assert found[1] == {"s0": ("s0",), "s1": ("s1",), "s2": ("s0",)}


def test_caches_are_guessed_equal():
    ids = Input("ids", INT, ("N", "S"))
    caches = [Input(f"past.{i}", FLOAT, ("N", 4, f"p{i}", 64)) for i in range(3)]
    assert {"N": ("N",), "S": ("S",), "p0": ("p0",), "p1": ("p0",), "p2": ("p0",)} in parts(ids, *caches)


def test_a_mask_is_guessed_as_long_as_cache_and_tokens_together():
    found = structures(
        [
            Input("ids", INT, ("N", "S")),
            Input("mask", INT, ("N", "T")),
            Input("past", FLOAT, ("N", 4, "P", 64)),
        ]
    )
    wanted = next(s for s in found if s.parts["T"] == ("S", "P"))
    assert wanted.free == ("N", "S", "P")
    assert wanted.sizes({"N": 2, "S": 7, "P": 5}) == {"N": 2, "S": 7, "T": 12, "P": 5}


def test_any_two_of_a_few_dims_are_guessed_equal():
    found = parts(Input("x", FLOAT, ("a", "b")), Input("state", FLOAT, (2, "c", 128)))
    assert {"a": ("a",), "b": ("b",), "c": ("a",)} in found


def test_no_guess_comes_twice_and_all_equal_comes_apart():
    inputs = [Input("x", FLOAT, ("a", "b", "c"))]
    found = parts(*inputs)
    assert len(found) == len({str(p) for p in found})
    assert all_equal(inputs).parts == {"a": ("a",), "b": ("a",), "c": ("a",)}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("past + seq", 12), ("2*seq", 14), ("seq//2", 3), ("seq - 1 + past", 11), ("past - seq", 0),
        ("seq", None), ("input[0]", None), ("p2o.DynamicDimension.0", None), ("a b", None),
        ("other + 1", None), ("floor(seq/2)", None), ("seq//0", None), ("", None),
    ],
)  # fmt: skip
def test_names_that_are_expressions(text, expected):
    assert evaluate(text, {"past": 5, "seq": 7}) == expected


def test_dims_named_by_an_expression_follow_the_others():
    inputs = [
        Input("ids", INT, ("N", "S")),
        Input("mask", INT, ("N", "past + S")),
        Input("p", FLOAT, ("N", "past")),
    ]
    found = next(structures(inputs))
    sizes = found.sizes({name: {"N": 2, "S": 7, "past": 5}.get(name, 99) for name in found.free})
    assert sizes["past + S"] == 12
