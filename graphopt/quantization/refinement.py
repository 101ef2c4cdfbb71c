"""Refinement: better scales and codes of weights, layer by layer, judged by the layer's output.

Each weight is given to one or several algorithms with X^T X of its inputs. What comes out is kept only if the
output on rows of held-out samples is nearer to the float one than with the scales and codes there were; the
note of it has both errors, as shares of the output's power.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.errors import UsageError
from graphopt.ir.quant_table import QuantTable, TensorPlan
from graphopt.ir.quantizing import Grid, block_grid, limits_of, quantized
from graphopt.quantization.adaround import adaround
from graphopt.quantization.admm import admm
from graphopt.quantization.bias_correction import has_bias
from graphopt.quantization.descent import descend
from graphopt.quantization.easyquant import choose_scales
from graphopt.quantization.gptq import gptq
from graphopt.quantization.moments import as_scale_and_shift
from graphopt.quantization.planning import Candidate, candidates
from graphopt.quantization.products import Product, product_of
from graphopt.quantization.statistics import InputStatistics, Statistics

__all__ = ["REFINEMENTS", "Method", "Refined", "Refinement", "block_plans", "refine"]

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

Method = Literal["none", "easyquant", "admm", "gptq", "adaround", "moments", "auto"]
REFINEMENTS: tuple[Method, ...] = ("none", "easyquant", "admm", "gptq", "adaround", "moments", "auto")

BLOCK = 32
# What "auto" tries, best first; the others where a weight is so small that it costs nothing.
_AUTO: tuple[Method, ...] = ("gptq",)
_AUTO_OF_SMALL: tuple[Method, ...] = ("gptq", "admm", "easyquant")
_AUTO_OF_GROUPS: tuple[Method, ...] = ("gptq", "easyquant")
_SMALL, _GROUPS = 1 << 22, 16
_FACTORS = tuple(float(f) for f in np.linspace(0.7, 1.05, 15))


@dataclass(frozen=True, slots=True)
class Refinement:
    """What was tried on a weight.

    Attributes:
        weight: Its scoped name.
        bits: Of its codes.
        method: What was best, whether it was kept or not.
        before: Error of the output on held-out rows, as a share of its power.
        after: The same with what was found.
        kept: Whether it is in the table.
    """

    weight: str
    bits: int
    method: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Refined:
    """What refinement gives.

    Attributes:
        table: With better scales and codes.
        blocks: Plans of weights with 4 bits, where they were asked for.
        notes: One for each weight, and each number of bits, that something was tried on.
    """

    table: QuantTable
    blocks: dict[str, TensorPlan]
    notes: tuple[Refinement, ...]


@dataclass(frozen=True)
class _Layer:
    """A weight with what its users were seen to take.

    Attributes:
        product: How it is a matrix product.
        weight: Its numbers: [group, K, N].
        inputs: Statistics of all inputs that it is multiplied with.
        users: Its users that were seen, and which of the inputs each takes.
        is_biased: Whether all users add something to what they give.
    """

    product: Product
    weight: Wide
    inputs: tuple[InputStatistics, ...]
    users: tuple[tuple[str, int], ...] = ()
    is_biased: bool = False

    def parts(self) -> Iterator[tuple[int, slice, Wide]]:
        """Group, rows of the weight, and X^T X of all that is known together."""
        sums = [[np.asarray(gram, np.float64) for gram in seen.gram()] for seen in self.inputs]
        for i, block in enumerate(self.inputs[0].blocks):
            for group in range(self.product.groups):
                total: Wide = np.sum([grams[i][group] for grams in sums], axis=0)
                yield group, slice(block.start, block.stop), total

    def error(self, numbers: Wide, shifts: Sequence[Wide] = ()) -> float:
        """Squared error of the output on held-out rows, as a share of its squares.

        Args:
            numbers: In the weight's place.
            shifts: What is added to the output, [group, N] for each input; nothing where there is none.
        """
        noise = signal = 0.0
        for i, seen in enumerate(self.inputs):
            rows = seen.held_out.astype(np.float64).transpose(1, 0, 2)
            shift = shifts[i][:, None] if shifts else 0.0
            noise += float(((rows @ (numbers - self.weight) + shift) ** 2).sum())
            signal += float(((rows @ self.weight) ** 2).sum())
        return noise / signal if signal > 0 else 0.0


@dataclass(frozen=True)
class _Found:
    """What an algorithm makes of a weight.

    Attributes:
        method: Which one.
        grid: Scales.
        codes: Shaped like the weight.
        shifts: What is to be added to outputs, [group, N] for each input of the layer; empty: nothing.
    """

    method: Method
    grid: Grid
    codes: Array
    shifts: tuple[Wide, ...] = ()


def refine(
    model: ir.Model,
    table: QuantTable,
    statistics: Statistics,
    method: Method = "auto",
    *,
    bits: int = 8,
    tell: Callable[[str], None] = lambda _: None,
) -> Refined:
    """Refine the weights of a table.

    Args:
        model: The float model that the statistics are of.
        table: Everything quantized that may be.
        statistics: Of the inputs of its operators.
        method: Which algorithm; "auto": GPTQ and descent, for small weights what is best.
        bits: 4: weights that may have blocks of 4 bits get a plan with them, too.
        tell: Called with a few words.

    Raises:
        UsageError: There is no such method.
    """
    if method not in REFINEMENTS:
        raise UsageError(f"there is no refinement {method!r}", hint=f"one of {', '.join(REFINEMENTS)}")
    tensors, corrections, notes = dict(table.tensors), dict(table.corrections), []
    # One at a time: all of them would be the model in float64.
    count = sum(1 for _ in _layers(model, statistics)) if method != "none" else 0
    for i, (name, layer) in enumerate(_layers(model, statistics) if count else ()):
        plan = tensors.get(name)
        if plan is None or plan.codes is not None:
            continue
        tell(f"refine: {i + 1} of {count} weights")
        tensors[name], note, shifts = _refined(name, layer, plan, method)
        corrections |= shifts
        notes.append(note)
    blocks: dict[str, TensorPlan] = {}
    if bits == 4:
        blocks, others = block_plans(model, statistics, method, tell=tell)
        notes += others
    return Refined(replace(table, tensors=tensors, corrections=corrections), blocks, tuple(notes))


def block_plans(
    model: ir.Model,
    statistics: Statistics,
    method: Method = "auto",
    block_size: int = BLOCK,
    tell: Callable[[str], None] = lambda _: None,
) -> tuple[dict[str, TensorPlan], tuple[Refinement, ...]]:
    """Plans with 4 bits, a scale for each block of the summed axis, of all weights that may have them."""
    found: dict[str, TensorPlan] = {}
    notes: list[Refinement] = []
    depths = {c.weight_name: c.weight.depth for c in candidates(model)}
    for name, layer in _layers(model, statistics):
        axis = depths[name]
        if axis is None or layer.product.depth <= block_size:
            continue
        tell(f"refine: {len(found) + 1} weights of 4 bits")
        array = layer.product.weight(layer.weight).astype(np.float32)
        plan = TensorPlan(block_grid(array, axis, block_size), "weight")
        # A scale of a block can't be found by column: its codes are what there is to choose.
        chosen: Method = method if method in ("none", "gptq", "adaround") else "gptq"
        if chosen != "none":
            plan, note, _ = _refined(name, layer, plan, chosen)
            notes.append(note)
        found[name] = plan
    return found, tuple(notes)


def _layers(model: ir.Model, statistics: Statistics) -> Iterator[tuple[str, _Layer]]:
    """Each weight whose users are products of one form, some of them seen."""
    users: dict[str, list[Candidate]] = {}
    for candidate in candidates(model):
        users.setdefault(candidate.weight_name, []).append(candidate)
    for name, found in users.items():
        products = {product_of(candidate.weight) for candidate in found}
        seen = [statistics.of(candidate.name) for candidate in found]
        inputs = tuple({id(s): s for s in seen if s is not None}.values())
        places = {id(s): i for i, s in enumerate(inputs)}
        pairs = zip(found, seen, strict=True)
        takers = tuple((user.name, places[id(s)]) for user, s in pairs if s is not None)
        product = products.pop()
        if products or product is None or not inputs:
            continue
        array = found[0].weight.tensor.numpy()
        if np.isfinite(array).all():
            matrix = product.matrix(array).astype(np.float64)
            yield name, _Layer(product, matrix, inputs, takers, all(has_bias(user) for user in found))


def _refined(
    name: str, layer: _Layer, plan: TensorPlan, method: Method
) -> tuple[TensorPlan, Refinement, dict[str, Floats]]:
    """The better of a plan and what an algorithm makes of it, and corrections that are part of it."""
    before = layer.error(_numbers(layer, plan.grid, _nearest(layer, plan.grid)))
    tried = [_by(one, layer, plan.grid) for one in _methods(layer, plan.grid, method)]
    errors = [layer.error(_numbers(layer, found.grid, found.codes), found.shifts) for found in tried]
    after = min(errors)
    best = tried[errors.index(after)]
    kept = after < before
    note = Refinement(name, bits_of(plan.grid), best.method, before, after, kept)
    if not kept:
        return plan, note, {}
    is_nearest = np.array_equal(best.codes, _nearest(layer, best.grid))
    shifts = {user: best.shifts[i].reshape(-1).astype(np.float32) for user, i in layer.users if best.shifts}
    return replace(plan, grid=best.grid, codes=None if is_nearest else best.codes), note, shifts


def bits_of(grid: Grid) -> int:
    """How many bits the codes of a grid have."""
    return grid.bits or int(grid.dtype.bitwidth)


def _methods(layer: _Layer, grid: Grid, method: Method) -> Sequence[Method]:
    if method != "auto":
        return (method,)
    if grid.block_size or layer.weight.size * layer.product.depth > _SMALL:
        return _AUTO
    return _AUTO_OF_SMALL if layer.product.groups <= _GROUPS else _AUTO_OF_GROUPS


def _by(method: Method, layer: _Layer, grid: Grid) -> _Found:
    """Scales and codes by one algorithm; scales change where all of a column share one."""
    limits = limits_of(grid.dtype, narrow=grid.narrow, bits=grid.bits)
    shape = layer.product.shape
    scale, zero = (
        layer.product.matrix(np.broadcast_to(x, shape)).astype(np.float64) for x in grid.spread(shape)
    )
    if method == "moments":
        return _with_moments(layer, grid)
    if method in ("easyquant", "admm"):
        grid, found = _searched(method, layer, grid, limits)
        if found is None:
            return _Found(method, grid, _nearest(layer, grid))
        return _Found(method, grid, _as_codes(layer, grid, found))
    codes = np.empty(layer.weight.shape, np.int64)
    for group, rows, gram in layer.parts():
        weight, s, z = (x[group, rows] for x in (layer.weight, scale, zero))
        if method == "adaround":
            codes[group, rows] = adaround(weight, s, gram, limits, zero=z)
        else:
            first = gptq(weight, s, gram, limits, zero=z)
            codes[group, rows] = descend(weight, first, s, _damped(gram), limits, zero=z)
    return _Found(method, grid, _as_codes(layer, grid, codes))


def _with_moments(layer: _Layer, grid: Grid) -> _Found:
    """Nearest codes with the deviation of the weights, and outputs with their mean."""
    columns, codes = _columns(layer, grid), _nearest(layer, grid)
    # The shift needs a place; of a ConvTranspose columns are not outputs.
    if columns is None or not layer.is_biased or layer.product.op_type == "ConvTranspose":
        return _Found("moments", grid, codes)
    near = _numbers(layer, grid, codes)
    ratios = np.ones_like(columns)
    shifts = [np.zeros_like(columns) for _ in layer.inputs]
    for group, (weight, rounded) in enumerate(zip(layer.weight, near, strict=True)):
        for seen, shift in zip(layer.inputs, shifts, strict=True):
            ratios[group], shift[group] = as_scale_and_shift(weight.T, rounded.T, seen.mean[group])
    scale = (columns * ratios).reshape(grid.scale.shape).astype(np.float32)
    return _Found("moments", replace(grid, scale=scale), codes, tuple(shifts))


def _nearest(layer: _Layer, grid: Grid) -> Array:
    return quantized(layer.product.weight(layer.weight).astype(np.float32), grid)


def _searched(
    method: Method, layer: _Layer, grid: Grid, limits: tuple[int, int]
) -> tuple[Grid, Integers | None]:
    """A scale for each column, and codes where they are not the nearest ones."""
    columns = _columns(layer, grid)
    whole = layer.inputs[0].blocks
    if columns is None or len(whole) > 1 or grid.zero_point.any():
        return grid, None
    scales = np.array(columns)
    codes = np.empty(layer.weight.shape, np.int64) if method == "admm" else None
    for group, _, gram in layer.parts():
        weight = layer.weight[group]
        if codes is not None:
            found, codes[group] = admm(weight, columns[group], _damped(gram), limits[1])
        else:
            found = choose_scales(weight, columns[group], gram, limits, factors=_FACTORS)
        scales[group] = found
    made = scales.reshape(grid.scale.shape).astype(np.float32)
    return replace(grid, scale=made), codes


def _columns(layer: _Layer, grid: Grid) -> Wide | None:
    """The scale of each column: [group, N]; None where a column has several, or a scale several columns."""
    groups, _, outputs = layer.weight.shape
    if grid.axis is None or grid.block_size or grid.scale.size != groups * outputs:
        return None
    return grid.scale.astype(np.float64).reshape(groups, outputs)


def _damped(gram: Wide) -> Wide:
    """What is known of inputs is known of few samples: a little is added, as GPTQ does."""
    return gram + 0.01 * float(np.diagonal(gram).mean()) * np.eye(len(gram))


def _as_codes(layer: _Layer, grid: Grid, matrix: Integers) -> Array:
    found: Array = layer.product.weight(matrix).astype(grid.dtype.numpy())
    return found


def _numbers(layer: _Layer, grid: Grid, codes: Array) -> Wide:
    """What codes stand for: [group, K, N]."""
    scale, zero = grid.spread(layer.product.shape)
    numbers = (codes.astype(np.float64) - zero.astype(np.float64)) * scale.astype(np.float64)
    return layer.product.matrix(numbers).astype(np.float64)
