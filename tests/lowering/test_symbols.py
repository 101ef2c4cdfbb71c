"""Which symbols are told by sizes that are found."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.dims import Dim, broadcast, floordiv, low, maximum, minimum, mod, substitute, symbol
from graphopt.lowering.symbols import SymbolTable
from tests.lowering.comparing import assert_same, program

N, M, K = symbol("N"), symbol("M", 1), symbol("K", None)


def told(dim: Dim, *known: Dim) -> tuple[str, Dim, Dim] | None:
    table = SymbolTable()
    for of in known:
        assert table.define(of) is not None
    return table.define(dim)


@pytest.mark.parametrize(
    ("dim", "known", "found"),
    [
        (N, (), ("N", 1, 0)),
        (N * 2 + 3, (), ("N", 2, 3)),
        (5 - N, (), ("N", -1, 5)),
        (N + M - 1, (M,), ("N", 1, M - 1)),
        (N * M + M, (M,), ("N", M, M)),
        (N + floordiv(M, 2), (M,), ("N", 1, floordiv(M, 2))),
        (N * -3 * M, (M,), ("N", M * -3, 0)),
    ],
)
def test_linear_sizes_tell_their_symbol(
    dim: Dim, known: tuple[Dim, ...], found: tuple[str, Dim, Dim]
) -> None:
    assert told(dim, *known) == found


@pytest.mark.parametrize(
    ("dim", "known"),
    [
        (7, ()),
        (N, (N,)),
        (N + M, ()),
        (N * N, ()),
        (floordiv(N, 2), ()),
        (mod(N, 4) + N, ()),
        (minimum(N, 10**9), ()),
        (maximum(K, 0), ()),
        (maximum(K, -5) + 1, ()),
        (broadcast(N, M), (M,)),
        (N + floordiv(N, 3), ()),
        # A weight of 0 tells nothing.
        (M * N, (N,)),
        (M * (N - 1), (N,)),
        (M * K + 1, (K,)),
    ],
)
def test_other_sizes_tell_nothing(dim: Dim, known: tuple[Dim, ...]) -> None:
    assert told(dim, *known) is None


def weights(depth: int = 2) -> st.SearchStrategy[Dim]:
    """Expressions over M and L."""
    leaves = st.one_of(st.integers(-5, 5), st.sampled_from([M, symbol("L", 2)]))
    return st.recursive(
        leaves,
        lambda parts: st.builds(
            lambda a, b, op: op(a, b),
            parts,
            parts,
            st.sampled_from(
                [lambda a, b: a + b, lambda a, b: a * b, minimum, lambda a, b: floordiv(a, 3) + b]
            ),
        ),
        max_leaves=2**depth,
    )


@given(weight=weights(), rest=weights(), n=st.integers(0, 9), m=st.integers(1, 9), k=st.integers(2, 9))
def test_a_told_symbol_is_what_it_was(weight: Dim, rest: Dim, n: int, m: int, k: int) -> None:
    table = SymbolTable()
    table.define(M)
    table.define(symbol("L", 2))
    dim = weight * symbol("S") + rest
    found = table.define(dim)
    if found is None:
        is_never_zero = (type(weight) is int and weight != 0) or (low(weight) or 0) > 0
        assert not is_never_zero
        return
    values: dict[str, int | Dim] = {"S": n, "M": m, "L": k}
    name, factor, base = (found[0], *(substitute(part, values) for part in found[1:]))
    size = substitute(dim, values)
    assert name == "S" and isinstance(size, int) and isinstance(base, int) and isinstance(factor, int)
    assert divmod(size - base, factor) == (n, 0)


def test_definitions_hold_in_their_scope() -> None:
    table = SymbolTable()
    table.define(N)
    scope = table.scope()
    assert table.define(M) is not None
    table.equate(K, N + 1)
    assert table.is_defined(N + M) and table.resolved(K) == N + 1
    table.leave(scope)
    assert table.is_defined(N) and not table.is_defined(M) and table.resolved(K) is K
    assert table.define(M) is not None


def test_a_definition_taken_back_can_be_made_again() -> None:
    table = SymbolTable()
    assert table.define(N) is not None and table.define(N) is None
    table.undefine("N")
    assert table.define(N * 2) == ("N", 2, 0)


def test_sizes_with_two_names_are_one() -> None:
    table = SymbolTable()
    table.equate(K, N)
    assert table.resolved(K) is K, "N is not known"
    table.define(N)
    table.equate(K - 2, N)
    assert table.resolved(K * 2) == N * 2 + 4
    table.equate(M, K)
    assert table.resolved(M) is M, "K itself is not defined"


def test_number_of_trips_where_each_adds_nothing() -> None:
    """What a loop appends may be empty: its result's length does not tell how often it ran."""
    graph = """g (float[N] x) => (float[s] v, float[t] y) {
        n = Constant<value = int64 {3}>() zero = Constant<value = float {0.0}>()
        m = Greater(x, zero) p = Compress<axis = 0>(x, m)
        y, v = Loop(n, , p) <body = b (int64 i, bool k, float[N] a) => (bool ko, float[M] ao, float t) {
            ko = Identity(k) q = Neg(p) ao = Concat<axis=0>(a, q) f = Cast<to = 1>(i)
            s = ReduceSum<keepdims = 0>(ao) t = Add(s, f) }>
    }"""
    assert all(type(d.weight) is int for d in program(graph).main.definitions)
    assert_same(graph, *({"x": np.array(x, np.float32)} for x in ([-1, -2], [1, -2, 3], [])))
