import pytest

from graphopt.passes.movement.remove_grid_indices import IS_SHARED, NOT_A_BLOCK
from graphopt.testing import assert_rejects, assert_rewrites

PASS = "remove-grid-indices"
SIZES = [{"B": 2, "T": 3}, {"B": 1, "T": 1}, {"B": 0, "T": 2}]

ROWS = "nb = Shape <end = 1> (x)  b = Squeeze(nb)  r = Range(0, b, 1)"
COLUMNS = "nt = Shape <start = 1, end = 2> (x)  t = Squeeze(nt)  c = Range(0, t, 1)"


def _grid(rows: str, columns: str, axes: tuple[str, str] = ("[1,2,3]", "[0,1,2]")) -> str:
    """Positions [B,1,1,T,2] as torch writes them."""
    return f"""{rows}  {columns}
        r4 = Unsqueeze(r, {axes[0]})  c4 = Unsqueeze(c, {axes[1]})
        m = Max(r4, c4)  s = Shape(m)
        re = Expand(r4, s)  ce = Expand(c4, s)
        ru = Unsqueeze(re, [-1])  cu = Unsqueeze(ce, [-1])
        grid = Concat <axis = -1> (ru, cu)"""


def test_whole_mask_is_an_unsqueeze():
    assert_rewrites(
        f"{PASS},remove-dead-code",
        before=f"""g (float[B,T] x) => (float[B,1,1,T] y) {{
            {_grid(ROWS, COLUMNS)}  a = Exp(x)  y = GatherND(a, grid)
        }}""",
        after="g (float[B,T] x) => (float[B,1,1,T] y) { a = Exp(x)  y = Unsqueeze(a, [1,2]) }",
        sizes=SIZES,
    )


def test_first_rows_of_a_mask_that_may_have_more():
    signature = "g (float[B,T] x, float[P,Q] mask) => (float[B,1,1,T] y)"
    assert_rewrites(
        f"{PASS},remove-dead-code",
        before=f"{signature} {{ {_grid(ROWS, COLUMNS)}  y = GatherND(mask, grid) }}",
        after=f"""{signature} {{
            {ROWS}  {COLUMNS}
            g0 = Gather <axis = 0> (mask, r)  g1 = Gather <axis = 1> (g0, c)  y = Unsqueeze(g1, [1,2])
        }}""",
        sizes=[{"B": 2, "T": 3, "P": 4, "Q": 5}, {"B": 1, "T": 1, "P": 1, "Q": 1}],
    )


def test_any_rows_and_columns_will_do():
    signature = "g (float[5,7] mask, int64[B] r, int64[T] c) => (float[B,1,1,T] y)"
    assert_rewrites(
        f"{PASS},remove-dead-code",
        before=f"{signature} {{ {_grid('', '')}  y = GatherND(mask, grid) }}",
        after=f"""{signature} {{
            g0 = Gather <axis = 0> (mask, r)  g1 = Gather <axis = 1> (g0, c)  y = Unsqueeze(g1, [1,2])
        }}""",
        sizes=[{"B": 2, "T": 4}],
    )


def test_positions_in_the_other_order_stay():
    grid = _grid(ROWS, COLUMNS, ("[0,1,2]", "[1,2,3]"))
    assert_rejects(
        PASS, f"g (float[B,T] x) => (float[T,1,1,B] y) {{ {grid}  y = GatherND(x, grid) }}", NOT_A_BLOCK
    )


def test_grid_that_repeats_its_block_stays():
    grid = _grid(ROWS, COLUMNS).replace("s = Shape(m)", "k = Shape(m)  s = Mul(k, [1,5,1,1])")
    assert_rejects(
        PASS, f"g (float[B,T] x) => (float[B,5,1,T] y) {{ {grid}  y = GatherND(x, grid) }}", NOT_A_BLOCK
    )


def test_shared_grid_stays():
    body = f"{_grid(ROWS, COLUMNS)}  y = GatherND(x, grid)  z = GatherND(w, grid)"
    assert_rejects(
        PASS,
        f"g (float[B,T] x, float[B,T] w) => (float[B,1,1,T] y, float[B,1,1,T] z) {{ {body} }}",
        IS_SHARED,
    )


def test_pairs_of_positions_are_no_grid():
    assert_rejects(
        PASS,
        """g (float[B,T] x, int64[K] r, int64[K] c) => (float[K] y) {
            ru = Unsqueeze(r, [-1])  cu = Unsqueeze(c, [-1])
            grid = Concat <axis = -1> (ru, cu)
            y = GatherND(x, grid)
        }""",
        NOT_A_BLOCK,
    )


SCATTER = """g (float[B,1,T] x, float[B,1,T] u) => (float[B,1,T] y) {{
    s = Shape(x)
    nb = Shape <end = 1> (x)  b = Squeeze(nb)  r = Range({start}, b, {step})  r3 = Reshape(r, [-1,1,1])
    nt = Shape <start = 2> (x)  t = Squeeze(nt)  c = Range(0, t, 1)
    zero = Constant <value = int64[1,1] {{0}}> ()
    re = Expand(r3, s)  ze = Expand(zero, s)  ce = Expand(c, s)
    ru = Unsqueeze(re, [-1])  zu = Unsqueeze(ze, [-1])  cu = Unsqueeze(ce, [-1])
    grid = Concat <axis = -1> (ru, zu, cu)
    y = ScatterND {reduction} (x, grid, u)
}}"""


def test_scatter_to_every_position_is_its_updates():
    assert_rewrites(
        f"{PASS},remove-dead-code",
        before=SCATTER.format(start=0, step=1, reduction="")
        .replace("float[B,1,T] y", "float[B,1,T] z")
        .replace("y = ScatterND  (x, grid, u)", "y = ScatterND (x, grid, u)  z = Exp(y)"),
        after="g (float[B,1,T] x, float[B,1,T] u) => (float[B,1,T] z) { z = Exp(u) }",
        sizes=SIZES,
    )


@pytest.mark.parametrize(
    ("start", "step", "reduction"), [(1, 1, ""), (0, 2, ""), (0, 1, '<reduction = "add">')]
)
def test_scatter_to_some_positions_stays(start, step, reduction):
    assert_rejects(PASS, SCATTER.format(start=start, step=step, reduction=reduction))
