"""Operators and what is known of them: the entry, the decorator that makes one, the look-up.

A family's file defines one function an operator (or a group of equal ones):

    @operator("Relu", "Sigmoid", elementwise=True)
    def same_as_input(ctx: InferenceContext) -> Results:
        return [ctx.input(0)]

It gets an `InferenceContext` and gives one fact an output; None stands for "nothing known". It may
raise on odd input: the caller then takes everything as unknown.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import onnx_ir as ir

from graphopt.ir.attributes import AttributeValue
from graphopt.ir.constants import constant
from graphopt.ir.dims import Dim
from graphopt.ir.fact import MAX_ELEMENTS, Element, Fact, TensorFact

if TYPE_CHECKING:
    from graphopt.ir.inference import Facts

__all__ = [
    "FlopsFunction",
    "InferFunction",
    "InferenceContext",
    "Operator",
    "Results",
    "all_operators",
    "find",
    "operator",
    "register",
]

T = TypeVar("T")
Results: TypeAlias = Sequence[Fact | None]
Attributes: TypeAlias = dict[str, ir.Attr]
InferFunction: TypeAlias = "Callable[[InferenceContext], Results]"
FlopsFunction: TypeAlias = "Callable[[InferenceContext], Dim]"


@dataclass(frozen=True, slots=True)
class Operator:
    """One operator (all its versions).

    Attributes:
        pure: The outputs depend on the inputs and attributes alone; equal nodes may be merged.
        random: The outputs differ from run to run.
        deterministic: Nodes of a random operator for which it holds are pure (Dropout at inference).
        elementwise: Each output element depends on one element of each (broadcast) input.
        movement: The output's elements are elements of the inputs (or a fill value), moved.
        commutative: The first two inputs (all, of a variadic one) may be exchanged.
        can_fail: May raise at run time for inputs of legal types (bad indices, targets, shapes).
        shape_inputs: Indices of inputs that are shapes, axes or indices of axes rather than data.
        infer: Facts of the outputs; None: nothing can be said.
        flops: Floating-point operations of one run; None: not known (data movement says 0).
    """

    name: str
    domain: str = ""
    pure: bool = True
    random: bool = False
    elementwise: bool = False
    movement: bool = False
    commutative: bool = False
    can_fail: bool = False
    shape_inputs: tuple[int, ...] = ()
    infer: InferFunction | None = None
    flops: FlopsFunction | None = None
    deterministic: Callable[[ir.Node], bool] | None = None


class InferenceContext:
    """One node as its operator's function sees it: facts of the inputs, attributes, fresh symbols."""

    __slots__ = ("_binding", "_inputs", "_results", "facts", "node", "opset")

    def __init__(
        self,
        facts: Facts,
        node: ir.Node,
        inputs: list[Fact | None],
        opset: int,
        binding: Attributes | None = None,
    ) -> None:
        self.facts = facts
        self.node = node
        self.opset = opset
        self._inputs = inputs
        self._binding = binding
        self._results: Results | None = None

    @property
    def count(self) -> int:
        """Number of inputs as written, absent ones included."""
        return len(self._inputs)

    def has(self, i: int) -> bool:
        """Whether input `i` is given."""
        return i < len(self._inputs) and self._inputs[i] is not None

    def input(self, i: int) -> Fact | None:
        """The fact of input `i`; None where it is absent."""
        return self._inputs[i] if i < len(self._inputs) else None

    def tensor_input(self, i: int) -> TensorFact | None:
        """The fact of input `i` if it is a tensor; else None."""
        fact = self._inputs[i] if i < len(self._inputs) else None
        return fact if type(fact) is TensorFact else None

    def dims(self, i: int) -> tuple[Dim, ...] | None:
        """Dims of input `i`; None: absent, no tensor, or of unknown rank."""
        fact = self._inputs[i] if i < len(self._inputs) else None
        return fact.dims if type(fact) is TensorFact else None

    def rank(self, i: int) -> int | None:
        """Rank of input `i`; None: absent, no tensor, or unknown."""
        dims = self.dims(i)
        return None if dims is None else len(dims)

    def dtype(self, i: int) -> ir.DataType | None:
        """Element type of input `i`; None: absent, no tensor, or unknown."""
        fact = self._inputs[i] if i < len(self._inputs) else None
        return fact.dtype if type(fact) is TensorFact else None

    def elements(self, i: int) -> tuple[Element, ...] | None:
        """Partial contents of input `i`; None: nothing known."""
        fact = self._inputs[i] if i < len(self._inputs) else None
        return fact.elements if type(fact) is TensorFact else None

    def integers(self, i: int) -> tuple[int, ...] | None:
        """Contents of input `i` if every element is a known plain integer; else None."""
        elements = self.elements(i)
        if elements is None or not all(type(element) is int for element in elements):
            return None
        return elements  # type: ignore[return-value]

    def constant(self, i: int) -> ir.TensorProtocol | None:
        """The tensor of input `i` where it is an initializer or Constant node; bytes unread."""
        return constant(self.node.inputs[i]) if i < len(self._inputs) else None

    def attr(self, name: str, default: T) -> AttributeValue | T:
        """Attribute as plain Python; `default` where absent. Inside functions, as the call binds it."""
        attr = self.node.attributes.data.get(name)
        if attr is None:
            return default
        if attr.ref_attr_name is not None:
            if self._binding is None:
                raise ValueError(f"attribute '{name}' is what a call of the function says")
            bound = self._binding.get(attr.ref_attr_name)
            return default if bound is None or bound.value is None else bound.value
        return default if attr.value is None else attr.value

    def int_attr(self, name: str, default: int) -> int:
        """An integer attribute."""
        value = self.attr(name, default)
        return value if isinstance(value, int) else default

    def ints_attr(self, name: str) -> tuple[int, ...] | None:
        """A tuple of integers; None where absent."""
        value = self.attr(name, None)
        return tuple(value) if isinstance(value, (tuple, list)) else None  # type: ignore[arg-type]

    def tensor_attr(self, name: str) -> ir.TensorProtocol | None:
        """A tensor; None where absent."""
        attr = self.node.attributes.data.get(name)
        if attr is None or attr.type is not ir.AttributeType.TENSOR:
            return None
        return self.attr(name, None)  # type: ignore[return-value]

    def has_attr(self, name: str) -> bool:
        """Whether the attribute is given (a reference counts if the call binds it)."""
        return self.attr(name, None) is not None

    @property
    def binding(self) -> Attributes | None:
        """Attributes of the function call in which this node is looked at."""
        return self._binding

    def fresh(self, hint: str, low: int | None = 0, high: int | None = None) -> Dim:
        """A new symbol for a dim that only a run can tell."""
        return self.facts.fresh(hint, low, high)

    def or_fresh(self, dim: Dim | None, hint: str) -> Dim:
        """The dim; a new symbol where it is not known."""
        return self.fresh(hint) if dim is None else dim

    def is_nonnegative(self, dim: Dim) -> bool:
        """Whether `dim` is proven to be at least 0 in every legal run that gets here."""
        return self.facts.is_nonnegative(dim, self.node)

    def learn(self, dim: Dim) -> None:
        """Say that `dim` is at least 0 in every legal run that gets here."""
        self.facts.learn(dim, self.node)

    def fresh_dims(self, hint: str, rank: int) -> tuple[Dim, ...]:
        """`rank` new symbols."""
        return tuple(self.facts.fresh(hint) for _ in range(rank))

    def tensor(
        self,
        dtype: ir.DataType | None,
        dims: Sequence[Dim] | None,
        elements: Sequence[Element] | None = None,
    ) -> TensorFact:
        """A fact; elements are kept only where they fit static dims and the limit."""
        if dims is None:
            return TensorFact(dtype, None, None)
        dims = tuple(dims)
        if elements is not None:
            size = math.prod(d if type(d) is int else -MAX_ELEMENTS for d in dims)
            if not (0 <= size <= MAX_ELEMENTS and size == len(elements)) or not _any_known(elements):
                elements = None
        return TensorFact(dtype, dims, None if elements is None else tuple(elements))

    def output(self, i: int = 0) -> Fact | None:
        """The fact of output `i` (for FLOPs, which depend on it)."""
        outputs = self.node.outputs
        return self.facts.of(outputs[i]) if i < len(outputs) else None

    def output_dims(self, i: int = 0) -> tuple[Dim, ...] | None:
        """Dims of output `i`; None: absent, no tensor, or of unknown rank."""
        fact = self.output(i)
        return fact.dims if type(fact) is TensorFact else None


