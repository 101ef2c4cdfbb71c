"""What refinement needs to know of the inputs of weighted operators, from one pass over the samples.

Of each input X (rows of K numbers, see `products`): the mean of every column, the largest size in every
channel, X^T X, and at most `ROWS` rows. All that the squared error of Y = X W' depends on is X^T X: it is the
trace of (W' - W)^T X^T X (W' - W).

Which rows are kept, and which samples are held out, is decided by hashes of a sample's contents and of the
numbers of rows: samples in any order, on any number of workers, keep the same rows. Sums are of float64, so
that order shows in their last digits alone.
"""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from graphopt.quantization.products import Product, product_of

if TYPE_CHECKING:
    from graphopt.quantization.planning import Candidate

__all__ = ["HELD_OUT", "InputStatistics", "Statistics", "is_held_out", "sample_key"]

Array = npt.NDArray[np.generic]
Floats = npt.NDArray[np.float32]
Floating = npt.NDArray[np.floating]
Wide = npt.NDArray[np.float64]
Keys = npt.NDArray[np.uint64]

# Rows kept of an input; fewer where they would be more than so many numbers.
ROWS, KEPT_NUMBERS = 512, 1 << 20
# Rows of one array that count for X^T X: a picture has thousands of windows that are much alike.
ROWS_OF_CONV, ROWS_OF_ARRAY = 256, 4096
# Rows wait for a product of so many, decoders bring them one by one.
WAITING = 256
# All X^T X of a model together take at most so many bytes: first they become float32, then only blocks of
# columns beside each other are kept, down to the smallest.
BUDGET = 256 << 20
LARGEST_BLOCK, SMALLEST_BLOCK = 2048, 128
# One sample of so many is held out.
HELD_OUT = 4
_SEED = 0x9E3779B97F4A7C15


