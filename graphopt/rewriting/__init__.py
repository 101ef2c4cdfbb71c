"""How a graph changes: patterns, rules, passes, pipelines, and the driver that applies them."""

from graphopt.rewriting.driver import Driver, PassFault, RulesFight
from graphopt.rewriting.editor import Editor
from graphopt.rewriting.match import (
    HAS_OTHER_CONSUMERS,
    IS_GRAPH_OUTPUT,
    NEEDS_OPSET,
    OTHER_SCOPE,
    WOULD_NEED_IDENTITY,
    Match,
    Rejection,
    Replacement,
)
from graphopt.rewriting.operators import constant, gopt, ms, op, operators, optional
from graphopt.rewriting.passes import Pass, graphsurgeon_pass
from graphopt.rewriting.pattern import any_of, attr, const
from graphopt.rewriting.pipeline import Group, Pipeline
from graphopt.rewriting.registry import register
from graphopt.rewriting.rule import Rule, rule, rule_on
from graphopt.rewriting.scope import Scope
from graphopt.rewriting.trace import Firing, FiringId, PassStatistics, Place, Trace

__all__ = [
    "HAS_OTHER_CONSUMERS",
    "IS_GRAPH_OUTPUT",
    "NEEDS_OPSET",
    "OTHER_SCOPE",
    "WOULD_NEED_IDENTITY",
    "Driver",
    "Editor",
    "Firing",
    "FiringId",
    "Group",
    "Match",
    "Pass",
    "PassFault",
    "PassStatistics",
    "Pipeline",
    "Place",
    "Rejection",
    "Replacement",
    "Rule",
    "RulesFight",
    "Scope",
    "Trace",
    "any_of",
    "attr",
    "const",
    "constant",
    "gopt",
    "graphsurgeon_pass",
    "ms",
    "op",
    "operators",
    "optional",
    "register",
    "rule",
    "rule_on",
]
