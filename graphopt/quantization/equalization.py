"""Cross-layer equalization, and weights adjusted to one scale: numbers that channels are divided by.

    equalization   s = sqrt(r1 / r2)     both weights get the range sqrt(r1 r2) in every channel
    adjustment     s = r1 / max(r1)      one scale serves all channels of the weight that makes them

r1 is the range of a channel where it is made, r2 in the weights that take it. A channel that is zero on
either side stays.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from graphopt.quantization.rescaling import Part, Seam

__all__ = ["adjusting", "equalize", "equalizing", "side_ranges"]

Floats = npt.NDArray[np.float64]
Array = npt.NDArray[np.generic]

# Rounds of going over all seams, and the change of a logarithm that ends them.
ROUNDS, SETTLED = 20, 1e-3


def equalizing(made: Floats, taken: Floats) -> Floats:
    """What channels of these ranges are divided by so that both sides get the same."""
    is_both = (made > 0) & (taken > 0)
    ratio = np.divide(made, taken, out=np.ones_like(made), where=is_both)
    return np.sqrt(ratio)


def adjusting(made: Floats) -> Floats:
    """What channels are divided by so that all get the largest range."""
    return np.where(made > 0, made / max(float(made.max(initial=0.0)), np.finfo(np.float64).tiny), 1.0)


def channel_ranges(array: Array, part: Part, size: int) -> Floats:
    """The largest size that a constant has in each channel of a seam."""
    others = tuple(i for i in range(array.ndim) if i != part.axis)
    along = np.abs(np.asarray(array, np.float64)).max(axis=others, initial=0.0)
    found = np.zeros(size)
    here = part.power != 0
    np.maximum.at(found, part.index[here], along[here])
    return found


def equalize(
    found: Sequence[Seam], weights: Mapping[str, Array], inputs: Sequence[Floats | None]
) -> list[Floats]:
    """Equalize all seams, again and again until nothing moves: neighbours share weights.

    Args:
        found: The seams.
        weights: Contents of the weights at them, by scoped name.
        inputs: For each seam the range of its channels where no weight makes them; None: not known.

    Returns:
        For each seam what its channels are divided by.
    """
    scaled = {name: np.asarray(array, np.float64).copy() for name, array in weights.items()}
    ranges = [None if given is None else given.copy() for given in inputs]
    numbers = [np.ones(seam.size) for seam in found]
    for _ in range(ROUNDS):
        change = 0.0
        for i, seam in enumerate(found):
            made, taken = _sides(seam, scaled, ranges[i])
            if made is None or taken is None:
                continue
            step = equalizing(made, taken)
            change = max(change, float(np.abs(np.log(step)).max(initial=0.0)))
            numbers[i] = numbers[i] * step
            given = ranges[i]
            if given is not None:
                ranges[i] = given / step
            for part in seam.constants:
                if part.name in scaled:
                    dims = [1] * scaled[part.name].ndim
                    dims[part.axis] = part.index.size
                    scaled[part.name] *= part.factors(step).reshape(dims)
        if change < SETTLED:
            break
    return numbers


def _sides(
    seam: Seam, weights: Mapping[str, Array], given: Floats | None
) -> tuple[Floats | None, Floats | None]:
    """Ranges of the channels where they are made and where they are taken; None: nothing there."""
    made = side_ranges(seam, weights, made=True)
    return given if made is None else made, side_ranges(seam, weights, made=False)


def side_ranges(seam: Seam, weights: Mapping[str, Array], *, made: bool) -> Floats | None:
    """Ranges of channels in the weights that make them, or in those that take them; None: in none."""
    found = [
        channel_ranges(weights[part.name], part, seam.size)
        for part in seam.constants
        if part.name in weights and is_maker(part) == made
    ]
    return np.max(found, axis=0) if found else None


def is_maker(part: Part) -> bool:
    """Whether channels are made on its side: one that is multiplied is on the other, as K is beside Q."""
    return bool(part.power.min(initial=0) < 0)
