"""The float model's path: what another model computes where the float one's decisions are taken for granted.

After the first other token two decoders speak of different sentences, and every measure saturates. Here what
the float model decided (indices of largest numbers, comparisons, casts: all integers and booleans made of
floats) is recorded in every iteration, and fed to the other model in place of its own. Both then run the
same loops as often, and the numbers that decisions are made of can be compared step by step.

    before   Loop body: i, tokens -> logits -> ArgMax -> Concat(tokens, .)
    after    Loop body: i, tokens -> logits      Reshape(Slice(recorded, starts[i], starts[i+1]), shapes[i])
                                                  -> Concat(tokens, .)

Decisions inside more than one loop are left free.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx_ir as ir

from graphopt.ir.attributes import attribute
from graphopt.ir.element_types import FLOATS
from graphopt.ir.graphs import named_bodies
from graphopt.ir.inference import Facts
from graphopt.ir.names import Names
from graphopt.ir.scoped_names import scopes, scopes_by_graph
from graphopt.quantization.loss import Answers, answers_of
from graphopt.runtime import InferenceSession

__all__ = ["Decision", "Probe", "Replay", "Run", "decisions_of", "probes_of", "ranks_of"]

Array = npt.NDArray[np.generic]
Integers = npt.NDArray[np.int64]

_DECIDED = (ir.DataType.BOOL, ir.DataType.INT32, ir.DataType.INT64)
# What they say of floats is their shape.
_SHAPES = ("Shape", "Size")
# Their first input holds a score for each thing that can be chosen.
_CHOOSING = ("ArgMax", "ArgMin", "TopK", "Hardmax")
_LOOPS = ("Loop", "Scan")


@dataclass(frozen=True, slots=True)
class Decision:
    """Integers or booleans that a node makes of floats.

    Attributes:
        node: Scoped name of the node.
        output: Which of its outputs.
        value: Scoped name of the output.
        loop: Scoped name of the Loop or Scan around it; None: it runs once, or not at all.
        is_scan: Whether that is a Scan.
    """

    node: str
    output: int
    value: str
    loop: str | None
    is_scan: bool = False


@dataclass(frozen=True, slots=True)
class Probe:
    """Floats to compare.

    Attributes:
        name: What they are known by in both models: a node that chooses by them, or an output of the graph.
        is_output: Which of the two.
        axis: Along which there is a score for each thing that can be chosen.
        is_distribution: Whether they are scores at all.
        is_normal: Whether they are probabilities already.
    """

    name: str
    is_output: bool
    axis: int = -1
    is_distribution: bool = True
    is_normal: bool = False


@dataclass(slots=True)
class Run:
    """What one sample made of a model.

    Attributes:
        answers: What the outputs decide; None: nothing.
        probes: By the name of the probe, the arrays of all iterations.
        decided: By the scoped name of a value, its contents by iteration.
    """

    answers: Answers | None = None
    probes: dict[str, list[Array]] = field(default_factory=dict)
    decided: dict[str, dict[tuple[int, ...], Array]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Place:
    """A node, what stands before its name, and the loops around it: their nodes and scoped names."""

    node: ir.Node
    scope: str
    loops: tuple[tuple[str, ir.Node], ...]

    @property
    def can_follow(self) -> bool:
        """Whether the number of the iteration says which decision it is."""
        if len(self.loops) != 1:
            return not self.loops
        loop = self.loops[0][1]
        # Below an If inside of a Scan some iterations are left out: how many there are is not recorded.
        return loop.op_type == "Loop" or self.node.graph is named_bodies(loop)[0][1]


def _placed(model: ir.Model) -> Iterator[_Place]:
    """Every node of every graph, outer before inner."""
    pending: list[tuple[ir.Graph, tuple[tuple[str, ir.Node], ...]]] = [(model.graph, ())]
    where = scopes_by_graph(model)
    while pending:
        graph, loops = pending.pop(0)
        for node in graph:
            yield _Place(node, where[graph], loops)
            name = f"{where[graph]}{node.name}"
            inner = (*loops, (name, node)) if node.op_type in _LOOPS else loops
            pending += [(body, inner) for _, body in named_bodies(node)]


def decisions_of(model: ir.Model) -> list[Decision]:
    """Decisions that can be replayed; the nodes of the model have names."""
    facts = Facts(model)
    found = []
    for place in _placed(model):
        node, scope = place.node, place.scope
        if not place.can_follow or node.op_type in _SHAPES or named_bodies(node):
            continue
        name, loop = place.loops[0] if place.loops else (None, None)
        if not any(
            v is not None and not v.is_initializer() and facts.dtype(v) in FLOATS for v in node.inputs
        ):
            continue
        found += [
            Decision(f"{scope}{node.name}", i, f"{scope}{value.name}", name, _is_scan(loop))
            for i, value in enumerate(node.outputs)
            if value.name
            and facts.dtype(value) in _DECIDED
            and (value.uses() or (place.scope and value.is_graph_output()))
        ]
    return found


def _is_scan(node: ir.Node | None) -> bool:
    return node is not None and node.op_type == "Scan"


def probes_of(model: ir.Model) -> list[Probe]:
    """What to compare: the scores that something is chosen by; without any, the outputs that are floats."""
    facts = Facts(model)
    found = []
    for place in _placed(model):
        node, scope = place.node, place.scope
        value = node.inputs[0] if node.op_type in _CHOOSING and node.domain == "" and node.inputs else None
        if value is None or facts.dtype(value) not in FLOATS:
            continue
        default = 0 if node.op_type in ("ArgMax", "ArgMin") else -1
        axis = attribute(node, "axis", default)
        found.append(
            Probe(
                f"{scope}{node.name}", False, axis if isinstance(axis, int) else -1, True, _is_normal(value)
            )
        )
    if found:
        return found
    for value in model.graph.outputs:
        if facts.dtype(value) in FLOATS:
            is_normal = _is_normal(value)
            # Rows of scores are what classifiers give; what else there is has no meaning as a distribution.
            found.append(Probe(value.name or "", True, -1, is_normal or facts.rank(value) == 2, is_normal))
    return found


def _is_normal(value: ir.Value) -> bool:
    producer = value.producer()
    return producer is not None and producer.op_type == "Softmax" and producer.domain == ""


class Replay:
    """A model that runs on recorded decisions, or records its own.

    Args:
        model: It stays as it is; its nodes have the names that decisions and probes have.
        decisions: What is recorded or replayed.
        probes: What is compared.
        recorded: Ranks of what was recorded, by the decision's value: the model is to follow a recording;
            None: it decides, and records.
    """

    def __init__(
        self,
        model: ir.Model,
        decisions: Sequence[Decision],
        probes: Sequence[Probe],
        recorded: Mapping[str, int] | None = None,
    ) -> None:
        self._probes = list(probes)
        self._decisions = [d for d in decisions if recorded is None or d.value in recorded]
        self._recorded = recorded
        copy = model.clone() if recorded is not None else model
        nodes = {f"{scope}{node.name}": (scope, node) for scope, g in scopes(copy.graph) for node in g}
        self._kept: dict[str, list[str]] = {}
        for probe in self._probes:
            if not probe.is_output:
                scope, value = _seen_from(copy, *nodes[probe.name])
                self._kept.setdefault(f"{scope}{value.name}", []).append(probe.name)
        wanted = list(self._kept)
        if recorded is None:
            wanted += [d.value for d in self._decisions]
        else:
            names = Names(copy)
            for i, decision in enumerate(self._decisions):
                _Follower(copy, names, f"decided {i}", nodes).follow(decision)
        self._session = InferenceSession(copy, optimize=False, keep=list(dict.fromkeys(wanted)))

    def run(self, feeds: Mapping[str, Array], recording: Run | None = None) -> Run:
        """Run one sample, on the path of a recording if the model follows one."""
        run = Run()
        is_free = self._recorded is None
        recording_of = {d.value for d in self._decisions} if is_free else set()

        def tap(name: str, iteration: tuple[int, ...], value: object) -> None:
            if not isinstance(value, np.ndarray):
                return
            for probe in self._kept.get(name, ()):
                run.probes.setdefault(probe, []).append(value.copy())
            if name in recording_of:
                run.decided.setdefault(name, {})[iteration] = value.copy()

        given = dict(feeds)
        if recording is not None and self._recorded is not None:
            for i, decision in enumerate(self._decisions):
                rank = self._recorded[decision.value]
                given |= _fed(f"decided {i}", decision, recording.decided.get(decision.value, {}), rank)
        results = self._session.run(None, given, tap=tap)
        arrays = {
            name: array
            for name, array in zip(self._session.output_names, results, strict=True)
            if isinstance(array, np.ndarray)
        }
        run.answers = answers_of(list(arrays.values()))
        run.probes |= {p.name: [arrays[p.name]] for p in self._probes if p.is_output and p.name in arrays}
        return run


def ranks_of(runs: Sequence[Run]) -> dict[str, int]:
    """Ranks of all that was recorded."""
    return {
        name: array.ndim for run in runs for name, arrays in run.decided.items() for array in arrays.values()
    }


def _seen_from(model: ir.Model, scope: str, node: ir.Node) -> tuple[str, ir.Value]:
    """What a node chooses by, and the scope that it is a value of."""
    value = node.inputs[0]
    assert value is not None
    producer = value.producer()
    graph = value.graph if producer is None else producer.graph
    where = scopes_by_graph(model)
    return (where[graph] if graph is not None else scope), value


def _fed(
    name: str, decision: Decision, arrays: Mapping[tuple[int, ...], Array], rank: int
) -> dict[str, Array]:
    """What a following model takes in place of one decision."""
    if decision.loop is None:
        empty = np.zeros((0,) * rank, np.int64)
        return {name: next(iter(arrays.values()), empty)}
    count = max((iteration[0] + 1 for iteration in arrays), default=1)
    ordered = [arrays.get((i,)) for i in range(count)]
    sizes = [0 if a is None else a.size for a in ordered]
    shapes: Integers = np.asarray([(0,) * rank if a is None else a.shape for a in ordered], np.int64).reshape(
        count, rank
    )
    flat = [a.reshape(-1) for a in ordered if a is not None]
    return {
        name: np.concatenate(flat) if flat else np.zeros(0, np.int64),
        f"{name} starts": np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64),
        f"{name} shapes": shapes,
    } | ({f"{name} numbers": np.arange(len(arrays))} if decision.is_scan else {})


class _Follower:
    """Puts a recorded decision in the place of one that a model makes."""

    def __init__(
        self, model: ir.Model, names: Names, name: str, nodes: Mapping[str, tuple[str, ir.Node]]
    ) -> None:
        self.model = model
        self.names = names
        self.name = name
        self.nodes = nodes

    def follow(self, decision: Decision) -> None:
        node = self.nodes[decision.node][1]
        value = node.outputs[decision.output]
        assert node.graph is not None
        found = self._input(self.name, value.dtype)
        if decision.loop is not None:
            found = self._looked_up(found, self._iteration(self.nodes[decision.loop][1]), node.graph)
        for user, i in list(value.uses()):
            user.replace_input_with(i, found)
        # Outputs of the model stay its own; what a body hands on is the recording.
        if node.graph is not self.model.graph:
            for i, output in enumerate(node.graph.outputs):
                if output is value:
                    node.graph.outputs[i] = found

    def _iteration(self, loop: ir.Node) -> ir.Value:
        """The number of the iteration within a body; a Scan is given numbers to go along."""
        if loop.op_type == "Loop":
            return named_bodies(loop)[0][1].inputs[0]
        numbers = self._input(f"{self.name} numbers", ir.DataType.INT64)
        return _scan_also(loop, numbers, self.names.unique(self.name))

    def _looked_up(self, flat: ir.Value, index: ir.Value, graph: ir.Graph) -> ir.Value:
        starts = self._input(f"{self.name} starts", ir.DataType.INT64)
        shapes = self._input(f"{self.name} shapes", ir.DataType.INT64)
        one, first = (self._constant([number], graph) for number in (1, 0))
        at = self._constant([-1], graph)
        made: list[ir.Node] = []

        def make(op_type: str, inputs: list[ir.Value], attributes: list[ir.Attr] | None = None) -> ir.Value:
            node = ir.Node("", op_type, inputs, attributes or [], name=self.names.unique(self.name))
            node.outputs[0].name = self.names.unique(self.name)
            made.append(node)
            return node.outputs[0]

        here = make("Reshape", [index, at])
        start = make("Gather", [starts, here])
        stop = make("Gather", [starts, make("Add", [here, one])])
        part = make("Slice", [flat, start, stop, first])
        shape = make("Reshape", [make("Gather", [shapes, here]), at])
        found = make("Reshape", [part, shape])
        graph.insert_before(graph[0], made)
        return found

    def _input(self, name: str, dtype: ir.DataType | None) -> ir.Value:
        value = ir.Value(name=name, type=ir.TensorType(dtype or ir.DataType.INT64))
        self.model.graph.inputs.append(value)
        return value

    def _constant(self, numbers: list[int], graph: ir.Graph) -> ir.Value:
        tensor = ir.tensor(np.asarray(numbers, np.int64))
        value = ir.Value(
            name=self.names.unique(self.name),
            const_value=tensor,
            type=ir.TensorType(tensor.dtype),
            shape=ir.Shape([len(numbers)]),
        )
        graph.register_initializer(value)
        return value


def _scan_also(scan: ir.Node, value: ir.Value, name: str) -> ir.Value:
    """Let a Scan go along one more input; what its body sees of it."""
    _, body = named_bodies(scan)[0]
    scan.resize_inputs(len(scan.inputs) + 1)
    scan.replace_input_with(len(scan.inputs) - 1, value)
    count = attribute(scan, "num_scan_inputs", 0)
    assert isinstance(count, int)
    scan.attributes["num_scan_inputs"] = ir.AttrInt64("num_scan_inputs", count + 1)
    for listed in ("scan_input_axes", "scan_input_directions"):
        found = attribute(scan, listed)
        if isinstance(found, tuple | list):
            scan.attributes[listed] = ir.AttrInt64s(listed, [*(int(n) for n in found), 0])
    seen = ir.Value(name=name, type=ir.TensorType(ir.DataType.INT64), shape=ir.Shape([]))
    body.inputs.append(seen)
    return seen
