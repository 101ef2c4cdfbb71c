"""Who will run the result: for each target, what it has and what that costs there."""

from graphopt.targets.target import Target, find, names

__all__ = ["Target", "find", "names"]
