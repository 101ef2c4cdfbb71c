"""Who does the work: this process, several processes of this machine, or a Dask cluster.

What is done is a pure function of something that all share and of one task. Results come in the order of the
tasks whoever did them, and a task whose worker died is done again: they are the same on one worker or many.
"""

from __future__ import annotations

import pickle
import uuid
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Protocol, TypeVar, cast

from graphopt.errors import GraphoptError, UsageError

__all__ = ["Cluster", "Here", "Processes", "Workers", "workers"]

Shared = TypeVar("Shared")
Task = TypeVar("Task")
Result = TypeVar("Result")

# How often tasks whose workers died are given to new ones.
ATTEMPTS = 3
# How long a scheduler may take to answer.
SECONDS_TO_CONNECT = 10


def _unseen(number: int, result: object) -> None:
    """Nobody looks at results as they come."""


class Workers(Protocol):
    """Does tasks."""

    def map(
        self,
        function: Callable[[Shared, Task], Result],
        shared: Shared,
        tasks: Sequence[Task],
        seen: Callable[[int, Result], None] = _unseen,
    ) -> list[Result]:
        """Results in the order of the tasks.

        Args:
            function: A function of a module.
            shared: What each call gets first; sent once to each worker.
            tasks: What differs.
            seen: Called with the number of a task and its result when it is there.

        Raises:
            GraphoptError: As the function; or workers died again and again.
        """


class Here:
    """This process."""

    def map(
        self,
        function: Callable[[Shared, Task], Result],
        shared: Shared,
        tasks: Sequence[Task],
        seen: Callable[[int, Result], None] = _unseen,
    ) -> list[Result]:
        found = []
        for i, task in enumerate(tasks):
            found.append(function(shared, task))
            seen(i, found[i])
        return found


# ------------------------------------------------------------------ processes of this machine

# Of a worker: what was shared last, so that it is read once.
_shared: dict[str, object] = {}


def _call(function: Callable[[Shared, Task], Result], path: str, task: Task) -> Result:
    if path not in _shared:
        _shared.clear()
        # Written by the process that started this one, in a folder of its own.
        _shared[path] = pickle.loads(Path(path).read_bytes())  # noqa: S301
    return function(cast(Shared, _shared[path]), task)


class Processes:
    """Several processes; each reads what is shared from a file."""

    def __init__(self, count: int) -> None:
        if count < 1:
            raise UsageError(f"there must be a worker, not {count}")
        self.count = count
        self._folder = TemporaryDirectory(prefix="graphopt-workers-")
        self._pool: ProcessPoolExecutor | None = None
        # What was shared last, and where.
        self._last: tuple[object, str] | None = None

    def map(
        self,
        function: Callable[[Shared, Task], Result],
        shared: Shared,
        tasks: Sequence[Task],
        seen: Callable[[int, Result], None] = _unseen,
    ) -> list[Result]:
        path = self._path(shared)
        done: dict[int, Result] = {}
        for _ in range(ATTEMPTS):
            left = [i for i in range(len(tasks)) if i not in done]
            if not left:
                break
            try:
                futures: dict[Future[Result], int] = {
                    self._running().submit(_call, function, path, tasks[i]): i for i in left
                }
                for future in as_completed(futures):
                    number = futures[future]
                    done[number] = future.result()
                    seen(number, done[number])
            except BrokenProcessPool:
                self._stop()
        if len(done) < len(tasks):
            raise GraphoptError(f"workers died {ATTEMPTS} times", hint="use fewer, they may lack memory")
        return [done[i] for i in range(len(tasks))]

    def close(self) -> None:
        """End the processes."""
        self._stop()
        self._folder.cleanup()

    def _path(self, shared: object) -> str:
        if self._last is None or self._last[0] is not shared:
            path = Path(self._folder.name, uuid.uuid4().hex)
            path.write_bytes(pickle.dumps(shared, pickle.HIGHEST_PROTOCOL))
            self._last = (shared, str(path))
        return self._last[1]

    def _running(self) -> ProcessPoolExecutor:
        if self._pool is None:
            # A fork would copy the threads' locks of the engine, held or not.
            self._pool = ProcessPoolExecutor(self.count, mp_context=get_context("spawn"))
        return self._pool

    def _stop(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(wait=True, cancel_futures=True)
            self._pool = None


# ------------------------------------------------------------------ a cluster


def _call_sent(function: Callable[[Shared, Task], Result], content: bytes, token: str, task: Task) -> Result:
    if token not in _shared:
        _shared.clear()
        _shared[token] = pickle.loads(content)  # noqa: S301 (sent by the client of this cluster)
    return function(cast(Shared, _shared[token]), task)


class _Client(Protocol):
    """What we need of dask's client, which says nothing of its types."""

    def scatter(self, data: object, *, hash: bool) -> object: ...  # noqa: A002
    def submit(self, function: object, *arguments: object, pure: bool, retries: int) -> object: ...
    def gather(self, futures: Sequence[object]) -> object: ...
    def close(self) -> None: ...


class Cluster:
    """Workers of a Dask cluster, which need graphopt of the same version."""

    def __init__(self, address: str) -> None:
        try:
            distributed = import_module("distributed")
        except ImportError as error:
            raise UsageError("--dask needs dask", hint="pip install 'graphopt[distributed]'") from error
        try:
            self._client: _Client = distributed.Client(
                address, timeout=SECONDS_TO_CONNECT, set_as_default=False
            )
        except (OSError, ValueError, TypeError) as error:
            raise UsageError(f"no Dask scheduler at {address}: {error}") from error
        self._last: tuple[object, str, object] | None = None

    def map(
        self,
        function: Callable[[Shared, Task], Result],
        shared: Shared,
        tasks: Sequence[Task],
        seen: Callable[[int, Result], None] = _unseen,
    ) -> list[Result]:
        if self._last is None or self._last[0] is not shared:
            content = pickle.dumps(shared, pickle.HIGHEST_PROTOCOL)
            # Not hashed: the same content sent again after its holders died must be another key.
            self._last = (shared, uuid.uuid4().hex, self._client.scatter(content, hash=False))
        _, token, content_future = self._last
        futures = [
            self._client.submit(
                _call_sent, function, content_future, token, task, pure=False, retries=ATTEMPTS
            )
            for task in tasks
        ]
        found = cast("list[Result]", self._client.gather(futures))
        for i, result in enumerate(found):
            seen(i, result)
        return found

    def close(self) -> None:
        """Leave the cluster; it goes on running."""
        self._client.close()


@contextmanager
def workers(count: int = 1, dask: str | None = None) -> Iterator[Workers]:
    """So many processes, or the cluster at an address.

    Raises:
        UsageError: Less than one, or nobody answers there.
    """
    if count < 1:
        raise UsageError(f"there must be a worker, not {count}")
    if dask is None and count == 1:
        yield Here()
        return
    found = Cluster(dask) if dask is not None else Processes(count)
    try:
        yield found
    finally:
        found.close()
