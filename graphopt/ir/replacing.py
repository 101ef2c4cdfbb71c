"""Replace files on disk, all of them or none."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from types import TracebackType


class Replacement:
    """Files that appear together: written under temporary names, which `commit` turns into the real ones.

    Leaving the block without it removes them. After a crash of the machine between two renames some files are
    new and some old; after anything less, all are the one or all the other.
    """

    def __init__(self) -> None:
        self._pending: list[tuple[str, str]] = []  # temporary name, target
        self._open: list[int] = []
        self._saved: list[tuple[str, str]] = []  # second name of the old file, target
        self._created: list[str] = []  # targets that did not exist before

    def __enter__(self) -> Replacement:
        return self

    def create(self, target: str) -> int:
        """Open a new file that will become `target`; return its descriptor.

        Raises:
            OSError: The folder can't be written, or the name is that of a device or a pipe, which stays.
        """
        with contextlib.suppress(FileNotFoundError):
            mode = os.stat(target).st_mode
            if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                raise OSError(errno.EINVAL, "is not a regular file", target)
        folder, name = os.path.split(target)
        temporary = os.path.join(folder, f".{name}.{os.urandom(6).hex()}.tmp")
        # Known before it exists: an interrupt right after opening must find it.
        self._pending.append((temporary, target))
        file = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_EXCL | getattr(os, "O_CLOEXEC", 0), 0o666)
        self._open.append(file)
        with contextlib.suppress(OSError):  # a file system without permissions has none to keep
            os.fchmod(file, os.stat(target).st_mode & 0o7777)
        return file

    def commit(self) -> None:
        """Flush all files to the disk and give them their names.

        Raises:
            OSError: That failed; the old files are back under their names.
        """
        for file in self._open:
            os.fsync(file)
        self._close()
        for temporary, target in self._pending[:-1]:
            # The last rename decides; until then the old files must be able to come back.
            if os.path.lexists(target):
                saved = f"{temporary}.old"
                self._saved.append((saved, target))
                _second_name(target, saved)
            else:
                self._created.append(target)
            os.replace(temporary, target)
        if self._pending:
            os.replace(*self._pending[-1])
        folders = {os.path.dirname(target) or "." for _, target in self._pending}
        self._pending.clear()
        self._created.clear()
        for saved, _ in self._saved:
            _remove(saved)
        self._saved.clear()
        for folder in sorted(folders):
            _flush_folder(folder)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()
        for saved, target in self._saved:
            with contextlib.suppress(FileNotFoundError):
                os.replace(saved, target)
            _remove(saved)  # renaming a file onto another name of itself leaves both
        for target in self._created:
            _remove(target)
        for temporary, _ in self._pending:
            _remove(temporary)

    def _close(self) -> None:
        while self._open:
            os.close(self._open.pop())


def write_whole(path: str, content: bytes) -> None:
    """Write one file, or leave what is there.

    Raises:
        OSError: It can't be written.
    """
    with Replacement() as files:
        write_all(files.create(path), content)
        files.commit()


def write_all(file: int, content: bytes) -> None:
    """Write all of something to an open file."""
    left = memoryview(content)
    while left:
        left = left[os.write(file, left) :]


def _second_name(path: str, name: str) -> None:
    try:
        os.link(path, name, follow_symlinks=False)
    except OSError:  # no hard links here: the old file is away for a moment
        os.rename(path, name)


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):
        os.unlink(path)


def _flush_folder(folder: str) -> None:
    with contextlib.suppress(OSError):  # the names are right either way, only not yet safe from a power cut
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