@dataclass(slots=True)
class InputStatistics:
    """Of one input that operators multiply by weights.

    Attributes:
        product: How it becomes rows.
        block: Columns of which X^T X is kept together.
        dtype: Of X^T X.
        count: Rows seen.
        largest: Largest size in each input channel.
        grams: For each block of columns X^T X of the samples that are not held out: [group, block, block].
        gram_count: How many rows are in it.
    """

    product: Product
    block: int = LARGEST_BLOCK
    dtype: type[np.float64] | type[np.float32] = np.float64
    count: int = 0
    largest: Floats = field(default_factory=lambda: np.zeros(0, np.float32))
    grams: list[Floating] = field(default_factory=list)
    gram_count: int = 0
    _sums: Wide = field(default_factory=lambda: np.zeros(0))
    _rows: list[Floats] = field(default_factory=list)
    _ranks: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))
    _samples: Keys = field(default_factory=lambda: np.zeros(0, np.uint64))
    _waiting: list[Floats] = field(default_factory=list)
    _waiting_rows: int = 0

    def __post_init__(self) -> None:
        groups = self.product.groups
        self.largest = np.zeros(self.product.channels, np.float32)
        self._sums = np.zeros((groups, self.product.depth))
        self.grams = [np.zeros((groups, len(b), len(b)), self.dtype) for b in self.blocks]

    @property
    def blocks(self) -> list[range]:
        """Which columns each of `grams` is of."""
        depth = self.product.depth
        parts = -(-depth // self.block)
        ends = [depth * i // parts for i in range(parts + 1)]
        return [range(a, b) for a, b in itertools.pairwise(ends)]

    @property
    def most_rows(self) -> int:
        """How many rows are kept."""
        return min(ROWS, max(KEPT_NUMBERS // max(self.product.groups * self.product.depth, 1), 16))

    @property
    def mean(self) -> Wide:
        """Mean of each column of X over everything seen: float64[group, K]."""
        return self._sums / max(self.count, 1)

    @property
    def rows(self) -> Floats:
        """The rows kept, in the order of their samples: [rows, group, K]."""
        self._compact()
        order = np.lexsort((self._ranks, self._samples))
        return self._all_rows()[order]

    @property
    def fit(self) -> Floats:
        """Rows to choose by: [rows, group, K]."""
        return self._part(held_out=False)

    @property
    def held_out(self) -> Floats:
        """Rows to judge by, of other samples than `fit` and `grams` where there are several."""
        return self._part(held_out=True)

    def gram(self) -> list[Floating]:
        """X^T X for each block of columns; of the rows kept where all samples are held out."""
        self._multiply()
        if self.gram_count:
            return self.grams
        rows = self.rows.astype(np.float64)
        return [_gram(rows[:, :, b.start : b.stop]) for b in self.blocks]

    def forget_products(self) -> None:
        """Drop X^T X; `gram` gives that of the rows kept from now on."""
        self.grams, self.gram_count = [], 0
        self._waiting, self._waiting_rows = [], 0

    def update(self, array: Array, sample: int, visit: int) -> None:
        """See one array.

        Args:
            array: What a sample made of the input.
            sample: Key of the sample.
            visit: How many arrays of this sample came before it.
        """
        values = np.asarray(array, np.float32)
        if not values.size or not np.isfinite(values).all():
            return
        count = self.product.count(values)
        if count <= 0:
            return
        self.count += count
        self._sums += self.product.sums(values)
        np.maximum(self.largest, np.abs(self.product.by_channel(values)).max(0), out=self.largest)
        ranks = _mixed(
            np.arange(count, dtype=np.uint64) + np.uint64((visit << 32) & (2**64 - 1)), np.uint64(sample)
        )
        most = ROWS_OF_CONV if self.product.op_type == "Conv" else ROWS_OF_ARRAY
        chosen = None
        if count > most:
            chosen = np.sort(np.argpartition(ranks, most)[:most])
            ranks = ranks[chosen]
        rows = self.product.rows(values, chosen)
        self._keep(rows, ranks, sample)
        if not is_held_out(sample):
            self._waiting.append(rows if rows.base is None else rows.copy())
            self.gram_count += len(rows)
            self._waiting_rows += len(rows)
            if self._waiting_rows >= WAITING:
                self._multiply()

    def merge(self, other: InputStatistics) -> None:
        """Add what another one has seen."""
        self._multiply()
        other._multiply()
        self.count += other.count
        self._sums += other._sums
        self.largest = np.maximum(self.largest, other.largest)
        self.gram_count += other.gram_count
        for mine, theirs in zip(self.grams, other.grams, strict=True):
            mine += theirs
        self._rows += other._rows
        self._ranks = np.concatenate([self._ranks, other._ranks])
        self._samples = np.concatenate([self._samples, other._samples])
        self._compact()

    def state(self) -> dict[str, Array]:
        """All that it holds, as arrays; rows that wait go on waiting, so that sums keep their order."""
        return {
            "counts": np.asarray([self.count, self.gram_count], np.int64),
            "largest": self.largest,
            "sums": self._sums,
            "rows": self._all_rows(),
            "ranks": self._ranks,
            "samples": self._samples,
            "waiting": np.concatenate(self._waiting) if self._waiting else self._no_rows(),
            **{f"gram{i}": gram for i, gram in enumerate(self.grams)},
        }

    def restore(self, state: Mapping[str, Array]) -> None:
        """Take what `state` gave."""
        self.count, self.gram_count = (int(x) for x in state["counts"].tolist())
        self.largest = state["largest"].astype(np.float32, copy=False)
        self._sums = state["sums"].astype(np.float64, copy=False)
        self._rows = [state["rows"].astype(np.float32, copy=False)]
        self._ranks = state["ranks"].astype(np.uint64, copy=False)
        self._samples = state["samples"].astype(np.uint64, copy=False)
        waiting = state["waiting"].astype(np.float32, copy=False)
        self._waiting, self._waiting_rows = ([waiting] if len(waiting) else []), len(waiting)
        self.grams = [state[f"gram{i}"].astype(self.dtype, copy=False) for i in range(len(self.grams))]

    def _no_rows(self) -> Floats:
        return np.zeros((0, self.product.groups, self.product.depth), np.float32)

    def _multiply(self) -> None:
        if not self._waiting:
            return
        rows: Floating = np.concatenate(self._waiting).astype(self.dtype)
        self._waiting, self._waiting_rows = [], 0
        for block, gram in zip(self.blocks, self.grams, strict=True):
            gram += _gram(rows[:, :, block.start : block.stop])

    def _keep(self, rows: Floats, ranks: Keys, sample: int) -> None:
        """Keep the rows with the lowest ranks of all that were seen."""
        limit = self._ranks.max() if len(self._ranks) >= self.most_rows else None
        few = ranks < limit if limit is not None else np.ones(len(ranks), bool)
        if int(few.sum()) > self.most_rows:
            few = ranks <= np.partition(ranks, self.most_rows - 1)[self.most_rows - 1]
        if not few.any():
            return
        self._rows.append(rows[few].copy())
        self._ranks = np.concatenate([self._ranks, ranks[few]])
        self._samples = np.concatenate([self._samples, np.full(int(few.sum()), sample, np.uint64)])
        if len(self._ranks) >= 2 * self.most_rows:
            self._compact()

    def _compact(self) -> None:
        most = self.most_rows
        if len(self._ranks) > most:
            kept = np.sort(np.lexsort((self._samples, self._ranks))[:most])
            self._rows = [self._all_rows()[kept]]
            self._ranks, self._samples = self._ranks[kept], self._samples[kept]

    def _all_rows(self) -> Floats:
        if not self._rows:
            return self._no_rows()
        if len(self._rows) > 1:
            self._rows = [np.concatenate(self._rows)]
        return self._rows[0]

    def _part(self, *, held_out: bool) -> Floats:
        rows = self.rows
        is_held = _held_out(np.sort(self._samples))
        if is_held.all() or not is_held.any():
            # One sample, or a few that all fell on one side: every fourth row then.
            is_held = np.arange(len(rows)) % HELD_OUT == HELD_OUT - 1
        return rows[is_held if held_out else ~is_held]


class Statistics:
    """Of the inputs of all weighted operators of a model; those that share an input share them.

    Attributes:
        inputs: Scoped name of a value, and how it becomes rows -> its statistics.
        operators: Scoped name of an operator -> key of `inputs`.
    """

    def __init__(self, found: Sequence[Candidate], budget: int = BUDGET) -> None:
        self.inputs: dict[tuple[str, Product], InputStatistics] = {}
        self.operators: dict[str, tuple[str, Product]] = {}
        for candidate in found:
            product = product_of(candidate.weight)
            if product is not None and candidate.source is not None:
                self.operators[candidate.name] = (candidate.source, _geometry(product))
        keys = dict.fromkeys(self.operators.values())
        block, dtype = _affordable([product for _, product in keys], budget)
        for key in keys:
            self.inputs[key] = InputStatistics(key[1], block, dtype)
        self._by_value: dict[str, list[InputStatistics]] = {}
        for (name, _), statistics in self.inputs.items():
            self._by_value.setdefault(name, []).append(statistics)
        self._sample = 0
        self._visits: dict[str, int] = {}

    @property
    def values(self) -> list[str]:
        """Scoped names of the values to see."""
        return list(self._by_value)

    def of(self, operator: str) -> InputStatistics | None:
        """Statistics of an operator's input; None where it has no weight, or nothing was seen."""
        key = self.operators.get(operator)
        found = self.inputs[key] if key is not None else None
        return found if found is not None and found.count else None

    def begin(self, feeds: Mapping[str, Array]) -> None:
        """A new sample begins."""
        self._sample = sample_key(feeds)
        self._visits = {}

    def see(self, name: str, array: Array) -> None:
        """See what the sample makes of a value; others than `values` are passed over."""
        found = self._by_value.get(name)
        if found is None:
            return
        visit = self._visits.get(name, 0)
        self._visits[name] = visit + 1
        for statistics in found:
            statistics.update(array, self._sample, visit)

    @property
    def parts(self) -> list[tuple[str, InputStatistics]]:
        """What gathers, each with a name of its own."""
        return [(f"{name} {product}", found) for (name, product), found in self.inputs.items()]

    def forget_products(self) -> None:
        """Drop X^T X, most of what is kept: sums and rows stay."""
        for statistics in self.inputs.values():
            statistics.forget_products()

    def merge(self, other: Statistics) -> None:
        """Add what another worker has seen of the same model."""
        for key, statistics in self.inputs.items():
            statistics.merge(other.inputs[key])


def sample_key(feeds: Mapping[str, Array]) -> int:
    """A number that says which sample it is, whatever its place among others."""
    digest = hashlib.blake2b(digest_size=8)
    for name in sorted(feeds):
        array = np.ascontiguousarray(feeds[name])
        digest.update(f"{name}{array.dtype}{array.shape}".encode())
        digest.update(array.tobytes())
    return int.from_bytes(digest.digest(), "little")


def _geometry(product: Product) -> Product:
    """The product with nothing in its weight's shape but what rows depend on."""
    shape = list(product.shape)
    if product.op_type == "Conv":
        shape[0] = product.groups
    elif product.op_type == "ConvTranspose":
        shape[1:] = [1] * len(shape[1:])
    else:
        return Product("MatMul", (product.depth, 1), input_turned=product.input_turned)
    return Product(
        product.op_type,
        tuple(shape),
        product.groups,
        strides=product.strides,
        dilations=product.dilations,
        pads=product.pads,
        auto_pad=product.auto_pad,
    )


def _affordable(products: Sequence[Product], budget: int) -> tuple[int, type[np.float64] | type[np.float32]]:
    """The largest block, and the better type, with which all X^T X take no more than the budget."""

    def numbers(block: int) -> int:
        return sum(p.groups * p.depth * min(p.depth, block) for p in products)

    if 8 * numbers(LARGEST_BLOCK) <= budget:
        return LARGEST_BLOCK, np.float64
    block = LARGEST_BLOCK
    while block > SMALLEST_BLOCK and 4 * numbers(block) > budget:
        block //= 2
    return block, np.float32


def _gram(rows: Floating) -> Floating:
    by_group = rows.transpose(1, 0, 2)
    return by_group.transpose(0, 2, 1) @ by_group


def _mixed(numbers: Keys, seed: np.uint64) -> Keys:
    """Splitmix64: numbers that look random, the same for the same numbers."""
    with np.errstate(over="ignore"):
        z = (numbers + seed) * np.uint64(_SEED) + np.uint64(_SEED)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def is_held_out(sample: int) -> bool:
    """Whether nothing is fitted to a sample with this key."""
    return bool(_held_out(np.asarray([sample], np.uint64))[0])


def _held_out(samples: Keys) -> npt.NDArray[np.bool_]:
    found: npt.NDArray[np.bool_] = _mixed(samples, np.uint64(1)) % np.uint64(HELD_OUT) == 0
    return found
