"""Files of compiled models: mapped, not parsed.

    header      magic, version of the format, size, instruction set, places of the sections, sha256
    words       the program's integers
    texts       offsets, then bytes; so blobs
    constants   each at a multiple of 64 bytes: packed for the instruction set, or as they are; those of
                another set are packed again
    facts       JSON: signature, where each constant lies, what it was packed from

Numbers are little-endian. The hash is over the header without it, and the sha256 of all behind the header.
Reading is sequential, so that only what stays in memory ever counts: constants go into one block of large
pages, or (`mmap`) are looked at in the file's mapping. Opening imports nothing that knows graphs.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np
import numpy.typing as npt

from graphopt.errors import ExecutionError, ModelError, OutputError
from graphopt.runtime.arrays import DTYPES, STRING, Array, carried, number_of, text_bytes
from graphopt.runtime.compiled import Compiled, CompiledConstant
from graphopt.runtime.signature import NodeArg

__all__ = ["is_compiled_file", "read_compiled", "write_compiled"]

MAGIC = b"GRAPHOPT"
FORMAT = 1

# Magic, format, size of the header, of the file, instruction set, (offset, bytes) of each section, sha256.
_HEADER = struct.Struct("<8sIIQ16s10Q32s")
_SECTIONS = ("words", "texts", "blobs", "constants", "facts")
_DIGEST_BYTES = 32
_ALIGNMENT = 64
_PAGE = 4096
_CHUNK = 1 << 20

Bytes = npt.NDArray[np.uint8]


def is_compiled_file(path: str | Path) -> bool:
    """Whether a file begins as compiled ones do; not whether it can be read."""
    try:
        with open(path, "rb") as file:
            return file.read(len(MAGIC)) == MAGIC
    except OSError:
        return False


def write_compiled(compiled: Compiled, path: str | Path, *, is_portable: bool = False) -> int:
    """Write a compiled model, atomically; its size in bytes.

    Args:
        compiled: The model.
        path: The file.
        is_portable: Constants are packed each time it is opened, not now for this machine.

    Raises:
        OutputError: The file can't be written; nothing half-written remains.
    """
    from graphopt.ir.replacing import Replacement

    target = os.fspath(path)
    try:
        with Replacement() as files:
            with os.fdopen(os.dup(files.create(target)), "w+b") as file:
                size = _Writer(file, is_portable).write(compiled)
            files.commit()
    except OSError as error:
        raise OutputError(f"{target}: can't be written: {error.strerror or error}") from error
    return size


def read_compiled(path: str | Path, *, is_mapped: bool = False) -> Compiled:
    """Open a compiled model.

    Args:
        path: The file.
        is_mapped: Leave constants in the file's mapping.

    Raises:
        ModelError: It can't be read, is cut off or altered, or is of another version.
    """
    name = os.fspath(path)
    try:
        with open(name, "rb") as file:
            return _Reader(file, name).read(is_mapped)
    except OSError as error:
        raise ModelError(f"{name}: can't be read: {error.strerror or error}") from error


class _Writer:
    def __init__(self, file: BinaryIO, is_portable: bool) -> None:
        self._file = file
        self._is_portable = is_portable
        self._hash = hashlib.sha256()
        self._places: dict[str, tuple[int, int]] = {}

    def write(self, compiled: Compiled) -> int:
        from graphopt.kernels import _engine

        self._file.write(bytes(_HEADER.size))
        self._section("words", [np.ascontiguousarray(compiled.words, "<i8").tobytes()])
        self._section("texts", _strings([text.encode("utf-8", "surrogatepass") for text in compiled.texts]))
        self._section("blobs", _strings(compiled.blobs))
        self._pad(_PAGE)
        start = self._file.tell()
        rows = [self._constant(constant, start) for constant in compiled.constants]
        defaults = {}
        for name, array in compiled.defaults.items():
            defaults[name] = self._constant(CompiledConstant((array,), (number_of(array),)), start)
        self._places["constants"] = start, self._file.tell() - start
        facts = {
            "graphopt": _version(),
            "inputs": [[arg.name, arg.type, arg.dims] for arg in compiled.inputs],
            "outputs": [[arg.name, arg.type, arg.dims] for arg in compiled.outputs],
            "defaults": defaults,
            "fallbacks": compiled.fallbacks,
            "facts": dict(compiled.facts),
            "constants": rows,
        }
        self._section("facts", [json.dumps(facts).encode()])
        size = self._file.tell()
        header = _header(size, _engine.isa(), self._places)
        digest = hashlib.sha256(header + self._hash.digest()).digest()
        self._file.seek(0)
        self._file.write(header + digest)
        self._file.flush()
        return size

    def _constant(self, constant: CompiledConstant, start: int) -> dict[str, object]:
        """Write a constant; what has to be known to find it again."""
        from graphopt.kernels import _engine

        if constant.packer and self._is_portable:
            parts = [
                self._constant(CompiledConstant((array,), (dtype,)), start)
                for array, dtype in zip(constant.arrays, constant.dtypes, strict=True)
            ]
            return {"packer": constant.packer, "ints": list(constant.ints), "parts": parts}
        self._pad(_ALIGNMENT)
        row: dict[str, object] = {"at": self._file.tell() - start}
        if constant.packer:
            packer, ints = constant.packer, list(constant.ints)
            given = [
                (np.asarray(carried(a, d)), d) for a, d in zip(constant.arrays, constant.dtypes, strict=True)
            ]
            packed = _engine.pack(packer, given, ints)
            sources = [[d, list(a.shape)] for a, d in zip(constant.arrays, constant.dtypes, strict=True)]
            row.update(packer=packer, ints=ints, sources=sources)
            self._put(packed.tobytes())
        elif constant.dtypes[0] == STRING:
            texts = [text_bytes(text) for text in constant.arrays[0].reshape(-1).tolist()]
            row.update(dtype=STRING, dims=list(constant.arrays[0].shape))
            for piece in _strings(texts):
                self._put(piece)
        else:
            array = np.asarray(constant.arrays[0])
            row.update(dtype=constant.dtypes[0], dims=list(array.shape))
            plain = np.ascontiguousarray(carried(np.ascontiguousarray(array), constant.dtypes[0]))
            self._put(plain.reshape(-1).view(np.uint8).data)
        row["bytes"] = self._file.tell() - start - int(str(row["at"]))
        return row

    def _section(self, name: str, pieces: Sequence[bytes]) -> None:
        self._pad(_ALIGNMENT)
        start = self._file.tell()
        for piece in pieces:
            self._put(piece)
        self._places[name] = start, self._file.tell() - start

    def _pad(self, unit: int) -> None:
        self._put(bytes(-self._file.tell() % unit))

    def _put(self, piece: bytes | memoryview) -> None:
        self._file.write(piece)
        self._hash.update(piece)


class _Reader:
    def __init__(self, file: BinaryIO, name: str) -> None:
        self._file = file
        self._name = name
        self._isa = ""
        self._hash = hashlib.sha256()

    def read(self, is_mapped: bool) -> Compiled:
        header = self._file.read(_HEADER.size)
        places = self._checked(header)
        start, size = places["constants"]
        before = self._bytes(start - _HEADER.size)
        block = self._constants(start, size, is_mapped)
        rest = self._bytes(os.fstat(self._file.fileno()).st_size - start - size)
        unsigned = header[:-_DIGEST_BYTES]
        if hashlib.sha256(unsigned + self._hash.digest()).digest() != header[-_DIGEST_BYTES:]:
            raise self._refused("it was altered: the checksum does not fit")
        try:
            return self._compiled(places, before, block, rest)
        except (ValueError, KeyError, TypeError, IndexError, struct.error) as error:
            raise self._refused(f"it is damaged: {type(error).__name__}: {error}") from error

    def _checked(self, header: bytes) -> dict[str, tuple[int, int]]:
        """The places of the sections."""
        if len(header) < _HEADER.size or header[: len(MAGIC)] != MAGIC:
            raise self._refused("it is no compiled model, or cut off")
        _, version, _, size, isa, *places, _ = _HEADER.unpack(header)
        if version != FORMAT:
            raise self._refused(f"it has version {version} of the format, this graphopt reads {FORMAT}")
        found = os.fstat(self._file.fileno()).st_size
        if size != found:
            raise self._refused(f"it is cut off or longer than it should be: {found} bytes of {size}")
        sections = dict(zip(_SECTIONS, zip(places[::2], places[1::2], strict=True), strict=True))
        ends = _HEADER.size
        for offset, length in sections.values():
            if offset < ends or offset + length > size:
                raise self._refused("it was altered: a section lies outside")
            ends = offset + length
        self._isa = isa.rstrip(b"\0").decode("ascii", "replace")
        return sections

    def _bytes(self, size: int) -> bytes:
        data = self._file.read(size)
        self._hash.update(data)
        return data

    def _constants(self, start: int, size: int, is_mapped: bool) -> Bytes:
        """The section of constants: in the mapping, or in memory of the engine's."""
        from graphopt.kernels import _engine

        if size == 0:
            return np.zeros(0, np.uint8)
        block: Bytes = np.zeros(0, np.uint8) if is_mapped else _engine.weight_block(size)
        buffer = memoryview(bytearray(_CHUNK)) if is_mapped else block.data
        for first in range(0, size, _CHUNK):
            length = min(_CHUNK, size - first)
            piece = buffer[:length] if is_mapped else buffer[first : first + length]
            done = 0
            while done < length:
                n = self._file.readinto(piece[done:])  # type: ignore[attr-defined]
                if not n:
                    raise self._refused("it was cut off while it was read")
                done += n
            self._hash.update(piece)
        if not is_mapped:
            return block
        mapping = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(mapping, np.uint8, size, start)

    def _compiled(
        self, places: dict[str, tuple[int, int]], before: bytes, block: Bytes, rest: bytes
    ) -> Compiled:
        def section(name: str) -> bytes:
            offset, length = places[name]
            return before[offset - _HEADER.size : offset - _HEADER.size + length]

        facts_at = places["facts"][0] - sum(places["constants"])
        facts = json.loads(rest[facts_at : facts_at + places["facts"][1]])
        if facts["graphopt"] != _version():
            raise self._refused(
                f"graphopt {facts['graphopt']} compiled it, this is {_version()}: compile it again"
            )
        constants = [self._constant(row, block) for row in facts["constants"]]
        return Compiled(
            np.frombuffer(section("words"), "<i8"),
            [text.decode("utf-8", "surrogatepass") for text in _read_strings(section("texts"))],
            list(_read_strings(section("blobs"))),
            constants,
            tuple(_argument(*row) for row in facts["inputs"]),
            tuple(_argument(*row) for row in facts["outputs"]),
            {name: self._constant(row, block).arrays[0] for name, row in facts["defaults"].items()},
            tuple((operator, reason) for operator, reason in facts["fallbacks"]),
            facts["facts"],
        )

    def _constant(self, row: dict[str, object], block: Bytes) -> CompiledConstant:
        if "parts" in row:
            parts, ints = row["parts"], row["ints"]
            assert isinstance(parts, list) and isinstance(ints, list)
            sources = [self._constant(part, block) for part in parts]
            arrays = tuple(source.arrays[0] for source in sources)
            dtypes = tuple(source.dtypes[0] for source in sources)
            return CompiledConstant(arrays, dtypes, str(row["packer"]), tuple(ints))
        at, length = _integer(row["at"]), _integer(row["bytes"])
        if at < 0 or length < 0 or at + length > len(block):
            raise ValueError("a constant lies outside")
        data = block[at : at + length]
        if "packer" not in row:
            dtype, dims = _integer(row["dtype"]), row["dims"]
            assert isinstance(dims, list)
            return CompiledConstant((_array(data, dtype, dims),), (dtype,))
        from graphopt.kernels import _engine

        if self._isa == _engine.isa():
            # Packed bytes are a constant like any other.
            return CompiledConstant((data,), (2,))
        packer, packed_ints, packed_from = str(row["packer"]), row["ints"], row["sources"]
        assert isinstance(packed_ints, list) and isinstance(packed_from, list)
        try:
            unpacked = _engine.unpack(
                self._isa, packer, [(d, dims) for d, dims in packed_from], packed_ints, data
            )
        except ExecutionError as error:
            raise self._refused(f"{error}; compile it on this machine, or with --portable") from error
        kinds = tuple(d for d, _ in packed_from)
        views = tuple(a.view(DTYPES[d]) for a, d in zip(unpacked, kinds, strict=True))
        return CompiledConstant(views, kinds, packer, tuple(packed_ints))

    def _refused(self, why: str) -> ModelError:
        return ModelError(f"{self._name}: {why}")


