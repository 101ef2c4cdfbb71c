"""Is it still the same: sampled inputs, judges, comparison, bisection."""

from graphopt.verification.bisection import bisect
from graphopt.verification.verify import Mismatch, Verification, Verifier

__all__ = ["Mismatch", "Verification", "Verifier", "bisect"]
