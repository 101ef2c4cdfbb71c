"""The same results whoever does the work, workers that die in the middle included."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from graphopt.errors import GraphoptError, UsageError
from graphopt.quantization.trials import Trial, merged, perform
from graphopt.quantization.workers import ATTEMPTS, Cluster, Processes, workers
from tests.quantization.deciding import bench, decoder, sentences


def square(shared: int, task: int) -> int:
    return shared + task * task


def identity(_: object, task: int) -> tuple[int, int]:
    time.sleep(0.05)
    return task, os.getpid()


def dies_once(mark: str, task: int) -> int:
    """The process that does task 3 first is killed; later ones do it."""
    if task == 3:
        try:
            os.close(os.open(mark, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return -3
        os.kill(os.getpid(), signal.SIGKILL)
    return task


def always_dies(_: object, task: int) -> int:
    os.kill(os.getpid(), signal.SIGKILL)
    return task


def complains(_: object, task: int) -> int:
    raise UsageError(f"not {task}")


def test_this_process() -> None:
    with workers() as team:
        assert team.map(square, 1, [3, 1, 2]) == [10, 2, 5]


def test_several_processes_in_the_order_of_tasks() -> None:
    with workers(2) as team:
        found = team.map(identity, 0, list(range(12)))
        assert [task for task, _ in found] == list(range(12))
        assert os.getpid() not in {process for _, process in found}
        assert team.map(square, 1, [3, 1]) == [10, 2]
        assert team.map(square, 2, [3, 1]) == [11, 3]


def test_a_worker_that_is_killed(tmp_path: Path) -> None:
    with workers(2) as team:
        assert team.map(dies_once, str(tmp_path / "mark"), list(range(8))) == [0, 1, 2, -3, 4, 5, 6, 7]


def test_workers_that_are_killed_again_and_again() -> None:
    with workers(2) as team, pytest.raises(GraphoptError, match=f"died {ATTEMPTS} times"):
        team.map(always_dies, 0, [1, 2])


def test_what_a_task_raises() -> None:
    with workers(2) as team, pytest.raises(UsageError, match="not 1"):
        team.map(complains, 0, [1])


def test_numbers_and_addresses_that_are_none() -> None:
    with pytest.raises(UsageError), workers(0):
        pass
    with pytest.raises(UsageError), workers(-1, None):
        pass
    with pytest.raises(UsageError, match="no Dask scheduler"), workers(1, "tcp://127.0.0.1:1"):
        pass


def test_trials_are_the_same_on_one_worker_and_on_two() -> None:
    found, _ = bench(decoder(), sentences(20))
    tasks = [Trial(found.only(g, "weight_only"), s, True) for g in found.groups for s in found.shards]
    here = [perform(found, trial) for trial in tasks]
    with workers(2) as team:
        # Another order, too.
        there = dict(zip(tasks[::-1], team.map(perform, found, tasks[::-1]), strict=True))
    assert [there[trial] for trial in tasks] == here
    assert merged({t.shard: there[t] for t in tasks[2::-1]}) == merged(
        {t.shard: o for t, o in zip(tasks[:3], here, strict=False)}
    )


# ------------------------------------------------------------------ a cluster of processes


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator[tuple[str, list[subprocess.Popen[bytes]]]]:
    pytest.importorskip("distributed")
    address = f"tcp://127.0.0.1:{_free_port()}"
    root = str(Path(__file__).parents[2])
    surroundings = {**os.environ, "PYTHONPATH": root, "DASK_DISTRIBUTED__SCHEDULER__ALLOWED_FAILURES": "10"}
    started = []

    def start(*arguments: str) -> None:
        command = [sys.executable, "-m", "distributed.cli." + arguments[0], *arguments[1:]]
        started.append(
            subprocess.Popen(command, env=surroundings, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )

    start("dask_scheduler", "--host", address, "--no-dashboard", "--no-show")
    for _ in range(3):
        start(
            "dask_worker", address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--death-timeout", "60"
        )
    yield address, started[1:]
    for process in started:
        process.kill()
        process.wait()


def test_a_cluster_one_of_whose_workers_is_killed(
    cluster: tuple[str, list[subprocess.Popen[bytes]]],
) -> None:
    address, processes = cluster
    found, _ = bench(decoder(), sentences(20))
    tasks = [Trial(found.only(g, "weight_only"), s, True) for g in found.groups for s in found.shards]
    here = [perform(found, trial) for trial in tasks]
    team = Cluster(address)
    try:
        who = {process for _, process in team.map(identity, 0, list(range(30)))}
        victim = next(p for p in processes if p.pid in who)
        # It is killed while tasks run on it.
        killer = subprocess.Popen(
            [sys.executable, "-c", f"import os, time; time.sleep(0.4); os.kill({victim.pid}, 9)"]
        )
        assert [task for task, _ in team.map(identity, 0, list(range(60)))] == list(range(60))
        killer.wait()
        victim.wait()
        assert team.map(perform, found, tasks) == here
        with pytest.raises(UsageError, match="not 1"):
            team.map(complains, 0, [1])
    finally:
        team.close()


def test_what_is_shared_is_read_once() -> None:
    found = Processes(1)
    try:
        shared = [1, 2]
        assert found._path(shared) == found._path(shared)
        assert pickle.loads(Path(found._path(shared)).read_bytes()) == shared
    finally:
        found.close()
