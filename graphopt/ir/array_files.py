"""Arrays in files: `.npz` by name, `.npy` where one name goes without saying."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from graphopt.errors import UsageError

__all__ = ["read_arrays"]

Array = npt.NDArray[np.generic]

_HINT = "write it with numpy.savez, keys = input names"


def read_arrays(path: Path, names: Sequence[str] = ()) -> dict[str, Array]:
    """The arrays of a file by name.

    Args:
        path: The file.
        names: The inputs' names: where it is one alone, an array without a name (.npy) is that input's.

    Raises:
        UsageError: It is no such file.
    """
    import zipfile
    import zlib

    try:
        content = np.load(path, allow_pickle=False)
        if isinstance(content, np.ndarray):
            if len(names) != 1:
                lacks = f", and the model has {len(names)} inputs" if names else " without a name"
                raise UsageError(f"{path}: one array{lacks}", hint=_HINT)
            return {names[0]: content}
        with content:
            return {key: np.asarray(content[key]) for key in content.files}
    except (OSError, EOFError, ValueError, zipfile.BadZipFile, zlib.error) as error:
        # What begins as no file of numpy's does is taken by numpy for a pickle.
        reason = "neither .npz nor .npy" if "pickled (object) data" in str(error) else error
        raise UsageError(f"{path}: not a file of arrays ({reason})", hint=_HINT) from error
