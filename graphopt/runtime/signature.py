"""What a session takes and gives, and what of a feed does not fit it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from graphopt.errors import ExecutionError
from graphopt.runtime.arrays import DTYPES, NAMES, PLAIN, STRING, Array, number_of, to_engine

__all__ = ["Inputs", "NodeArg", "fitting"]

Dims = tuple[int | str | None, ...]

_NUMBERS = {f"tensor({name})": number for number, name in NAMES.items()}


@dataclass(frozen=True, slots=True)
class NodeArg:
    """An input or output.

    Attributes:
        name: Its name in the model.
        type: "tensor(float)", "seq(tensor(int64))", "optional(...)".
        dims: Numbers, names, or None where neither is given; None: the rank is not known.
    """

    name: str
    type: str
    dims: Dims | None

    @property
    def shape(self) -> list[int | str | None]:
        """The dims as a list; empty for scalars and where the rank is not known."""
        return list(self.dims or ())

    @property
    def dtype(self) -> int:
        """ONNX's number of the element type; 0 for what is no tensor."""
        return _NUMBERS.get(self.type, 0)

    def __str__(self) -> str:
        if self.dims is None:
            return self.type
        return f"{self.type} [{', '.join('?' if dim is None else str(dim) for dim in self.dims)}]"


class Inputs:
    """The inputs of a session, ready to check feeds."""

    def __init__(self, args: Sequence[NodeArg]) -> None:
        self._args = tuple(args)
        # What needs no conversion is recognised by its type alone.
        self._plans = [(a, a.name, a.dtype, DTYPES[a.dtype] if a.dtype in PLAIN else None) for a in args]

    def engine_values(self, feeds: Mapping[str, object]) -> list[object]:
        """The feeds in the engine's form and order.

        Raises:
            ExecutionError: An input is missing, unknown, or has another type or shape than the model says.
        """
        sizes: dict[str, tuple[int, str]] = {}
        values: list[object] = []
        if len(feeds) > len(self._plans):
            raise self._misnamed(feeds)
        for arg, name, number, dtype in self._plans:
            if name not in feeds:
                raise self._misnamed(feeds)
            value = feeds[name]
            if type(value) is np.ndarray and value.dtype == dtype and value.flags.c_contiguous and arg.dims:
                _check_dims(arg, value, sizes)
                values.append((value, number))
            else:
                values.append(_engine_value(arg, value, sizes))
        return values

    def _misnamed(self, feeds: Mapping[str, object]) -> ExecutionError:
        """The error for names that are missing or too many."""
        names = [arg.name for arg in self._args]
        takes = f"the model takes {', '.join(names) or 'no inputs'}"
        if missing := [name for name in names if name not in feeds]:
            return ExecutionError(f"input {missing[0]!r} is missing; {takes}", value=missing[0])
        unknown = next(name for name in feeds if name not in names)
        return ExecutionError(f"there is no input {unknown!r}; {takes}", value=unknown)


def fitting(arg: NodeArg, value: object) -> Array:
    """A tensor as an array of the input's type; lists and numbers of Python take it on.

    Raises:
        ExecutionError: It has another type.
    """
    try:
        array = _array_of(arg, value)
        found = number_of(array)
    except (TypeError, ValueError, OverflowError) as error:
        raise ExecutionError(f"input {arg.name!r}: {error}; the model takes {arg}", value=arg.name) from error
    if found != arg.dtype:
        raise _misfit(arg, array)
    return array


def _engine_value(arg: NodeArg, value: object, sizes: dict[str, tuple[int, str]]) -> object:
    if arg.dtype == 0:
        return to_engine(_nested(arg, arg.type, value))
    array = fitting(arg, value)
    if arg.dims == () and array.size == 1:
        # One element is taken for a scalar, whatever its rank.
        array = array.reshape(())
    if arg.dims is not None:
        _check_dims(arg, array, sizes)
    return to_engine(array)


def _nested(arg: NodeArg, type_: str, value: object) -> object:
    """A sequence or an optional, its tensors of the types that the model says."""
    kind, _, inner = type_.removesuffix(")").partition("(")
    if kind == "optional":
        return None if value is None else _nested(arg, inner, value)
    if kind == "seq":
        if not isinstance(value, list | tuple):
            raise ExecutionError(f"input {arg.name!r}: the model takes {arg}, not a {type(value).__name__}")
        return [_nested(arg, inner, item) for item in value]
    if type_ in _NUMBERS:
        return fitting(NodeArg(arg.name, type_, None), value)
    # The model does not say.
    return fitting(NodeArg(arg.name, f"tensor({NAMES[_number_in(arg, value)]})", None), value)


def _number_in(arg: NodeArg, value: object) -> int:
    try:
        return number_of(np.asarray(value))
    except (TypeError, ValueError) as error:
        raise ExecutionError(f"input {arg.name!r}: {error}") from error


def _array_of(arg: NodeArg, value: object) -> Array:
    if isinstance(value, np.ndarray):
        return value
    if value is None:
        raise TypeError("None is no tensor")
    if isinstance(value, np.generic) or hasattr(value, "__array__") or hasattr(value, "__array_interface__"):
        return np.asarray(value)
    if hasattr(value, "__dlpack__"):
        made: Array = np.from_dlpack(value)
        return made
    return np.asarray(value, dtype=object if arg.dtype == STRING else DTYPES[arg.dtype])


def _check_dims(arg: NodeArg, array: Array, sizes: dict[str, tuple[int, str]]) -> None:
    assert arg.dims is not None
    if array.ndim != len(arg.dims):
        raise _misfit(arg, array)
    for wanted, found in zip(arg.dims, array.shape, strict=True):
        if isinstance(wanted, str):
            size, by = sizes.setdefault(wanted, (found, arg.name))
            if size != found:
                raise _misfit(arg, array, f", where {wanted} is {size} by input {by!r}")
        elif wanted is not None and wanted != found:
            raise _misfit(arg, array)


def _misfit(arg: NodeArg, array: Array, why: str = "") -> ExecutionError:
    found = NodeArg(arg.name, f"tensor({NAMES[number_of(array)]})", tuple(array.shape))
    return ExecutionError(f"input {arg.name!r}: the model takes {arg}, not {found}{why}", value=arg.name)
