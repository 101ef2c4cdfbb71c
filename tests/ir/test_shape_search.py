"""Terms compute what they say, whatever the sizes, and cost what they should."""

from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.ir.dims import Dim, floordiv, maximum, minimum, mod, substitute, symbol
from graphopt.ir.dims.parts import divisions
from graphopt.ir.shape_search import TermSearch
from graphopt.ir.shape_terms import Source, Term

A, B, C = symbol("a"), symbol("b"), symbol("c", low=1)
INT64 = ir.DataType.INT64


def source(name: str, *dims: Dim, place: int = -1) -> Source:
    return Source(ir.Value(name=name), dims, place)


def evaluate(term: Term, sources: list[Source], sizes: dict[str, Dim]) -> np.ndarray:
    """What the node of a term would give, by numpy."""
    inputs = [evaluate(given, sources, sizes) for given in term.inputs]
    numbers = np.array(term.numbers, np.int64)
    if not term.op_type:
        return numbers if term.rank else numbers.reshape(())
    if term.op_type in ("Shape", "Size"):
        dims = next(s.dims for s in sources if s.value is term.source)
        found = np.array([substitute(dim, sizes) for dim in dims], np.int64)
        if term.op_type == "Size":
            return found.prod()
        return found[slice(*term.numbers)] if term.numbers else found
    if term.op_type == "Gather":
        return inputs[0][numbers if term.rank else numbers.item()]
    plain = {
        "Concat": lambda *parts: np.concatenate(parts),
        "Add": np.add,
        "Sub": np.subtract,
        "Mul": np.multiply,
        "Div": lambda x, y: np.trunc(x / y).astype(np.int64),
        "Mod": np.mod,
        "Min": lambda *xs: np.minimum.reduce(np.broadcast_arrays(*xs)),
        "Max": lambda *xs: np.maximum.reduce(np.broadcast_arrays(*xs)),
        "ReduceProd": lambda x: np.prod(x, keepdims=bool(term.rank)),
        "Squeeze": lambda x: x.reshape(()),
        "Reshape": lambda x: x.reshape(term.numbers),
        "Cast": lambda x: x.astype(ir.DataType(term.numbers[0]).numpy()),
    }
    return plain[term.op_type](*inputs)


def atoms() -> st.SearchStrategy[Dim]:
    return st.sampled_from([A, B, C, 1, 2, 3, 7, -1])


@st.composite
def expressions(draw, depth=2):
    if depth == 0 or draw(st.booleans()):
        return draw(atoms())
    left, right = draw(expressions(depth=depth - 1)), draw(expressions(depth=depth - 1))
    kind = draw(st.sampled_from(["add", "sub", "mul", "div", "mod", "min", "max"]))
    if kind == "add":
        return left + right
    if kind == "sub":
        return left - right
    if kind == "mul":
        return left * right
    if kind in ("div", "mod"):
        return (floordiv if kind == "div" else mod)(left, draw(st.sampled_from([1, 2, 3, 4])))
    return (minimum if kind == "min" else maximum)(left, right)


@settings(max_examples=300, deadline=None)
@given(
    wanted=st.lists(expressions(), min_size=1, max_size=5),
    scalar=st.booleans(),
    draw_divisions=st.sampled_from([True, True, False]),
    opset=st.sampled_from([9, 11, 13, 18]),
    sizes=st.tuples(*[st.sampled_from([0, 1, 2, 3, 5, 8])] * 3),
)
def test_terms_give_the_elements(wanted, scalar, draw_divisions, opset, sizes):
    sources = [source("x", A, B, 4), source("y", C, 2 * A, 3), source("z", A + B, floordiv(B, 2))]
    elements = tuple(wanted[:1] if scalar else wanted)
    dims = () if scalar else (len(elements),)
    allowed = {atom for element in elements if draw_divisions for atom in divisions(element)}
    found = TermSearch(sources, opset, allowed).find(elements, dims, INT64, frozenset(), 1)
    if found is None:
        return
    assert found.elements == elements
    names = {"a": sizes[0], "b": sizes[1], "c": max(sizes[2], 1)}
    given_result = evaluate(found, sources, names)
    assert given_result.shape == dims
    assert given_result.reshape(-1).tolist() == [substitute(element, names) for element in elements]


