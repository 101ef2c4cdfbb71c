"""The constants of a program, each once."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.constants import constant
from graphopt.lowering.program import Constant

__all__ = ["ConstantPool"]


class ConstantPool:
    """Constants by number; found again by the identity of what they were made of."""

    def __init__(self) -> None:
        self.constants: list[Constant] = []
        self._numbers: dict[tuple[object, ...], int] = {}
        # What is found by identity may not go away.
        self._kept: list[object] = []

    def array(self, array: npt.NDArray[np.generic], dtype: int) -> int:
        """The number of a new constant."""
        return self._add(Constant((array,), (dtype,)))

    def tensor(self, tensor: ir.TensorProtocol) -> int:
        """The number of a tensor of the model as it is."""
        key = ("", id(tensor))
        if key not in self._numbers:
            self._kept.append(tensor)
            self._numbers[key] = self._add(Constant((tensor.numpy(),), (int(tensor.dtype),)))
        return self._numbers[key]

    def packed(
        self, packer: str, sources: Sequence[ir.Value | npt.NDArray[np.generic]], ints: Sequence[int]
    ) -> int:
        """The number of constants in the form of a packer."""
        objects = [constant(s) if isinstance(s, ir.Value) else s for s in sources]
        key = (packer, *(id(o) for o in objects), *ints)
        if key not in self._numbers:
            self._kept.extend(objects)
            arrays = [o if isinstance(o, np.ndarray) else _tensor(o).numpy() for o in objects]
            dtypes = [
                int(ir.DataType.from_numpy(o.dtype) if isinstance(o, np.ndarray) else _tensor(o).dtype)
                for o in objects
            ]
            self._numbers[key] = self._add(Constant(tuple(arrays), tuple(dtypes), packer, tuple(ints)))
        return self._numbers[key]

    def _add(self, made: Constant) -> int:
        self.constants.append(made)
        return len(self.constants) - 1


def _tensor(found: ir.TensorProtocol | None) -> ir.TensorProtocol:
    assert found is not None, "only constants are packed"
    return found