def _header(size: int, isa: str, places: dict[str, tuple[int, int]]) -> bytes:
    """The header without its digest."""
    numbers = [number for name in _SECTIONS for number in places[name]]
    packed = _HEADER.pack(MAGIC, FORMAT, _HEADER.size, size, isa.encode(), *numbers, bytes(_DIGEST_BYTES))
    return packed[:-_DIGEST_BYTES]


def _version() -> str:
    from graphopt import __version__

    return __version__


def _strings(items: Sequence[bytes]) -> list[bytes]:
    """Offsets, then all bytes."""
    ends = np.cumsum([0, *map(len, items)], dtype="<i8")
    return [struct.pack("<q", len(items)), ends.tobytes(), *items]


def _read_strings(data: bytes) -> Iterator[bytes]:
    (count,) = struct.unpack_from("<q", data)
    if not 0 <= count <= len(data) // 8 - 2:
        raise ValueError("texts are cut off")
    ends = np.frombuffer(data, "<i8", count + 1, 8)
    start = 8 * (count + 2)
    for first, end in zip(ends.tolist(), ends[1:].tolist(), strict=False):
        if not 0 <= first <= end <= len(data) - start:
            raise ValueError("a text lies outside")
        yield data[start + first : start + end]


def _array(data: Bytes, dtype: int, dims: list[int]) -> Array:
    if dtype == STRING:
        texts = np.empty(len(list(_read_strings(data.tobytes()))), object)
        texts[:] = list(_read_strings(data.tobytes()))
        return texts.reshape(dims)
    made: Array = data.view(DTYPES[dtype]).reshape(dims)
    return made


def _argument(name: str, type_: str, dims: list[int | str | None] | None) -> NodeArg:
    return NodeArg(name, type_, None if dims is None else tuple(dims))


def _integer(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError(f"{value!r} is no number")
    return value
