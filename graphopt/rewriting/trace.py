"""The record of every rewrite, and the one switch that replay, `--stop-after` and bisection use.

The pipeline is deterministic: the same model, the same pipeline and the same answers of `allow` give
the same firings in the same order. So a firing is dropped by running again and saying no to it.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Place:
    """Where a rule fires: the pass, the rule, the scope and the anchor's first output."""

    pass_name: str
    rule: str
    scope: str
    anchor: str

    def __str__(self) -> str:
        scope = f"{self.scope}:" if self.scope else ""
        return f"{self.pass_name}/{self.rule}@{scope}{self.anchor}"


@dataclass(frozen=True, slots=True)
class FiringId:
    """A place and how many times it was asked for before: rules can fire again where they fired."""

    place: Place
    ordinal: int

    def __str__(self) -> str:
        return f"{self.place}#{self.ordinal}"


@dataclass(frozen=True, slots=True)
class Firing:
    """One rewrite that happened.

    Attributes:
        id: Stable name of the firing.
        removed: Operators that went, by type.
        added: Operators that came, by type.
    """

    id: FiringId
    removed: Mapping[str, int]
    added: Mapping[str, int]

    def __str__(self) -> str:
        gone = ", ".join(f"{n} {t}" for t, n in sorted(self.removed.items())) or "nothing"
        come = ", ".join(f"{n} {t}" for t, n in sorted(self.added.items())) or "nothing"
        return f"{self.id}: {gone} -> {come}"


@dataclass(slots=True)
class PassStatistics:
    """What one pass did over the whole run: firings, typed rejections, seconds."""

    fired: int = 0
    rejected: int = 0
    seconds: float = 0.0


@dataclass(slots=True)
class Trace:
    """Firings in order, and which ones may happen.

    Attributes:
        limit: At most this many firings (`--stop-after`); None: no limit.
        denied: Firings that must not happen. A place stays closed from the denied ordinal on.
        denied_rules: (pass, rule) pairs that must not fire anywhere.
        explain: Name of the pass whose near misses are kept.
        misses: The near misses of that pass: (place, reason).
        faults: What rules raised that should not have: pass/rule and the exception.
    """

    limit: int | None = None
    denied: frozenset[FiringId] = frozenset()
    denied_rules: frozenset[tuple[str, str]] = frozenset()
    explain: str | None = None
    firings: list[Firing] = field(default_factory=list)
    misses: dict[Place, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    statistics: dict[str, PassStatistics] = field(default_factory=lambda: defaultdict(PassStatistics))
    _asked: Counter[Place] = field(default_factory=Counter)
    _closed: dict[Place, int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._closed = {d.place: d.ordinal for d in self.denied}

    def allow(self, place: Place) -> FiringId | None:
        """Whether a rewrite may happen here: its id, to be recorded afterwards, or None."""
        if self.limit is not None and len(self.firings) >= self.limit:
            return None
        if (place.pass_name, place.rule) in self.denied_rules:
            return None
        ordinal = self._asked[place]
        closed = self._closed.get(place)
        if closed is not None and ordinal >= closed:
            return None
        return FiringId(place, ordinal)

    def record(self, identity: FiringId, removed: Iterable[str], added: Iterable[str]) -> None:
        """Keep a firing that happened."""
        self._asked[identity.place] += 1
        self.firings.append(Firing(identity, Counter(removed), Counter(added)))
        self.statistics[identity.place.pass_name].fired += 1
        self.misses.pop(identity.place, None)

    def miss(self, place: Place, reason: str) -> None:
        """Keep why a rule that nearly fits did not fire."""
        if self.explain == place.pass_name:
            self.misses[place] = reason
