import itertools

from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.flows import Network

EDGES = st.lists(st.tuples(st.integers(0, 5), st.integers(0, 5), st.integers(1, 3)), max_size=14)


@given(EDGES)
def test_no_other_cut_is_cheaper(edges):
    network = Network()
    for _ in range(4):
        network.vertex()
    for edge in edges:
        network.edge(*edge)
    price, side = network.cut()

    def cost(chosen):
        return sum(capacity for a, b, capacity in edges if a in chosen and b not in chosen)

    sides = [{0, *more} for n in range(5) for more in itertools.combinations(range(2, 6), n)]
    assert price == cost(side) == min(cost(chosen) for chosen in sides)
    assert all(side <= chosen for chosen in sides if cost(chosen) == price)


def test_a_long_chain():
    network = Network()
    last = Network.SOURCE
    for _ in range(5000):
        vertex = network.vertex()
        network.edge(last, vertex, 2)
        last = vertex
    network.edge(last, Network.SINK, 1)
    assert network.cut()[0] == 1
