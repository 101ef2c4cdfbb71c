from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from graphopt.ir.convolutions import Geometry, geometry_of, identity_like, joined
from graphopt.testing import model_from_text

WINDOWS = st.tuples(st.integers(1, 4), st.integers(0, 3), st.integers(1, 2))


def geometry(taps: int, before: int, step: int, reach: int) -> Geometry:
    return Geometry((taps,), (-before,), (step,), (1,), (reach,), 1)


def offsets(found: Geometry) -> set[int]:
    return {found.first[0] + i * found.step[0] for i in range(found.taps[0])}


@given(one=WINDOWS, other=WINDOWS, reach=st.integers(-3, 0))
def test_joined_window_holds_the_taps_of_both(one, other, reach):
    first, second = geometry(*one, reach), geometry(*other, reach)
    found = joined(first, second)
    if found is not None:
        assert offsets(first) | offsets(second) <= offsets(found)
        assert min(found.pads) >= 0
        # As many outputs as before: size + both paddings - extent of the window.
        extent = (found.taps[0] - 1) * found.step[0] + 1
        assert sum(found.pads) - extent == reach


def test_other_strides_and_reaches_do_not_join():
    assert joined(geometry(3, 1, 1, -1), geometry(3, 1, 1, -2)) is None
    assert joined(geometry(3, 1, 1, -1), Geometry((3,), (-1,), (1,), (2,), (-1,), 1)) is None
    assert joined(geometry(2, 0, 2, -1), geometry(2, 1, 2, -1)) is None


def test_geometry_as_written():
    text = (
        "g (float[N,2,L] x) => (float[N,2,M] y) <float[2,1,3] w = {1,2,3,4,5,6}> "
        "{ y = Conv <group = 2, dilations = [2], pads = [1,4], strides = [3]> (x, w) }"
    )
    found = geometry_of(next(iter(model_from_text(text).graph)))
    assert found == Geometry((3,), (-1,), (2,), (3,), (0,), 2)
    assert found.pads == [1, 4]
    assert identity_like(found).pads == [0, 0]
    same = text.replace("pads = [1,4]", 'auto_pad = "SAME_UPPER"')
    assert geometry_of(next(iter(model_from_text(same).graph))) is None
    assert np.prod(found.taps) == 3
