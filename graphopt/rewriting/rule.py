"""Rules: a pattern, conditions, a replacement.

    @rule
    def double_negation(x):
        \"\"\"Neg(Neg(x)) -> x.\"\"\"
        return op.Neg(op.Neg(x))

    @double_negation.rewrite
    def just_x(m: Match) -> ir.Value:
        return m["x"]

A condition (`@double_negation.when`) returns a `Rejection`, or a fact (any frozen object) that the
replacement receives, or None; False says no without a word, where the place is not even a near miss.
`@rule_on("Concat")` looks at every node of an operator: its function is condition and replacement in
one, for rewrites over any number of inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import overload

from graphopt.rewriting import pattern as patterns
from graphopt.rewriting.match import Match, Rejection, Replacement
from graphopt.rewriting.matcher import match

Condition = Callable[[Match], object]
Rewrite = Callable[..., Replacement | Rejection | None]


# The anchor of a rule that looks at every node: `rule_on()` without operators.
ANY_OPERATOR = ("", "*")


class Rule:
    """A rewrite at one kind of place.

    Attributes:
        name: The rule's name in traces and reports.
        summary: One line, `before -> after`.
        opset: The lowest version of the default domain that the replacement can be written in.
        may_grow: Whether a firing may leave more operators than it found (the reason is in the pass).
        priced: Whether the target's table of costs is asked before each firing: the gain depends on sizes.
        may_slow: Whether a firing may raise the predicted time (the reason is in the pass).
    """

    def __init__(
        self,
        function: Callable[..., object],
        *,
        anchors: tuple[tuple[str, str], ...] | None = None,
        opset: int = 1,
        may_grow: bool = False,
        depth: int = 2,
        priced: bool = False,
        may_slow: bool = False,
    ) -> None:
        self.name = function.__name__.replace("_", "-")
        self.summary = (function.__doc__ or "").strip().splitlines()[0] if function.__doc__ else ""
        self.opset = opset
        self.may_grow = may_grow
        self.priced = priced
        self.may_slow = may_slow
        self._function = function
        self._pattern: patterns.Pattern | None = None
        self._anchors = anchors
        self._depth = depth
        self._conditions: list[Condition] = []
        self._rewrite: Rewrite | None = function if anchors is not None else None  # type: ignore[assignment]

    @property
    def pattern(self) -> patterns.Pattern | None:
        """The traced pattern (traced on first use); None for a rule on an operator."""
        if self._anchors is None and self._pattern is None:
            self._pattern = patterns.trace(self._function)  # type: ignore[arg-type]
        return self._pattern

    @property
    def anchors(self) -> tuple[tuple[str, str], ...]:
        """(domain, operator) of the nodes that the driver shows to this rule."""
        if self._anchors is not None:
            return self._anchors
        assert self.pattern is not None
        return self.pattern.anchors

    @property
    def depth(self) -> int:
        """How many operators above the anchor the rule looks at."""
        return self._depth if self._anchors is not None else self.pattern.depth  # type: ignore[union-attr]

    def when(self, condition: Condition) -> Condition:
        """Add a condition; the last one's fact is what the replacement receives."""
        self._conditions.append(condition)
        return condition

    def rewrite(self, function: Rewrite) -> Rewrite:
        """Set the replacement: it returns the new value (or one for each output of the root)."""
        self._rewrite = function
        return function

    def find(self, place: Match) -> Rejection | tuple[object, ...] | None:
        """Whether the rule applies: None or a Rejection if not, else the replacement's extra arguments."""
        if self.pattern is not None:
            fits = match(self.pattern, place)
            if fits is not True:
                return fits or None
        fact: object = None
        for condition in self._conditions:
            fact = condition(place)
            if fact is False:
                return None
            if isinstance(fact, Rejection):
                return fact
        return () if fact is None else (fact,)

    def replace(self, place: Match, extra: tuple[object, ...]) -> Replacement | Rejection | None:
        """Build the replacement (with `op`), to be put in place by the driver."""
        assert self._rewrite is not None, f"rule {self.name} has no rewrite"
        return self._rewrite(place, *extra)

    def __repr__(self) -> str:
        return f"Rule({self.name})"


@overload
def rule(function: Callable[..., object], /) -> Rule: ...
@overload
def rule(
    *, opset: int = 1, may_grow: bool = False, priced: bool = False, may_slow: bool = False
) -> Callable[[Callable[..., object]], Rule]: ...
def rule(
    function: Callable[..., object] | None = None,
    /,
    *,
    opset: int = 1,
    may_grow: bool = False,
    priced: bool = False,
    may_slow: bool = False,
) -> Rule | Callable[[Callable[..., object]], Rule]:
    """Make a rule of a pattern function."""
    if function is not None:
        return Rule(function)
    return lambda f: Rule(f, opset=opset, may_grow=may_grow, priced=priced, may_slow=may_slow)


def rule_on(
    *op_types: str,
    domain: str = "",
    opset: int = 1,
    may_grow: bool = False,
    depth: int = 2,
    priced: bool = False,
    may_slow: bool = False,
) -> Callable[[Rewrite], Rule]:
    """Make a rule that looks at every node of some operators.

    Args:
        op_types: The operators; none: every node.
        domain: Their domain.
        opset: As in `Rule`.
        may_grow: As in `Rule`.
        depth: How many operators above the node its function looks at (for revisiting).
        priced: As in `Rule`.
        may_slow: As in `Rule`.
    """
    anchors = tuple((domain, t) for t in op_types) or (ANY_OPERATOR,)
    return lambda f: Rule(
        f,
        anchors=anchors,
        opset=opset,
        may_grow=may_grow,
        depth=depth,
        priced=priced,
        may_slow=may_slow,
    )
