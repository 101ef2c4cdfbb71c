"""Which group is what: ladders, budgets, the knee, and the point that is taken."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
import pytest

from graphopt.errors import UsageError
from graphopt.quantization.decision import Option, best_within, best_within_time, hull, knee, ladder, sums
from graphopt.quantization.limits import Limits, pick

# Bytes in 8 bits, and what that loses: fallbacks are floats and lose nothing.
CASE = {"enc0": (400, 1e-4), "enc1": (400, 3e-4), "dec0": (300, 2e-3), "cls": (50, 5e-2), "emb": (100, 4e-4)}
OPTIONS = {
    name: [Option("int8", size, size, loss), Option("float", 4 * size, size, 0.0, 1)]
    for name, (size, loss) in CASE.items()
}


def of(choices: dict[str, str]) -> tuple[int, float, set[str]]:
    found = sums(OPTIONS, choices)
    return found.bytes, found.loss, {name for name, choice in choices.items() if choice == "float"}


def test_fallbacks_by_loss_for_each_byte() -> None:
    rungs = [of(rung) for rung in ladder(OPTIONS, lambda o: o.bytes)]
    assert [(size, round(loss, 7)) for size, loss, _ in rungs[:4]] == [
        (1250, 0.0528),
        (1400, 0.0028),
        (2300, 0.0008),
        (2600, 0.0004),
    ]
    assert [fallen for _, _, fallen in rungs[1:4]] == [{"cls"}, {"cls", "dec0"}, {"cls", "dec0", "emb"}]
    assert rungs[-1][:2] == (5000, 0.0)
    # The least that keeps a loss of .003 is the first fallback alone.
    assert next(fallen for _, loss, fallen in rungs if loss <= 0.003) == {"cls"}


def test_the_best_within_bytes_is_exact() -> None:
    random = np.random.default_rng(0)
    for _ in range(20):
        options = {
            f"g{i}": [
                Option(choice, int(random.integers(1, 40)), 1.0, float(random.random()))
                for choice in ("int8", "int4", "float")
            ]
            for i in range(8)
        }
        budget = int(random.integers(30, 120))
        every = [
            dict(zip(options, (o.choice for o in taken), strict=True))
            for taken in itertools.product(*options.values())
        ]
        allowed = [sums(options, c).loss for c in every if sums(options, c).bytes <= budget]
        found = best_within(options, budget, lambda o: o.bytes)
        if not allowed:
            assert found is None
            continue
        assert found is not None and sums(options, found).bytes <= budget
        assert sums(options, found).loss == pytest.approx(min(allowed))


def test_large_budgets_are_kept() -> None:
    random = np.random.default_rng(1)
    options = {
        f"g{i}": [Option("int4", n // 2, 1.0, 1e-3 * i), Option("int8", n, 1.0, 1e-5 * i)]
        for i, n in enumerate(int(n) for n in random.integers(10_000, 3_000_000, 200))
    }
    least, most = (sum(o[i].bytes for o in options.values()) for i in (0, 1))
    for share in (0.0, 0.1, 0.5, 0.9, 1.0):
        budget = least + share * (most - least)
        found = best_within(options, budget, lambda o: o.bytes)
        assert found is not None and sums(options, found).bytes <= budget
        # A whole item is lost at most, and a cell for each of them.
        if share > 0:
            assert sums(options, found).bytes >= budget - 3_000_000
    assert best_within(options, least - 1, lambda o: o.bytes) is None


def test_so_many_fallbacks() -> None:
    for count, fallen in ((0, set()), (1, {"cls"}), (2, {"cls", "dec0"}), (5, set(CASE))):
        assert of(best_within(OPTIONS, count, lambda o: o.fallbacks))[2] == fallen


def test_a_hull_leaves_out_what_mixtures_beat() -> None:
    options = [
        Option("int8", 100, 1.0, 1.0),
        Option("weight_only", 100, 1.0, 0.9),
        Option("float16", 200, 1.0, 0.8),
        Option("float", 300, 1.0, 0.0),
        Option("int4", 350, 1.0, 0.1),
    ]
    assert [o.choice for o in hull(options, lambda o: o.bytes)] == ["weight_only", "float"]


def test_the_knee() -> None:
    points = [(1.0, 1e-2), (1.05, 1e-4), (2.0, 5e-5), (4.0, 1e-5)]
    assert knee(points) == 1
    assert knee(points[::-1]) == 2
    assert knee([(1.0, 1.0)]) == 0


@dataclass
class Point:
    bytes: int
    time: float
    noise: float
    agreement: float | None = 1.0
    sqnr: float | None = 40.0
    kl: float | None = None

    def __post_init__(self) -> None:
        self.kl = self.noise


POINTS = [
    Point(800, 1.4, 9e-3, 0.9, 25.0),
    Point(1000, 1.0, 1e-3, 0.99, 35.0),
    Point(1001, 1.04, 5e-4, 1.0, 38.0),
    Point(1002, 1.4, 2e-4, 1.0, 41.0),
    Point(2000, 1.5, 1e-5, 1.0, 60.0),
]


@pytest.mark.parametrize(
    ("limits", "taken", "is_kept"),
    [
        # The smallest, of its size the fastest, within 5 % of its time the one that loses least.
        (Limits(), 2, True),
        (Limits(max_loss=3e-4), 3, True),
        (Limits(max_loss=2e-2), 0, True),
        (Limits(max_loss=1e-6), 4, False),
        (Limits(max_loss=37, metric="sqnr"), 2, True),
        (Limits(max_loss=0.005, metric="agreement"), 2, True),
        (Limits(max_size=900), 0, True),
        # Within a size the one that loses least of those that take little more than the fastest.
        (Limits(max_size=1500), 2, True),
        (Limits(max_size=700), 0, False),
    ],
)
def test_which_point_is_taken(limits: Limits, taken: int, is_kept: bool) -> None:
    assert pick(POINTS, limits) == (taken, is_kept)


def test_without_answers_decibels_decide() -> None:
    points = [Point(p.bytes, p.time, p.noise, None, p.sqnr) for p in POINTS]
    assert pick(points, Limits()) == (2, True)
    assert pick([points[0]], Limits()) == (0, False)


@pytest.mark.parametrize(
    "limits",
    [
        Limits(max_loss=1.0, max_size=3),
        Limits(knee=True, max_fallbacks=2),
        Limits(max_loss=-1.0),
        Limits(max_loss=float("nan")),
        Limits(max_size=0),
        Limits(max_fallbacks=-1),
    ],
)
def test_limits_that_are_none(limits: Limits) -> None:
    with pytest.raises(UsageError):
        limits.check()


def test_the_best_within_bytes_and_time() -> None:
    random = np.random.default_rng(3)
    kinds = ("int8", "weight_only", "float16")
    options = {
        f"g{i}": [
            Option(kind, 10 * (k + 1), float(random.integers(1, 9)), float(random.random()) / (k + 1))
            for k, kind in enumerate(kinds)
        ]
        for i in range(8)
    }
    sums_of_all = [
        sums(options, dict(zip(options, taken, strict=True))) for taken in itertools.product(kinds, repeat=8)
    ]
    for budget, most in ((160.0, 32.0), (150.0, 27.0), (240.0, 1e9), (110.0, 40.0)):
        kept = [s for s in sums_of_all if s.bytes <= budget and s.time <= most]
        found = best_within_time(options, budget, lambda o: o.bytes, most)
        assert (found is None) == (not kept)
        if found is not None:
            total = sums(options, found)
            assert total.bytes <= budget and total.time <= most
            # A price does not find what mixtures of others beat: one in twenty may be better.
            assert sum(s.loss < total.loss for s in kept) <= len(kept) / 20
    assert best_within_time(options, 79.0, lambda o: o.bytes, 1e9) is None
    assert best_within_time(options, 240.0, lambda o: o.bytes, 4.0) is None
