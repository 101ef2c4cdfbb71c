"""A search that was interrupted goes on where it was, and finds the same."""

from __future__ import annotations

from pathlib import Path

import pytest

from graphopt.errors import OutputError
from graphopt.quantization.journal import Journal
from graphopt.quantization.limits import Limits
from graphopt.quantization.performing import digest_of, here
from graphopt.quantization.search import Search, search
from graphopt.quantization.trials import prepare_bench
from tests.quantization.deciding import decoder, first, sentences

SAMPLES = sentences(16)


def test_what_was_kept_is_found_again(tmp_path: Path) -> None:
    path = tmp_path / "journal"
    one = Journal(path, "run")
    one.open("bench")
    one.add("a", {"x": 0.1, "y": float("inf")})
    one.add("b", {"x": 1e-300})
    # Cut off in the middle of a line.
    with path.open("a") as file:
        file.write('["c", {"x": 0.')
    two = Journal(path, "run")
    two.open("bench")
    assert two.find("a") == {"x": 0.1, "y": float("inf")} and two.find("b") == {"x": 1e-300}
    assert two.find("c") is None
    two.add("c", {"x": 2})
    three = Journal(path, "run")
    three.open("bench")
    assert three.find("c") == {"x": 2} and three.find("b") == {"x": 1e-300}
    three.remove()
    assert not path.exists()


@pytest.mark.parametrize(("run", "what"), [("other", "bench"), ("run", "other")])
def test_what_is_of_another_run_is_not_taken(run: str, what: str, tmp_path: Path) -> None:
    path = tmp_path / "journal"
    one = Journal(path, "run")
    one.open("bench")
    one.add("a", {"x": 1})
    two = Journal(path, run)
    two.open(what)
    assert two.find("a") is None
    two.add("b", {"x": 2})
    again = Journal(path, run)
    again.open(what)
    assert again.find("a") is None and again.find("b") == {"x": 2}


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be written"):
        Journal(tmp_path / "none" / "journal", "run").open("bench")


class Killed(Exception):
    pass


def searched(journal: Journal | None, done: list[int], most: int = 10**9) -> Search:
    """Search; trials that are performed are counted, and after so many it ends."""

    def run(bench, trials, seen):
        def counted(number, outcome):
            seen(number, outcome)
            done.append(number)
            if len(done) == most:
                raise Killed

        return here(bench, trials, counted)

    model = decoder()
    table, statistics = first(model, SAMPLES)
    limits = Limits(max_fallbacks=1)
    return search(model, table, SAMPLES, statistics=statistics, limits=limits, run=run, journal=journal)


def test_finished_work_is_not_done_again(tmp_path: Path) -> None:
    every: list[int] = []
    expected = searched(None, every)
    stopped: list[int] = []
    # In the middle of single groups, and of points.
    for most in (3, len(every) - 5):
        with pytest.raises(Killed):
            searched(Journal(tmp_path / "journal", "run"), stopped, most)
    rest: list[int] = []
    found = searched(Journal(tmp_path / "journal", "run"), rest)
    assert len(stopped) + len(rest) == len(every)
    assert found.points == expected.points and found.taken == expected.taken
    assert found.sensitivity == expected.sensitivity and found.additivity == expected.additivity


def test_a_bench_is_known_by_its_samples_and_its_table() -> None:
    model = decoder()
    table, _ = first(model, SAMPLES)
    other, _ = first(model, SAMPLES[:8])
    benches = [
        prepare_bench(model, table, SAMPLES, 16),
        prepare_bench(model, table, SAMPLES, 8),
        prepare_bench(model, other, SAMPLES, 16),
        prepare_bench(model, table, SAMPLES, 16, target="graphopt"),
    ]
    digests = [digest_of(bench) for bench in benches]
    assert len(set(digests)) == 4
    assert digest_of(prepare_bench(model, first(model, SAMPLES)[0], SAMPLES, 16)) == digests[0]