@pytest.mark.parametrize(
    ("elements", "count", "older"),
    [
        ((A, B, 4), 1, 1),  # Shape(x)
        ((A, B), 1, 2),  # Shape<end=2>(x); before: Gather(Shape(x), [0, 1])
        ((2, 3), 0, 0),
        ((A, 1, B), 3, 4),  # Shape, Shape, Concat
        ((B, A), 2, 2),  # Gather(Shape(x), [1, 0])
        ((2 * A, 2 * B), 2, 3),  # Mul(Shape<end=2>(x), 2)
        ((A * B,), 2, 3),  # ReduceProd(Shape<end=2>(x))
        ((4 * A * B,), 2, 2),  # ReduceProd(Shape(x)): the 4 is a dim
        ((A, A, A), 2, 2),
        ((floordiv(A, 2), floordiv(B, 2)), 2, 3),  # Div(Shape<end=2>(x), 2)
        ((mod(A, 2), mod(B, 3)), 2, 3),
    ],
)
def test_costs(elements, count, older):
    sources = [source("x", A, B, 4)]
    for opset, expected in ((18, count), (13, older)):
        allowed = {atom for element in elements for atom in divisions(element)}
        found = TermSearch(sources, opset, allowed).find(elements, (len(elements),), INT64, frozenset(), 1)
        assert found is not None
        assert len(found.nodes) == expected, f"{opset}: {found}"


def test_differences_of_two_values():
    sources = [source("x", A, B, 4), source("y", 2 * C, floordiv(B, 2))]
    wanted = (A - 2 * C, B - floordiv(B, 2))
    found = TermSearch(sources, 18).find(wanted, (2,), INT64, frozenset(), 1)
    assert found is not None
    assert found.op_type == "Sub" and len(found.nodes) == 3


def test_what_is_there_already_is_free():
    search = TermSearch([source("x", A, B, 4)], 18)
    first = search.find((A, 1, B), (3,), INT64, frozenset(), 1)
    assert first is not None
    scalar = search.find((B,), (), INT64, first.nodes, 1)
    assert scalar is not None
    assert len(scalar.nodes - first.nodes) == 1


def test_scalars():
    search = TermSearch([source("x", A, B, 4)], 18)
    size = search.find((4 * A * B,), (), INT64, frozenset(), 1)
    assert size is not None and size.op_type == "Size"
    one = search.find((A,), (), INT64, frozenset(), 1)
    assert one is not None and len(one.nodes) == 2 and one.rank == 0


def test_values_that_come_too_late_are_not_read():
    late = source("late", A, B, place=5)
    search = TermSearch([late], 18)
    assert search.find((A,), (1,), INT64, frozenset(), 5) is None
    found = search.find((A,), (1,), INT64, frozenset(), 6)
    assert found is not None and found.place == 5


def test_what_no_dim_tells_is_not_found():
    assert TermSearch([source("x", A)], 18).find((B,), (1,), INT64, frozenset(), 1) is None


def test_other_types_and_ranks():
    search = TermSearch([source("x", A, B, 4)], 18)
    matrix = search.find((A, B, 4, 1), (2, 2), ir.DataType.INT32, frozenset(), 1)
    assert matrix is not None
    assert [matrix.op_type, matrix.inputs[0].op_type] == ["Cast", "Reshape"]


def test_a_quotient_that_is_nowhere_computed_is_only_read():
    search = TermSearch([source("x", A, B), source("y", floordiv(A, 2))], 18)
    read = search.find((floordiv(A, 2),), (1,), INT64, frozenset(), 1)
    assert read is not None and read.op_type == "Shape"
    assert search.find((floordiv(B, 2),), (1,), INT64, frozenset(), 1) is None
    assert search.find((mod(A, 2),), (1,), INT64, frozenset(), 1).op_type == "Sub"