def _any_known(elements: Sequence[Element]) -> bool:
    return not elements or any(element is not None for element in elements)


_operators: dict[tuple[str, str], Operator] = {}
_families: list[str] = []


def register(entry: Operator) -> Operator:
    """Add an entry; a second one of the same domain and name is an error."""
    key = (entry.domain, entry.name)
    if key in _operators:
        raise ValueError(f"operator {entry.domain or 'ai.onnx'}.{entry.name} has two entries")
    _operators[key] = entry
    return entry


def operator(
    *names: str,
    domain: str = "",
    pure: bool = True,
    random: bool = False,
    elementwise: bool = False,
    movement: bool = False,
    commutative: bool = False,
    can_fail: bool = False,
    shape_inputs: tuple[int, ...] = (),
    flops: FlopsFunction | None = None,
    deterministic: Callable[[ir.Node], bool] | None = None,
) -> Callable[[InferFunction], InferFunction]:
    """Register the decorated function as the inference of the operators named.

    Without `flops`, an element-wise operator costs one an output element, movement nothing.
    """
    if flops is None and elementwise:
        flops = one_per_output_element
    elif flops is None and movement:
        flops = no_arithmetic

    def add(infer: InferFunction) -> InferFunction:
        for name in names:
            register(
                Operator(
                    name=name,
                    domain=domain,
                    pure=pure and not random,
                    random=random,
                    elementwise=elementwise,
                    movement=movement,
                    commutative=commutative,
                    can_fail=can_fail,
                    shape_inputs=shape_inputs,
                    infer=infer,
                    flops=flops,
                    deterministic=deterministic,
                )
            )
        return infer

    return add


def one_per_output_element(ctx: InferenceContext) -> Dim:
    """FLOPs of an element-wise operator; raises where the output's rank is unknown."""
    dims = ctx.output_dims()
    if dims is None:
        raise ValueError("the output's rank is unknown")
    total: Dim = 1
    for dim in dims:
        total = total * dim
    return total


def no_arithmetic(_: InferenceContext) -> Dim:
    """FLOPs of pure data movement."""
    return 0


def find(domain: str, name: str) -> Operator | None:
    """The entry of an operator; the families' files are imported on first use."""
    if not _families:
        _load_families()
    return _operators.get((domain, name))


def all_operators() -> tuple[Operator, ...]:
    """Every entry, in the order of domain and name."""
    _load_families()
    return tuple(_operators[key] for key in sorted(_operators))


def _load_families() -> None:
    """Import every file of this package, in the order of names; a new family needs no list."""
    if _families:
        return
    package = import_module("graphopt.ir.facts")
    # Entered before any is imported: a family may look operators up itself.
    _families.extend(sorted(info.name for info in iter_modules(package.__path__)))
    for module in _families:
        import_module(f"graphopt.ir.facts.{module}")
