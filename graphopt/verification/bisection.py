"""Find the first bad firing of a trace."""

from __future__ import annotations

from collections.abc import Callable


def bisect(count: int, is_good: Callable[[int], bool]) -> int | None:
    """The 0-based index of the firing that first makes the result wrong.

    `is_good(n)` says whether the result is right when only the first `n` firings are allowed. No firings
    (`n == 0`) are good by definition and are never asked for. If several firings are bad, one is found
    whose predecessors, together, are good: exactly the one to drop.

    Args:
        count: How many firings the trace has.
        is_good: Asked about log2(count) + 1 times, never twice for the same number.

    Returns:
        The index, or None where all `count` firings together are good.
    """
    if count <= 0 or is_good(count):
        return None
    good, bad = 0, count
    while bad - good > 1:
        middle = (good + bad) // 2
        if is_good(middle):
            good = middle
        else:
            bad = middle
    return bad - 1
