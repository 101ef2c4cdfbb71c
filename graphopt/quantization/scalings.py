"""Numbers chosen for seams, as scalings of constants."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from graphopt.ir.quant_table import Scaling
from graphopt.quantization.rescaling import Seam

__all__ = ["scalings_of"]

Floats = npt.NDArray[np.float64]


def scalings_of(found: Sequence[Seam], numbers: Sequence[Floats | None]) -> dict[str, tuple[Scaling, ...]]:
    """The scalings of all constants, by scoped name.

    Args:
        found: The seams of a model.
        numbers: For each what its channels are divided by; None: nothing.
    """
    factors: dict[str, dict[int, Floats]] = {}
    for seam, chosen in zip(found, numbers, strict=True):
        if chosen is None:
            continue
        for part in seam.constants:
            along = factors.setdefault(part.name, {})
            along[part.axis] = along.get(part.axis, 1.0) * part.factors(chosen)
    return {
        name: scalings
        for name, along in factors.items()
        if (scalings := tuple(Scaling(a, f.astype(np.float32)) for a, f in along.items() if (f != 1).any()))
    }
