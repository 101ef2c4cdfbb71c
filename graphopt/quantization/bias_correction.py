"""Bias correction: what quantizing shifts the output channels of operators by is taken off again.

    b <- b - E[Y' - Y]

Y is what an operator gives in the float model, Y' in the quantized one, in which what comes before is
corrected already: operators are corrected in some rounds, from the inputs on. A correction stays if it lowers
the error of the output on held-out samples: if what these are shifted by is nearer to it than to zero. What
weights alone shift is known without running anything: E[x] of their inputs, times how far they were rounded.

Only operators that add something anyway are corrected: an operator more would cost more than it mends.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir import constants
from graphopt.ir.quant_table import QuantTable
from graphopt.ir.quantizing import dequantized, quantized
from graphopt.ir.scoped_names import scopes_by_graph
from graphopt.quantization.applying import with_table
from graphopt.quantization.collect import collect
from graphopt.quantization.planning import Candidate, candidates
from graphopt.quantization.products import product_of
from graphopt.quantization.statistics import Statistics

__all__ = [
    "BiasNote",
    "Corrected",
    "correct_biases",
    "correct_by_weights",
    "has_bias",
    "relu_mean",
    "weight_shift",
]

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Wide = npt.NDArray[np.float64]

WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")
# Operators are corrected in so many rounds, each of which runs the quantized model.
ROUNDS = 4
# One sample of so many is held out.
HELD_OUT = 4


@dataclass(frozen=True, slots=True)
class BiasNote:
    """What came of correcting one operator.

    Attributes:
        operator: Its scoped name.
        before: Square of what held-out samples are shifted by, over the mean square of the output.
        after: The same with the correction.
        kept: Whether it stayed.
    """

    operator: str
    before: float
    after: float
    kept: bool


@dataclass(frozen=True, slots=True)
class Corrected:
    """What bias correction gives.

    Attributes:
        table: With corrections.
        notes: One for each operator.
    """

    table: QuantTable
    notes: tuple[BiasNote, ...]


def weight_shift(difference: Wide, mean: Wide) -> Wide:
    """What each output is shifted by where the weight [K, N] differs and inputs have this mean: E[x] eps."""
    found: Wide = mean @ difference
    return found


def relu_mean(mean: Wide | float, deviation: Wide | float) -> Wide:
    """E[Relu(x)] of normal x: what a Relu behind a BatchNormalization gives on average, without samples."""
    mu, sd = np.broadcast_arrays(np.asarray(mean, np.float64), np.asarray(deviation, np.float64))
    safe = np.where(sd > 0, sd, 1.0)
    z = mu / safe
    cdf = np.asarray([0.5 * (1 + math.erf(x / math.sqrt(2))) for x in z.reshape(-1)]).reshape(z.shape)
    pdf = np.exp(-0.5 * z**2) / math.sqrt(2 * math.pi)
    found: Wide = np.where(sd > 0, safe * pdf + mu * cdf, np.maximum(mu, 0.0))
    return found


def correct_by_weights(model: ir.Model, table: QuantTable, statistics: Statistics) -> Corrected:
    """Add corrections for what rounding of weights alone shifts, on top of those that a table has.

    Args:
        model: The float model.
        table: What it is quantized by.
        statistics: Of its operators' inputs.
    """
    corrections = dict(table.corrections)
    notes: list[BiasNote] = []
    for candidate in _correctable(model, table):
        seen, product = statistics.of(candidate.name), product_of(candidate.weight)
        plan = table.tensors.get(candidate.weight_name)
        # Of a ConvTranspose windows overlap, and how often is not known.
        if seen is None or product is None or plan is None or product.op_type == "ConvTranspose":
            continue
        rows = seen.held_out.astype(np.float64).transpose(1, 0, 2)
        if not rows.shape[1]:
            continue  # Nothing to judge by.
        weight = candidate.weight.tensor.numpy()
        codes = plan.codes if plan.codes is not None else quantized(weight, plan.grid)
        wide = product.matrix(weight).astype(np.float64)
        difference = product.matrix(dequantized(codes, plan.grid)).astype(np.float64) - wide
        size = max(float(((rows @ wide) ** 2).mean(1).sum()), np.finfo(np.float64).tiny)
        shift, held = (_shifts(difference, means) for means in (seen.mean, rows.mean(1)))
        before, after = float((held**2).sum()) / size, float(((held - shift) ** 2).sum()) / size
        notes.append(BiasNote(candidate.name, before, after, after < before))
        if after < before:
            corrections[candidate.name] = _sum(corrections.get(candidate.name), -shift)
    return Corrected(replace(table, corrections=corrections), tuple(notes))


def _shifts(difference: Wide, means: Wide) -> Wide:
    """Of all groups: [group, K, N] and [group, K] to [outputs]."""
    return np.concatenate([weight_shift(d, m) for d, m in zip(difference, means, strict=True)])


def correct_biases(
    model: ir.Model,
    table: QuantTable,
    samples: Sequence[Mapping[str, Array]],
    tell: Callable[[str], None] = lambda _: None,
) -> Corrected:
    """Add corrections to a table, on top of those that it has.

    Args:
        model: The float model that the table is applied to.
        table: What it is quantized by.
        samples: What to run; some of them are held out.
        tell: Called with a few words.
    """
    planned = _correctable(model, table)
    where = {candidate.name: _place(candidate, model) for candidate in planned}
    if len(samples) < HELD_OUT or not planned:
        return Corrected(table, ())
    truth = _means(model, where, samples)
    notes: list[BiasNote] = []
    corrections = dict(table.corrections)
    rounds = np.array_split(np.arange(len(planned)), min(ROUNDS, len(planned)))
    for i, numbers in enumerate(rounds):
        tell(f"correct biases: round {i + 1} of {len(rounds)}")
        here = {planned[n].name: where[planned[n].name] for n in numbers}
        found = _means(with_table(model, replace(table, corrections=corrections)), here, samples)
        for name in here:
            shift, held = (found[name].mean(h) - truth[name].mean(h) for h in (False, True))
            size = max(truth[name].size, np.finfo(np.float64).tiny)
            before, after = float((held**2).sum()) / size, float(((held - shift) ** 2).sum()) / size
            kept = bool(np.isfinite(shift).all() and after < before)
            notes.append(BiasNote(name, before, after, kept))
            if kept:
                corrections[name] = _sum(corrections.get(name), -shift)
    return Corrected(replace(table, corrections=corrections), tuple(notes))


def has_bias(candidate: Candidate) -> bool:
    """Whether an operator has a constant bias, or a constant is added to what it alone gives."""
    node = candidate.weight.node
    if node.op_type in WITH_BIAS:
        array = constants.array(node.inputs[2]) if len(node.inputs) > 2 else None
        return array is not None and array.ndim <= 1
    return _sum_behind(node) is not None


def _correctable(model: ir.Model, table: QuantTable) -> list[Candidate]:
    return [c for c in candidates(model) if _is_quantized(c, table) and not c.weight.is_table and has_bias(c)]


def _sum(first: Floats | None, second: Wide) -> Floats:
    return (second if first is None else first + second).astype(np.float32)


def _is_quantized(candidate: Candidate, table: QuantTable) -> bool:
    plan = table.operators.get(candidate.name)
    return plan is not None and plan.mode in ("int8", "weight_only")


@dataclass(slots=True)
class _Sums:
    """Sums over all rows of a value, by channel, for samples to correct by and for held-out ones.

    Attributes:
        axis: The channels.
        totals: Sums, by whether they are held out.
        counts: Rows.
        squares: Sum of all squares, over both.
    """

    axis: int
    totals: dict[bool, Wide] = field(default_factory=dict)
    counts: dict[bool, int] = field(default_factory=dict)
    squares: float = 0.0

    def add(self, array: Array, *, held_out: bool) -> None:
        if not array.size:
            return
        rows = np.moveaxis(np.asarray(array, np.float64), self.axis, -1).reshape(-1, array.shape[self.axis])
        self.totals[held_out] = self.totals.get(held_out, 0.0) + rows.sum(0)
        self.counts[held_out] = self.counts.get(held_out, 0) + len(rows)
        self.squares += float((rows**2).sum())

    def mean(self, held_out: bool) -> Wide:
        return self.totals.get(held_out, np.zeros(1)) / max(self.counts.get(held_out, 0), 1)

    @property
    def size(self) -> float:
        return self.squares / max(sum(self.counts.values()), 1)


def _means(
    model: ir.Model, where: Mapping[str, tuple[str, int]], samples: Iterable[Mapping[str, Array]]
) -> dict[str, _Sums]:
    """Run samples, with sums of the values that these operators make: by operator."""
    sums = {operator: _Sums(axis) for operator, (_, axis) in where.items()}
    by_value = {value: sums[operator] for operator, (value, _) in where.items()}
    done = 0

    def after(count: int) -> None:
        nonlocal done
        done = count

    def see(name: str, array: Array) -> None:
        by_value[name].add(array, held_out=done % HELD_OUT == HELD_OUT - 1)

    collect(model, list(by_value), samples, see, after)
    return sums


def _place(candidate: Candidate, model: ir.Model) -> tuple[str, int]:
    """The scoped name of what an operator gives with its bias, and the axis of the channels."""
    node = candidate.weight.node
    node = _sum_behind(node) or node
    scope = scopes_by_graph(model)[node.graph] if node.graph is not None else ""
    return f"{scope}{node.outputs[0].name}", -1 if candidate.weight.is_matrix else 1


def _sum_behind(node: ir.Node) -> ir.Node | None:
    """The Add of a constant that alone takes what a product of matrices gives."""
    out = node.outputs[0]
    uses = list(out.uses())
    if node.op_type != "MatMul" or len(uses) != 1 or out.is_graph_output():
        return None
    user = uses[0].node
    array = (
        constants.array(user.inputs[1 - uses[0].idx]) if user.op_type == "Add" and not user.domain else None
    )
    return user if array is not None and array.ndim <= 1 else None
