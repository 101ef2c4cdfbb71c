"""What a file holds: operators, domains, dynamic dims. Counted from the file itself, whoever wrote it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import onnx

OWN_DOMAIN = "ai.graphopt"
STANDARD = {"", "ai.onnx"}


@dataclass(frozen=True, slots=True)
class Contents:
    """Of one model.

    Attributes:
        operators: Nodes other than Constant; bodies count, and a function's body as often as it is called.
        instructions: The same, with a call of one of graphopt's own operators as one.
        domains: Domains of all nodes that are no calls of the model's own functions.
        types: Operators by type.
    """

    operators: int
    instructions: int
    domains: frozenset[str]
    types: dict[str, int]

    @property
    def is_standard(self) -> bool:
        """Whether all nodes are of the standard domain."""
        return self.domains <= STANDARD


def contents(path: Path) -> Contents:
    """Count what is in a model's file; weights in other files are not read."""
    model = onnx.load(str(path), load_external_data=False)
    whole, expanded = _count(model, OWN_DOMAIN), _count(model, None)
    types = {"::".join(p for p in key if p): n for key, n in expanded.most_common() if key[1] != "Constant"}
    return Contents(
        operators=sum(types.values()),
        instructions=sum(n for key, n in whole.items() if key[1] != "Constant"),
        domains=frozenset(domain for domain, _ in expanded),
        types=types,
    )


def _count(model: onnx.ModelProto, whole_domain: str | None) -> Counter[tuple[str, str]]:
    """Nodes by (domain, type); calls of functions as their bodies, except in `whole_domain`."""
    functions = {(f.domain, f.name, f.overload): f for f in model.functions if f.domain != whole_domain}
    bodies: dict[tuple[str, str, str], Counter[tuple[str, str]]] = {}

    def count(nodes: Iterable[onnx.NodeProto]) -> Counter[tuple[str, str]]:
        found: Counter[tuple[str, str]] = Counter()
        for node in nodes:
            key = node.domain, node.op_type, node.overload
            if key in functions:
                if key not in bodies:
                    bodies[key] = count(functions[key].node)
                found += bodies[key]
            else:
                found["" if node.domain == "ai.onnx" else node.domain, node.op_type] += 1
            for attribute in node.attribute:
                if attribute.HasField("g"):
                    found += count(attribute.g.node)
                for graph in attribute.graphs:
                    found += count(graph.node)
        return found

    return count(model.graph.node)


def dims_kept(before: Path, after: Path) -> bool:
    """Whether the signature stayed: names, order and types, and every input dim, dynamic ones dynamic."""
    old, new = (onnx.load(str(path), load_external_data=False).graph for path in (before, after))
    stored = {i.name for i in old.initializer}
    outputs = [(o.name, o.type.WhichOneof("value")) for o in old.output]
    return _inputs(old, stored) == _inputs(new, stored) and outputs == [
        (o.name, o.type.WhichOneof("value")) for o in new.output
    ]


def _inputs(graph: onnx.GraphProto, stored: set[str]) -> list[tuple[str, int, tuple[int | None, ...]]]:
    found = []
    for value in graph.input:
        if value.name not in stored:
            tensor = value.type.tensor_type
            dims = (d.dim_value if d.dim_value > 0 else None for d in tensor.shape.dim)
            found.append((value.name, tensor.elem_type, tuple(dims)))
    return found
