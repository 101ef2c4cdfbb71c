"""Who will run the result: for each target, what it has and what that costs there."""

from graphopt.targets.operators import Cost, OperatorRow, Preference
from graphopt.targets.target import Target, find, names
from graphopt.targets.work import SAMPLE, SAMPLES

__all__ = ["SAMPLE", "SAMPLES", "Cost", "OperatorRow", "Preference", "Target", "find", "names"]
