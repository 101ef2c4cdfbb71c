"""Which group is what: losses add up, so it is a knapsack with one choice for each group.

Two ways to go: from the fastest choice of everything step by step to what loses less, the step that saves the
most loss for its cost first (`ladder`, within one step of the best that any mixture could be); and the exact
best within a number of bytes or of operators that fall back (`best_within`, by dynamic programming).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from graphopt.quantization.choices import CHOICES, Choice, may_be, stored_bytes
from graphopt.quantization.groups import Group
from graphopt.quantization.sensitivity import Sensitivity
from graphopt.quantization.speeds import time_of

__all__ = [
    "Option",
    "Options",
    "best_within",
    "best_within_time",
    "hull",
    "knee",
    "ladder",
    "options_of",
    "sums",
]

Choices = dict[str, Choice]
Options = Mapping[str, Sequence["Option"]]

# Cells that a budget is cut into.
CELLS = 8192
# Prices of time lie between 10^-30 and 10^30; so often the range of exponents is halved.
_PRICES, _STEPS = 30.0, 14


@dataclass(frozen=True, slots=True)
class Option:
    """What a group may be.

    Attributes:
        choice: Its form.
        bytes: Of its weights in the file.
        time: Predicted, in multiplications of codes.
        loss: What it adds to the metric.
        fallbacks: Operators that do not compute with codes though they could.
    """

    choice: Choice
    bytes: int
    time: float
    loss: float
    fallbacks: int = 0


def options_of(
    groups: Sequence[Group],
    found: Mapping[str, Sensitivity],
    choices: Sequence[Choice],
    target: str = "onnx",
) -> dict[str, list[Option]]:
    """Options of each group by its name, the fastest kind first."""
    return {
        group.name: [
            Option(
                choice,
                stored_bytes(group, choice),
                sum(time_of(target, member, choice) for member in group.members),
                found[group.name].loss(choice),
                len(group.members) if group.is_integer and choice not in ("int8", "int7") else 0,
            )
            for choice in CHOICES
            if choice in choices and may_be(group, choice)
        ]
        for group in groups
    }


def sums(options: Options, choices: Mapping[str, Choice]) -> Option:
    """Bytes, time, loss and fallbacks of everything together."""
    taken = [next(o for o in options[name] if o.choice == choice) for name, choice in choices.items()]
    return Option(
        "float",
        sum(o.bytes for o in taken),
        math.fsum(o.time for o in taken),
        math.fsum(o.loss for o in taken),
        sum(o.fallbacks for o in taken),
    )


def hull(options: Sequence[Option], cost: Callable[[Option], float]) -> list[Option]:
    """Options that a mixture of others does not beat: rising cost, each step saves less for its cost."""
    ordered = sorted(options, key=lambda o: (cost(o), o.loss))
    found: list[Option] = []
    for option in ordered:
        if found and option.loss >= found[-1].loss:
            continue
        if found and cost(option) <= cost(found[-1]):
            found.pop()
        while len(found) >= 2 and _saved(found[-2], option, cost) >= _saved(found[-2], found[-1], cost):
            found.pop()
        found.append(option)
    return found


def _saved(first: Option, second: Option, cost: Callable[[Option], float]) -> float:
    """Loss saved for each unit of cost."""
    added = cost(second) - cost(first)
    return (first.loss - second.loss) / added if added > 0 else math.inf


def ladder(options: Options, cost: Callable[[Option], float]) -> list[Choices]:
    """From the least cost to the least loss, a step at a time, the most worthwhile first."""
    hulls = {name: hull(found, cost) for name, found in options.items()}
    current: Choices = {name: found[0].choice for name, found in hulls.items()}
    steps = [
        (-_saved(a, b, cost), number, name, b.choice)
        for number, (name, found) in enumerate(hulls.items())
        for a, b in itertools.pairwise(found)
    ]
    rungs = [dict(current)]
    for _, _, name, choice in sorted(steps, key=lambda step: step[:2]):
        current[name] = choice
        rungs.append(dict(current))
    return rungs


def best_within(options: Options, budget: float, weight: Callable[[Option], float]) -> Choices | None:
    """The least loss with a sum of weights within a budget; None: there is no such choice.

    Weights are rounded up to `CELLS` cells: what is found keeps the budget.
    """
    names = list(options)
    least = {name: min(weight(o) for o in options[name]) for name in names}
    room = budget - math.fsum(least.values())
    if room < 0:
        return None
    most = math.fsum(max(weight(o) for o in options[name]) - least[name] for name in names)
    room = min(room, most)
    # Small whole numbers are cells themselves.
    cell = max(room / CELLS, 1.0) if room > 0 else 1.0
    count = int(room / cell)
    losses: npt.NDArray[np.float64] = np.zeros(count + 1)
    taken: list[npt.NDArray[np.int16]] = []
    for name in names:
        best, which = np.full(count + 1, np.inf), np.zeros(count + 1, np.int16)
        for i, option in enumerate(options[name]):
            need = math.ceil((weight(option) - least[name]) / cell - 1e-9)
            if need > count:
                continue
            with_it = np.full(count + 1, np.inf)
            with_it[need:] = losses[: count + 1 - need] + option.loss
            better = with_it < best
            best[better], which[better] = with_it[better], i
        losses = best
        taken.append(which)
    if not np.isfinite(losses[count]):
        return None
    left, found = count, {}
    for name, which in zip(reversed(names), reversed(taken), strict=True):
        option = options[name][which[left]]
        found[name] = option.choice
        left -= math.ceil((weight(option) - least[name]) / cell - 1e-9)
    return {name: found[name] for name in names}


def best_within_time(
    options: Options, budget: float, weight: Callable[[Option], float], most: float
) -> Choices | None:
    """The least loss with a sum of weights within a budget, and a predicted time of at most so much.

    Time has a price, the lowest with which it is kept to. None: there is no such choice.
    """

    def priced(price: float) -> Choices | None:
        dear = {
            name: [replace(o, loss=o.loss + price * o.time) for o in mine] for name, mine in options.items()
        }
        return best_within(dear, budget, weight)

    found = priced(0.0)
    if found is None or sums(options, found).time <= most:
        return found
    low, high = -_PRICES, _PRICES
    found = priced(10.0**high)
    if found is None or sums(options, found).time > most:
        return None
    for _ in range(_STEPS):
        middle = (low + high) / 2
        tried = priced(10.0**middle)
        if tried is not None and sums(options, tried).time <= most:
            high, found = middle, tried
        else:
            low = middle
    return found


def knee(points: Sequence[tuple[float, float]]) -> int:
    """Which point of a falling curve (cost, loss) bends the most: the farthest below the line of its ends.

    Losses are compared by their logarithm.
    """
    order = sorted(range(len(points)), key=lambda i: points[i])
    xs = np.asarray([points[i][0] for i in order], np.float64)
    logs = np.log(np.maximum(np.asarray([points[i][1] for i in order], np.float64), 1e-30))
    if len(points) < 3 or xs[0] == xs[-1] or logs[0] == logs[-1]:
        return order[0] if points else 0
    x, y = (xs - xs[0]) / (xs[-1] - xs[0]), (logs - logs[-1]) / (logs[0] - logs[-1])
    return order[int(np.argmax(1 - x - y))]
