"""What one tool's tables say and another's can't."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Losses"]


@dataclass
class Losses:
    """Fields that got lost, each with how often, one example, and why.

    Attributes:
        found: By field and reason: how often, and the first entry.
    """

    found: dict[tuple[str, str], tuple[int, str]] = field(default_factory=dict)

    def add(self, field_name: str, entry: str, why: str) -> None:
        """Note that a field of an entry is lost."""
        count, example = self.found.get((field_name, why), (0, entry))
        self.found[field_name, why] = (count + 1, example)

    def lines(self) -> list[str]:
        """One line for each field and reason."""
        return [
            f"lost {name}: {why} ({count}, as {example!r})"
            for (name, why), (count, example) in self.found.items()
        ]
