"""Equal tensors in a model, found without reading much of it.

Tensors of one dtype and shape are told apart by a few samples of their bytes; only those whose samples
agree are compared in full, in pieces. So gigabytes of external weights cost a few pages each unless two
of them look alike.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Iterator, Sequence

import numpy as np
import onnx_ir as ir

from graphopt.ir.storage import StoredTensor

__all__ = ["find_duplicates"]

# 16 samples of 64 bytes: each lies in one page of 4096, and weights differ in their first words already.
SAMPLES = 16
SAMPLE_BYTES = 64

# How much is compared at once: two pieces stay in a core's cache.
PIECE_BYTES = 1 << 20


def find_duplicates(tensors: Sequence[ir.TensorProtocol]) -> list[tuple[int, ...]]:
    """Groups of tensors with the same dtype, shape and bytes.

    Args:
        tensors: Any kinds. Lazy ones equal nothing but themselves: they are not computed for this.
            Strings are compared in full.

    Returns:
        The indices of each group of two or more, rising, in the order of their first ones.
    """
    candidates: dict[Hashable, list[int]] = {}
    for index, tensor in enumerate(tensors):
        candidates.setdefault(_kind(tensor), []).append(index)
    groups: list[tuple[int, ...]] = []
    for alike in candidates.values():
        if len(alike) < 2:
            continue
        sampled: dict[bytes, list[int]] = {}
        for index in alike:
            sampled.setdefault(_samples(tensors[index]), []).append(index)
        for samples, same in sampled.items():
            if len(same) > 1 and 0 < len(samples) < SAMPLES * SAMPLE_BYTES:
                groups.append(tuple(same))  # The samples were everything.
            else:
                groups.extend(_equal(tensors, same))
    return sorted(groups)


def _kind(tensor: ir.TensorProtocol) -> Hashable:
    if isinstance(tensor, ir.LazyTensor):
        return id(tensor)
    return tensor.dtype, tuple(tensor.shape.numpy())


def _place(tensor: ir.TensorProtocol) -> Hashable:
    """Where the bytes lie; tensors of one place are equal without a look."""
    if isinstance(tensor, StoredTensor):
        return tensor.raw.place
    if isinstance(tensor, ir.ExternalTensor):
        return os.fspath(tensor.path), tensor.offset or 0
    return id(tensor)


def _samples(tensor: ir.TensorProtocol) -> bytes:
    """Bytes at the beginning, at the end, and evenly between; all of a small tensor."""
    if isinstance(tensor, ir.LazyTensor):
        return b""
    contents = _Contents(tensor)
    length = contents.length
    if length <= SAMPLES * SAMPLE_BYTES:
        return contents.at(0, length)
    last = length - SAMPLE_BYTES
    return b"".join(contents.at(last * i // (SAMPLES - 1), SAMPLE_BYTES) for i in range(SAMPLES))


def _equal(tensors: Sequence[ir.TensorProtocol], alike: list[int]) -> Iterator[tuple[int, ...]]:
    """The groups among tensors whose samples agree; each is compared with one of every group so far."""
    groups: list[list[int]] = []
    for index in alike:
        for group in groups:
            if _same_bytes(tensors[group[0]], tensors[index]):
                group.append(index)
                break
        else:
            groups.append([index])
    return (tuple(group) for group in groups if len(group) > 1)


def _same_bytes(left: ir.TensorProtocol, right: ir.TensorProtocol) -> bool:
    if left is right or _place(left) == _place(right):
        return True
    first, second = _Contents(left), _Contents(right)
    length = first.length
    if length <= SAMPLES * SAMPLE_BYTES:
        # The samples were everything.
        return True
    starts = range(0, length, PIECE_BYTES)
    return all(first.at(start, PIECE_BYTES) == second.at(start, PIECE_BYTES) for start in starts)


class _Contents:
    """The bytes of a tensor as they would be stored, any range of them; files are read there alone."""

    def __init__(self, tensor: ir.TensorProtocol) -> None:
        self._path: str | None = None
        self._offset = 0
        self._view: memoryview
        if isinstance(tensor, StoredTensor):
            self._view = tensor.raw.view()
        elif isinstance(tensor, ir.ExternalTensor):
            self._path, self._offset = os.fspath(tensor.path), tensor.offset or 0
            elements = math.prod(tensor.shape.numpy())
            self.length = (elements * tensor.dtype.bitwidth + 7) // 8
            return
        elif tensor.dtype is ir.DataType.STRING:
            # Lengths keep ("ab", "c") and ("a", "bc") apart.
            strings = [bytes(text) for text in tensor.numpy().reshape(-1).tolist()]
            self._view = memoryview(b"".join(len(text).to_bytes(8, "little") + text for text in strings))
        else:
            self._view = _memory(tensor)
        self.length = self._view.nbytes

    def at(self, start: int, length: int) -> bytes:
        """Up to `length` bytes from `start`; fewer at the end."""
        length = min(length, self.length - start)
        if self._path is None:
            return bytes(self._view[start : start + length])
        with open(self._path, "rb", buffering=0) as file:
            return os.pread(file.fileno(), length, self._offset + start)


def _memory(tensor: ir.TensorProtocol) -> memoryview:
    """The bytes of a tensor in memory, without a copy where it is an ordinary array."""
    if tensor.dtype.bitwidth >= 8:
        array = tensor.numpy()
        if array.flags.c_contiguous and array.size:
            return array.reshape(-1).view(np.uint8).data
    return memoryview(tensor.tobytes())
