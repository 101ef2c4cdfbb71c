import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.dims import symbol
from graphopt.ir.regions import Movement, depth_to_space, space_to_depth

B, H, T, D = (symbol(name) for name in "bhtd")


def moved(movement: Movement, x: np.ndarray) -> np.ndarray:
    """What a map with known dims does to an array."""
    cut = x.reshape(movement.factors)
    return cut.transpose(movement.order).reshape(movement.result)


def test_heads_are_never_joined():
    joined = Movement.of((B, H, T, D)).relabelled((B * H, T, D))
    swapped = joined.transposed((0, 2, 1))
    assert swapped.result == (B * H, D, T)
    split = swapped.relabelled((B, H, D, T))
    assert split.same_as(Movement.of((B, H, T, D)).transposed((0, 1, 3, 2)))


def test_there_and_back_moves_nothing():
    there = Movement.of((B, T, 4 * D)).relabelled((B, T, 4, D)).transposed((0, 2, 1, 3))
    back = there.transposed((0, 2, 1, 3)).relabelled((B, T, 4 * D))
    assert back.keeps_order and back.result == (B, T, 4 * D)


def test_neighbours_are_cut_anew():
    assert Movement.of((4, 6, B)).relabelled((6, 4, B)).keeps_order


def test_no_cut_in_common():
    assert Movement.of((8, 6)).transposed((1, 0)).relabelled((4, 12)) is None
    assert Movement.of((T, H)).transposed((1, 0)).relabelled((T, H)) is None
    assert Movement.of((4, 6)).relabelled((5,)) is None


def test_pixel_shuffle_has_one_map():
    x = Movement.of((B, 4 * D, H, T))
    parts = x.relabelled((B, D, 2, 2, H, T)).transposed((0, 1, 4, 2, 5, 3)).relabelled((B, D, H * 2, T * 2))
    assert parts.same_as(depth_to_space(x, 2, "CRD"))
    assert not parts.same_as(depth_to_space(x, 2, "DCR"))
    assert depth_to_space(x, 3, "CRD") is None


def test_space_to_depth_undoes_depth_to_space():
    x = Movement.of((B, 4 * D, H, T))
    assert space_to_depth(depth_to_space(x, 2, "DCR"), 2).keeps_order
    assert space_to_depth(x, 2) is None


@st.composite
def chains(draw):
    """Dims and steps of a chain in which every Reshape is legal."""
    dims = tuple(draw(st.lists(st.sampled_from([0, 1, 1, 2, 3, 4, 6]), min_size=1, max_size=4)))
    steps, shape = [], dims
    for _ in range(draw(st.integers(1, 5))):
        if draw(st.booleans()):
            perm = tuple(draw(st.permutations(range(len(shape)))))
            steps.append(perm)
            shape = tuple(shape[axis] for axis in perm)
        else:
            shape = draw(st.sampled_from(_shapes_of(shape)))
            steps.append([*shape])
    return dims, steps


def _shapes_of(shape):
    """Other shapes of as many elements: neighbours joined, dims cut, dims of 1 put in or taken out."""
    found = [shape, (*shape, 1), (1, *shape), tuple(d for d in shape if d != 1)]
    for i in range(len(shape) - 1):
        found.append((*shape[:i], shape[i] * shape[i + 1], *shape[i + 2 :]))
    for i, dim in enumerate(shape):
        found += [(*shape[:i], f, dim // f, *shape[i + 1 :]) for f in (2, 3) if dim and dim % f == 0]
    return found


@given(chains())
def test_maps_do_what_the_operators_do(chain):
    dims, steps = chain
    x = np.arange(np.prod(dims, dtype=int)).reshape(dims)
    movement, wanted = Movement.of(dims), x
    for step in steps:
        movement = movement.relabelled(tuple(step)) if isinstance(step, list) else movement.transposed(step)
        wanted = wanted.reshape(step) if isinstance(step, list) else wanted.transpose(step)
        if movement is None:
            return  # A cut that is not there; what is found must be right.
        assert movement.result == wanted.shape
    np.testing.assert_array_equal(moved(movement, x), wanted)
