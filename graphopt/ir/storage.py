"""Tensors that lie in a file and stay there until somebody asks.

A `Source` is one open file; many `StoredTensor`s share its single mapping. The file is opened when the model
is loaded, so replacing it on disk (saving a model over itself) does not disturb a model in memory.
"""

from __future__ import annotations

import math
import mmap
import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import ModelError

IN_MEMORY_BYTES = 128 << 20
"""Model files up to this size are read, not mapped: a program that rewrites a mapped file in place (most
savers do) kills whoever has it mapped, and reading this much takes less than 0.1 s. External data is always
mapped."""


class Source:
    """The bytes of one file, read or mapped once.

    Attributes:
        path: Where the file was when it was opened.
        external: Whether it is an external data file, rather than a model file.
        descriptor: The open file, for copies inside the kernel; None when the bytes are in memory.
    """

    def __init__(self, path: str, *, external: bool) -> None:
        """Open `path`.

        Raises:
            OSError: It can't be opened or read.
        """
        self.path = path
        self.external = external
        self._file = open(path, "rb")  # noqa: SIM115 - it lives as long as its tensors
        self.size = os.fstat(self._file.fileno()).st_size
        self._buffer: memoryview | None = None
        self.descriptor: int | None = self._file.fileno()
        if not external and self.size <= IN_MEMORY_BYTES:
            self._buffer = memoryview(self._file.read())
            self.size = len(self._buffer)
            self._file.close()
            self.descriptor = None

    def view(self, offset: int, length: int) -> memoryview:
        """The bytes at `offset`; nothing is read until they are looked at."""
        if self._buffer is None:
            # Mapping waits for the first look: load and save alone copy inside the kernel and map nothing.
            self._buffer = (
                memoryview(mmap.mmap(self._file.fileno(), self.size, access=mmap.ACCESS_READ))
                if self.size
                else memoryview(b"")
            )
        return self._buffer[offset : offset + length]


class StoredBytes:
    """A range of bytes in a source that holds an array, row-major and little-endian.

    Attributes:
        length: Bytes taken, from the shape and the width of the type; types of less than a byte are packed.
    """

    __slots__ = ("dtype", "length", "offset", "shape", "source")

    def __init__(self, source: Source, offset: int, dtype: ir.DataType, shape: tuple[int, ...]) -> None:
        self.source = source
        self.offset = offset
        self.dtype = dtype
        self.shape = shape
        self.length = (math.prod(shape) * dtype.bitwidth + 7) // 8

    @property
    def place(self) -> tuple[int, int, int]:
        """Identity of the bytes: ranges with the same place have the same contents."""
        return id(self.source), self.offset, self.length

    def view(self) -> memoryview:
        """The stored bytes; nothing is read until they are looked at."""
        return self.source.view(self.offset, self.length)

    def __array__(
        self, dtype: npt.DTypeLike | None = None, copy: bool | None = None
    ) -> npt.NDArray[np.generic]:
        array = np.frombuffer(self.view(), np.uint8)
        if self.dtype.bitwidth < 8:
            found = ir.PackedTensor(array, self.dtype, shape=self.shape).numpy()
        else:
            found = array.view(self.dtype.numpy().newbyteorder("<")).reshape(self.shape)
            # Native kernels and onnxruntime take the pointer as it is; raw_data may start anywhere.
            found = found if found.flags.aligned else found.copy()
        if copy or (dtype is not None and found.dtype != dtype):
            return found.astype(found.dtype if dtype is None else dtype)
        return found

    def __repr__(self) -> str:
        return f"{self.length} bytes at {self.offset} of {self.source.path!r}"


class StoredTensor(ir.Tensor[StoredBytes]):
    """A tensor whose bytes lie in a `Source`.

    `numpy()` is a read-only view without a copy where the bytes are aligned for their type; else, and for
    types of less than a byte, it is a new array at each call.
    """

    __slots__ = ()

    def __init__(
        self,
        stored: StoredBytes,
        *,
        name: str | None,
        doc_string: str | None = None,
        metadata_props: dict[str, str] | None = None,
    ) -> None:
        super().__init__(
            stored,
            stored.dtype,
            shape=ir.Shape(stored.shape),
            name=name,
            doc_string=doc_string,
            metadata_props=metadata_props,
        )

    def tobytes(self) -> bytes:
        return bytes(self.raw.view())


def checked_shape(dims: Sequence[int], tensor: str) -> tuple[int, ...]:
    """Return `dims` as a tuple.

    Raises:
        ModelError: A dim is negative.
    """
    shape = tuple(dims)
    if any(dim < 0 for dim in shape):
        raise ModelError(f"tensor '{tensor}': shape {list(shape)} has a negative dim", value=tensor)
    return shape
