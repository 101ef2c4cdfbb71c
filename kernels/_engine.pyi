"""The native engine, as `kernels/engine/bindings.cpp` binds it.

A tensor is (array, number of its element type), where types that numpy lacks come as integers of their size;
one of strings is (list of bytes, dims, 8). A sequence is a list, an empty optional is None.
"""

from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt

_Array = npt.NDArray[np.generic]

class Engine:
    def __init__(
        self,
        words: npt.NDArray[np.int64],
        texts: list[str],
        blobs: list[bytes],
        constants: Sequence[object],
        threads: int,
        limit_bytes: int,
        limit_iterations: int,
    ) -> None: ...
    def run(
        self,
        inputs: list[object],
        reference: Callable[[int, bytes, list[object]], list[object]] | None,
        tap: Callable[[str, Sequence[int], object, int], None] | None,
        targets: list[object] | None = None,
        limit_bytes: int = 0,
        limit_iterations: int = 0,
    ) -> list[object]: ...
    def profile(self, on: bool) -> None: ...
    def times(self) -> list[list[tuple[str, str, int, int, int]]]: ...
    @property
    def packed_bytes(self) -> int: ...
    @property
    def arena_bytes(self) -> int: ...

def call_kernel(
    name: str,
    inputs: Sequence[tuple[_Array, int] | None],
    outputs: Sequence[tuple[int, Sequence[int] | None, Sequence[int] | None]],
    ints: Sequence[int],
    floats: Sequence[float],
    bytes: bytes,
    threads: int,
    repeat: int,
) -> list[_Array]: ...
def pack(name: str, sources: Sequence[tuple[_Array, int]], ints: Sequence[int], isa: str = "") -> _Array: ...
def unpack(
    isa: str,
    name: str,
    sources: Sequence[tuple[int, Sequence[int]]],
    ints: Sequence[int],
    packed: npt.NDArray[np.uint8],
) -> list[_Array]: ...
def weight_block(bytes: int) -> npt.NDArray[np.uint8]: ...
def kernel_names() -> list[str]: ...
def packer_names() -> list[str]: ...
def isa() -> str: ...
