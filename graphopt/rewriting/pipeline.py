"""Pipelines as text that parses back: `fold-constants{limit-bytes=16M},(fuse-gelu,merge-common)`.

A pass runs to its own fixed point; passes in parentheses run together to a common one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace

from graphopt.errors import UsageError
from graphopt.rewriting import registry
from graphopt.rewriting.passes import Pass

_TOKEN = re.compile(
    r"\s*(?:(?P<open>\()|(?P<close>\))|(?P<comma>,)|(?P<name>[a-z0-9][a-z0-9-]*)(?:\{(?P<options>[^}]*)\})?)"
)


@dataclass(frozen=True, slots=True)
class Group:
    """Passes that run together to a common fixed point."""

    passes: tuple[Pass, ...]

    def __str__(self) -> str:
        text = ",".join(str(p) for p in self.passes)
        return text if len(self.passes) == 1 else f"({text})"


@dataclass(frozen=True, slots=True)
class Pipeline:
    """Groups in order."""

    groups: tuple[Group, ...]

    def __str__(self) -> str:
        return ",".join(str(g) for g in self.groups)

    def without(self, names: Iterable[str]) -> Pipeline:
        """The pipeline less some passes.

        Raises:
            UsageError: If there is no pass of such a name.
        """
        skipped = {registry.find(name).name for name in names}
        groups = (replace(g, passes=tuple(p for p in g.passes if p.name not in skipped)) for g in self.groups)
        return Pipeline(tuple(g for g in groups if g.passes))

    def parted(self) -> tuple[Pipeline, Pipeline]:
        """The passes that change the signature, and the others."""
        parts: list[Pipeline] = []
        for changes in (True, False):
            groups = (
                replace(g, passes=tuple(p for p in g.passes if p.changes_signature is changes))
                for g in self.groups
            )
            parts.append(Pipeline(tuple(g for g in groups if g.passes)))
        return parts[0], parts[1]


def parse(text: str) -> Pipeline:
    """Read a pipeline.

    Raises:
        UsageError: If the text is malformed or names an unknown pass or option.
    """
    groups: list[Group] = []
    together: list[Pass] | None = None
    position, wants_pass = 0, True
    text = text.strip()
    while position < len(text):
        token = _TOKEN.match(text, position)
        if token is None:
            raise UsageError(f"pipeline can't be read at {text[position : position + 20]!r}")
        kind = token.lastgroup if token.lastgroup != "options" else "name"
        if kind == "name" and wants_pass:
            made = _pass(token["name"], token["options"])
            if together is None:
                groups.append(Group((made,)))
            else:
                together.append(made)
            wants_pass = False
        elif kind == "open" and wants_pass and together is None:
            together = []
        elif kind == "close" and not wants_pass and together is not None:
            groups.append(Group(tuple(together)))
            together = None
        elif kind == "comma" and not wants_pass:
            wants_pass = True
        else:
            raise UsageError(
                f"pipeline: {token.group().strip()!r} is not expected at column {token.start() + 1}"
            )
        position = token.end()
    if together is not None or (wants_pass and groups):
        raise UsageError(f"pipeline ends too early: {text[-30:]!r}")
    return Pipeline(tuple(groups))


def _pass(name: str, options: str | None) -> Pass:
    given: dict[str, str] = {}
    for part in (options or "").split(","):
        if part.strip():
            key, equals, value = part.partition("=")
            if not equals:
                raise UsageError(f"pass {name}: option {part.strip()!r} needs a value: {part.strip()}=...")
            given[key.strip()] = value.strip()
    return registry.find(name).from_options(given)


def default(level: int, target: str, added: Iterable[type[Pass]] = ()) -> Pipeline:
    """The pipeline of -O0 to -O3 for a target.

    Later groups contain the earlier ones' passes: what a fusion leaves is simplified again, and only
    what changed is looked at.

    Args:
        level: 0 to 3.
        target: Who will run the result.
        added: Passes that are not built in, to run at their stage.

    Raises:
        UsageError: If there is no such level.
    """
    if level not in (0, 1, 2, 3):
        raise UsageError(f"there is no level -O{level}: 0 to 3")
    chosen = [
        cls()
        for cls in (*registry.builtin(), *added)
        if cls.level <= level and (not cls.targets or target in cls.targets)
    ]
    stages = {
        s: tuple(p for p in chosen if p.stage == s)
        for s in ("open", "simplify", "fuse", "attention", "target", "finish")
    }
    if level == 0:
        return Pipeline(())
    groups = [Group((p,)) for p in stages["open"]]
    joint: tuple[Pass, ...] = ()
    for stage in ("simplify", "fuse", "attention", "target"):
        if stages[stage]:
            joint += stages[stage]
            groups.append(Group(joint))
    # What the last passes leave is cleaned up after them.
    last = (*stages["finish"], *(p for p in stages["open"] if p.again))
    groups += [Group((p,)) for p in sorted(last, key=lambda p: (p.family == "cleanup", p.name))]
    return Pipeline(tuple(groups))
