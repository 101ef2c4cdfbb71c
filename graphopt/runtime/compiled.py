"""A model as the native engine opens it: tables, constants, signature. Knows nothing of graphs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from graphopt.runtime.arrays import STRING, Array, carried, to_engine
from graphopt.runtime.signature import NodeArg

__all__ = ["Compiled", "CompiledConstant"]


@dataclass(frozen=True, slots=True)
class CompiledConstant:
    """A constant: one array as it is, or the sources of a packed form.

    Attributes:
        packer: Name of the packed form; empty: the one array as it is.
        ints: Parameters of the packer.
    """

    arrays: tuple[Array, ...]
    dtypes: tuple[int, ...]
    packer: str = ""
    ints: tuple[int, ...] = ()

    def for_engine(self) -> tuple[list[object], list[int], str, list[int]]:
        """The form that the engine takes."""
        form = _as_it_lies if self.packer else _plain
        arrays = [form(array, dtype) for array, dtype in zip(self.arrays, self.dtypes, strict=True)]
        return arrays, list(self.dtypes), self.packer, list(self.ints)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A program with all that a session needs.

    Attributes:
        words: The program as integers; `kernels/engine/program.cpp` reads them.
        texts: Names that the words number; so `blobs`, further attributes of instructions.
        defaults: Inputs that may be left out.
        fallbacks: Operators that the reference implementation runs, with the reason.
        facts: What else is known of how it was made, for people.
    """

    words: npt.NDArray[np.int64]
    texts: list[str]
    blobs: list[bytes]
    constants: list[CompiledConstant]
    inputs: tuple[NodeArg, ...]
    outputs: tuple[NodeArg, ...]
    defaults: Mapping[str, Array] = field(default_factory=dict)
    fallbacks: tuple[tuple[str, str], ...] = ()
    facts: Mapping[str, str] = field(default_factory=dict)


def _as_it_lies(array: Array, dtype: int) -> object:
    """Matrices are packed from memory of any strides: no copy of a transposed one."""
    return carried(array, dtype) if array.ndim == 2 and dtype != STRING else _plain(array, dtype)


def _plain(array: Array, dtype: int) -> object:
    given = to_engine(array)
    assert isinstance(given, tuple)
    return given if dtype == STRING else given[0]
