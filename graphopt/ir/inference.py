"""Facts about values: element type, symbolic dims, partial contents; computed on demand.

What is believed: types and dims of the main graph's inputs (equal `dim_param`s are equal dims),
initializers that no input overrides, and what operators do. Shapes declared on outputs, in
`value_info` and on inputs of bodies are hints of exporters and not believed: torch declares a
growing cache with the shape of its first step.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import onnx_ir as ir

from graphopt.ir.calls import bound_attributes
from graphopt.ir.contents import declared_fact, tensor_fact
from graphopt.ir.dims import Dim, Expr, broadcast, high, low, symbol, symbols
from graphopt.ir.fact import (
    MAX_ELEMENTS,
    UNKNOWN,
    Element,
    Fact,
    OptionalFact,
    Ratio,
    SequenceFact,
    TensorFact,
    describe,
)
from graphopt.ir.facts.registry import Attributes, InferenceContext, Results, find
from graphopt.ir.graphs import bodies
from graphopt.ir.learned import Learned

__all__ = [
    "MAX_ELEMENTS",
    "UNKNOWN",
    "Element",
    "Fact",
    "Facts",
    "OptionalFact",
    "Ratio",
    "SequenceFact",
    "TensorFact",
    "tensor_fact",
]

# Functions may not call themselves; a model in which they do ends here instead of never.
MAX_CALL_DEPTH = 64

# Operations in an expression. Shapes of real models have below 30; slices of slices of a growing
# cache, layer after layer, double it each time.
MAX_SIZE = 100

# Once is enough but where a body is met from inside: its operator then starts the body afresh.
MAX_EXPANSIONS = 4


class Facts:
    """What is known of the values of a model, its bodies and function calls included.

    A fact is computed when it is asked for and kept for the value, by identity. It stays right
    while a graph is rewritten as long as values keep their contents; else `forget` it.

    Attributes:
        failures: Nodes whose inference raised, with the message; their outputs are unknown.
        assumptions: Nodes whose dims hold under an assumption, with its words (see facts.reshaping).
    """

    def __init__(self, model: ir.Model) -> None:
        self.failures: dict[ir.Node, str] = {}
        self.assumptions: dict[ir.Node, str] = {}
        self._model = model
        self._imports = model.opset_imports
        self._cache: dict[ir.Value, Fact] = {}
        self._binding: Attributes | None = None
        self._depth = 0
        self._owners: dict[ir.Graph, ir.Node] = {}
        self._numbers: dict[str, int] = {}
        self._births: dict[str, int] = {}
        self._opaque: dict[Dim, Dim] = {}
        self._learned: dict[ir.Graph, Learned] = {}
        self._caller: tuple[Facts, ir.Node] | None = None
        self._names = {
            str(dim.value)
            for value in model.graph.inputs
            for dim in value.shape or ()
            if isinstance(dim, ir.SymbolicDim)
        }

    def of(self, value: ir.Value) -> Fact:
        """What is known of the value; `UNKNOWN` where nothing is."""
        fact = self._cache.get(value)
        if fact is None:
            self._compute(value)
            fact = self._cache.get(value, UNKNOWN)
        return fact

    def dtype(self, value: ir.Value) -> ir.DataType | None:
        """Element type of a tensor; None: unknown, or no tensor."""
        fact = self.of(value)
        return fact.dtype if type(fact) is TensorFact else None

    def dims(self, value: ir.Value) -> tuple[Dim, ...] | None:
        """Dims of a tensor; None: unknown rank, or no tensor."""
        fact = self.of(value)
        return fact.dims if type(fact) is TensorFact else None

    def rank(self, value: ir.Value) -> int | None:
        """Rank of a tensor; None: unknown, or no tensor."""
        dims = self.dims(value)
        return None if dims is None else len(dims)

    def elements(self, value: ir.Value) -> tuple[Element, ...] | None:
        """Partial contents of a small tensor; None: nothing is known of them."""
        fact = self.of(value)
        return fact.elements if type(fact) is TensorFact else None

    def same_shape(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether the two are proven to have one shape."""
        dims = self.dims(a)
        return dims is not None and dims == self.dims(b)

    def broadcasts_to(self, a: ir.Value, b: ir.Value) -> bool:
        """Whether a legal broadcast of the two is proven to have exactly b's shape."""
        source, target = self.dims(a), self.dims(b)
        if source is None or target is None or len(source) > len(target):
            return False
        offset = len(target) - len(source)
        return all(_gives_way(dim, target[offset + i]) for i, dim in enumerate(source))

    def context(self, node: ir.Node) -> InferenceContext:
        """The node as the functions of its operator see it."""
        return self._context(node, [None if given is None else self.of(given) for given in node.inputs])

    def called(self, node: ir.Node) -> ir.Function | None:
        """The model's function that a node calls."""
        return self._model.functions.get(node.op_identifier()) if self._model.functions else None

    def forget(self, value: ir.Value, downstream: bool = True) -> None:
        """Drop what is known of the value and, unless told otherwise, of all that depends on it."""
        seen: set[ir.Value] = set()
        pending = [value]
        while pending:
            value = pending.pop()
            if value in seen:
                continue
            seen.add(value)
            self._cache.pop(value, None)
            if not downstream:
                continue
            for node in value.consumers():
                pending.extend(node.outputs)
                for body in bodies(node):
                    pending.extend(body.inputs)
            graph = value.graph
            if value.is_graph_output() and graph is not None and graph is not self._model.graph:
                owner = self._owner(graph)
                pending.extend(owner.outputs if owner is not None else ())
                # What a body gives is what its next iteration takes.
                pending.extend(graph.inputs if owner is not None else ())

    def describe(self, value: ir.Value) -> str:
        """The fact in words: "float32[batch, seq, 256]"."""
        return describe(self.of(value))

    def fresh(self, hint: str, low: int | None = 0, high: int | None = None) -> Dim:
        """A symbol that no other dim of this model has; numbered in the order of asking."""
        while True:
            number = self._numbers.get(hint, 0)
            self._numbers[hint] = number + 1
            name = f"{hint}#{number}"
            if name not in self._names:
                self._births[name] = len(self._births)
                return symbol(name, low, high)

    # The rest is for operators with bodies (graphopt.ir.facts.control_flow).

    @property
    def births(self) -> int:
        """How many fresh symbols there are; with `born_since`, which of them are younger."""
        return len(self._births)

    def born_since(self, start: int) -> Callable[[Dim], bool]:
        """Whether a dim has symbols in it that were made after `births` was `start`."""

        def is_inner(dim: Dim) -> bool:
            return any(self._births.get(name, -1) >= start for name in symbols(dim))

        return is_inner

    def assume(self, value: ir.Value, fact: Fact) -> None:
        """Take a fact as given: an input of a body, in one round of its fixed point."""
        self._cache[value] = fact

    def forget_body(self, graph: ir.Graph) -> None:
        """Drop what is known of all values of a body and the bodies in it, inputs included."""
        pending = [graph]
        while pending:
            graph = pending.pop()
            self._learned.pop(graph, None)
            for value in graph.inputs:
                self._cache.pop(value, None)
            for node in graph:
                for value in node.outputs:
                    self._cache.pop(value, None)
                pending.extend(bodies(node))

    def _compute(self, value: ir.Value) -> None:
        """Fill the cache for the value; a stack of our own, graphs are deeper than Python's."""
        cache = self._cache
        stack = [value]
        expansions: dict[ir.Node, int] = {}
        while stack:
            value = stack[-1]
            if value in cache:
                stack.pop()
                continue
            node = value.producer()
            if node is None:
                cache[value] = self._source(value)
                stack.pop()
                continue
            pending = [given for given in node.inputs if given is not None and given not in cache]
            if pending and (rounds := expansions.get(node, 0)) < MAX_EXPANSIONS:
                expansions[node] = rounds + 1
                pending.reverse()
                stack.extend(pending)
                continue
            # Inputs that are still missing now stand in a cycle: unknown.
            stack.pop()
            self._infer(node)

    def _infer(self, node: ir.Node) -> None:
        cache = self._cache
        inputs = [None if given is None else cache.get(given, UNKNOWN) for given in node.inputs]
        try:
            results = self._results(node, inputs)
        except Exception as error:
            # A model that breaks an operator's rules is reported by the verifier, not here.
            self.failures[node] = f"{type(error).__name__}: {error}"
            results = ()
        count = len(results)
        for i, output in enumerate(node.outputs):
            fact = results[i] if i < count else None
            cache[output] = UNKNOWN if fact is None else self._settled(fact, node)

    def _settled(self, fact: Fact, node: ir.Node) -> Fact:
        """The fact as it is kept: sizes learned from, simplified by what was learned, and of bounded size."""
        if type(fact) is not TensorFact:
            return fact
        dims, elements = fact.dims, fact.elements
        if dims is not None:
            for dim in dims:
                if type(dim) is Expr and dim.size >= 3:
                    dims = self._settled_dims(dims, node)
                    break
        if elements is not None and any(type(e) is Expr and e.size > MAX_SIZE for e in elements):
            elements = tuple([self._named(e) if type(e) is Expr else e for e in elements])
        if dims is fact.dims and elements is fact.elements:
            return fact
        return TensorFact(fact.dtype, dims, elements)

    def _settled_dims(self, dims: tuple[Dim, ...], node: ir.Node) -> tuple[Dim, ...]:
        for scope in self._scopes(node):
            dims = tuple([scope.simplified(dim) for dim in dims])
        for dim in dims:
            if type(dim) is Expr and ((bound := low(dim)) is None or bound < 0):
                self.learn(dim, node)
        return tuple([self._named(dim) for dim in dims])

    def learn(self, dim: Dim, node: ir.Node) -> None:
        """Remember that `dim` is not negative in any legal run that gets to the node."""
        graph = node.graph
        if isinstance(graph, ir.Graph):
            self._learned.setdefault(graph, Learned()).add(dim)

    def is_nonnegative(self, dim: Dim, node: ir.Node) -> bool:
        """Whether `dim` is proven to be at least 0 in every legal run that gets to the node."""
        bound = low(dim)
        if bound is not None and bound >= 0:
            return True
        return any(scope.is_nonnegative(dim) for scope in self._scopes(node))

    def _scopes(self, node: ir.Node) -> list[Learned]:
        """What was learned in the node's graph and those around it."""
        found: list[Learned] = []
        owner: ir.Node | None = node
        while owner is not None and isinstance(owner.graph, ir.Graph):
            graph = owner.graph
            if graph in self._learned:
                found.append(self._learned[graph])
            owner = None if graph is self._model.graph else self._owner(graph)
        return found if self._caller is None else found + self._caller[0]._scopes(self._caller[1])

    def _named(self, dim: Dim) -> Dim:
        """One symbol an expression, so that equal ones stay equal."""
        if type(dim) is not Expr or dim.size <= MAX_SIZE:
            return dim
        found = self._opaque.get(dim)
        if found is None:
            found = self._opaque[dim] = self.fresh("size", low(dim), high(dim))
        return found

    def _results(self, node: ir.Node, inputs: list[Fact | None]) -> Results:
        function = self.called(node)
        if function is not None:
            return self._call(function, node, inputs)
        entry = find(node.domain, node.op_type)
        if entry is None or entry.infer is None:
            return ()
        return entry.infer(self._context(node, inputs))

    def _context(self, node: ir.Node, inputs: list[Fact | None]) -> InferenceContext:
        graph = node.graph
        imports = graph.opset_imports if graph is not None and graph.opset_imports else self._imports
        opset = node.version or imports.get(node.domain, 0)
        return InferenceContext(self, node, inputs, opset, self._binding)

    def _call(self, function: ir.Function, node: ir.Node, inputs: list[Fact | None]) -> Results:
        """Facts of a call, from the function's body with the call's inputs and attributes."""
        if self._depth >= MAX_CALL_DEPTH:
            return ()
        inner = Facts.__new__(Facts)
        inner.failures, inner.assumptions = self.failures, self.assumptions
        inner._model, inner._owners, inner._opaque = self._model, self._owners, self._opaque
        inner._numbers, inner._births, inner._names = self._numbers, self._births, self._names
        inner._imports = function.opset_imports
        inner._depth = self._depth + 1
        inner._learned, inner._caller = {}, (self, node)
        inner._binding = bound_attributes(function, node, self._binding)
        inner._cache = {
            parameter: (inputs[i] if i < len(inputs) else None) or UNKNOWN
            for i, parameter in enumerate(function.inputs)
        }
        return [inner.of(output) for output in function.outputs]

    def _source(self, value: ir.Value) -> Fact:
        """The fact of a value that no node makes."""
        if not value.is_graph_input():
            tensor = value.const_value
            return UNKNOWN if tensor is None else tensor_fact(tensor)
        graph = value.graph
        if graph is self._model.graph:
            return self._declared(value)
        owner = None if graph is None else self._owner(graph)
        if owner is None:
            return UNKNOWN
        # An operator with a body fills in the facts of the body's inputs.
        for given in owner.inputs:
            if given is not None:
                self.of(given)
        self._infer(owner)
        return self._cache.get(value, UNKNOWN)

    def _declared(self, value: ir.Value) -> Fact:
        """The fact of an input of the main graph."""
        return declared_fact(
            value.type,
            [self._declared_dim(value, i) for i in range(len(value.shape))]
            if value.shape is not None
            else None,
        )

    def _declared_dim(self, value: ir.Value, axis: int) -> Dim:
        assert value.shape is not None, "asked for a dim of a declared shape"
        dim = value.shape[axis]
        if isinstance(dim, int):
            if dim >= 0:
                return dim
        elif dim.value is not None and dim.value not in ("", "?"):
            return symbol(dim.value)
        # Unknown: -1 and "?" are how some exporters write it.
        name = f"{value.name}.{axis}"
        return self.fresh(name) if name in self._names else symbol(name)

    def _owner(self, graph: ir.Graph) -> ir.Node | None:
        """The node whose body the graph is; None: a function's graph, or none of this model's."""
        owner = self._owners.get(graph)
        if owner is None or owner.graph is None or graph not in bodies(owner):
            self._owners.clear()
            pending: list[Iterable[ir.Node]] = [self._model.graph, *self._model.functions.values()]
            while pending:
                for node in pending.pop():
                    for body in bodies(node):
                        self._owners[body] = node
                        pending.append(body)
            owner = self._owners.get(graph)
        return owner


def _gives_way(dim: Dim, target: Dim) -> bool:
    """Whether a legal broadcast of the two is `target`."""
    if dim is target or dim == 1:
        return True
    try:
        return broadcast(dim, target) is target or broadcast(dim, target) == target or (low(target) or 0) >= 2
    except ValueError:
        return False
