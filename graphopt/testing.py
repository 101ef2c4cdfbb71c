"""What a test of a pass needs: graphs as text, before -> after, does not fire, same answers.

Graphs are ONNX text with constants written inline: `y = Reshape(x, [2, -1])`. Plugin authors test
their passes with the same functions that the built-in ones are tested with.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import onnx
import onnx.parser
import onnx_ir as ir

from graphopt import targets
from graphopt.ir import constants, verifier
from graphopt.ir.evaluate.plain import plain_session
from graphopt.ir.graphs import bodies
from graphopt.rewriting import Driver, Editor, Trace
from graphopt.rewriting import pipeline as pipelines
from graphopt.rewriting.opsets import OpsetPolicy

DEFAULT_OPSET = 18
_LITERAL = re.compile(r"^(\[[^\]]*\]|-?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?|true|false)$")


def model_from_text(
    text: str, *, opset: int = DEFAULT_OPSET, domains: Mapping[str, int] | None = None
) -> ir.Model:
    """Parse ONNX text whose nodes may have literals as inputs.

    `[1, 2]` is an int64 vector, `2` an int64 scalar, `2.0` a float scalar, `[1.0]` a float vector,
    `true` a bool scalar. Text that starts with `<` brings its own header.
    """
    imports = {"": opset, **(domains or {})}
    header = f"<ir_version: 10, opset_import: [{', '.join(f'{k!r}: {v}' for k, v in imports.items())}]>"
    body = _inline_constants(text.strip())
    source = body if body.startswith("<") else header.replace("'", '"') + "\n" + body
    return ir.from_proto(onnx.parser.parse_model(source))


def _inline_constants(text: str) -> str:
    """Turn literal inputs into Constant nodes at the start of the graph that they stand in."""
    made: dict[int, list[str]] = {}
    braces: list[int] = []
    pieces: list[str] = []
    position = 0
    count = 0
    while position < len(text):
        char = text[position]
        if char == "{":
            braces.append(len(pieces) if re.search(r"[)>]\s*$", text[:position]) else -1)
        elif char == "}" and braces:
            braces.pop()
        elif char == "(":
            end = text.find(")", position)
            inner = text[position + 1 : end]
            if "(" not in inner and "{" not in inner:
                arguments = _split(inner)
                graph = next((b for b in reversed(braces) if b >= 0), None)
                for i, argument in enumerate(arguments):
                    if graph is not None and _LITERAL.match(argument):
                        made.setdefault(graph, []).append(_constant(f"lit{count}", argument))
                        arguments[i], count = f"lit{count}", count + 1
                pieces.append(f"({', '.join(arguments)})")
                position = end + 1
                continue
        pieces.append(char)
        position += 1
    for index, nodes in made.items():
        pieces[index] += " " + " ".join(nodes)
    return "".join(pieces)


def _split(inner: str) -> list[str]:
    return [part.strip() for part in re.split(r",(?![^\[]*\])", inner)] if inner.strip() else []


def _constant(name: str, literal: str) -> str:
    if literal in ("true", "false"):
        return f"{name} = Constant <value = bool {{{int(literal == 'true')}}}> ()"
    is_vector = literal.startswith("[")
    values = literal.strip("[] ")
    is_float = any(c in values for c in ".eE")
    size = len([v for v in values.split(",") if v.strip()])
    kind = ("float" if is_float else "int64") + (f"[{size}]" if is_vector else "")
    return f"{name} = Constant <value = {kind} {{{values}}}> ()"


# ---------------------------------------------------------------- comparison up to names


def canonical(model: ir.Model) -> tuple[object, ...]:
    """A model's structure without value and node names: equal for equal graphs."""
    functions = sorted((str(k), _graph_form(f.graph, {})) for k, f in model.functions.items())
    return (_graph_form(model.graph, {}), tuple(functions))


def _graph_form(graph: ir.Graph, outer: Mapping[ir.Value, object]) -> tuple[object, ...]:
    known: dict[ir.Value, object] = dict(outer)
    for i, value in enumerate(graph.inputs):
        known[value] = ("input", i, len(outer))
    effects: list[object] = []
    for node in graph:
        form = (
            node.domain,
            node.op_type,
            tuple(None if v is None else _value_form(v, known) for v in node.inputs),
            tuple(sorted((a.name, _attribute_form(a, known)) for a in node.attributes.values())),
        )
        interned = hash(form)
        for value in node.outputs:
            known[value] = ("node", interned, value.index())
        if node.op_type != "Constant":
            effects.append(interned)
    outputs = tuple(
        (v.name if graph.name is not None and not outer else "", _value_form(v, known)) for v in graph.outputs
    )
    return (outputs, tuple(sorted(effects, key=str)))


def _value_form(value: ir.Value, known: Mapping[ir.Value, object]) -> object:
    array = constants.array(value)
    if array is not None:
        return ("constant", str(array.dtype), array.shape, array.tobytes())
    return known.get(value, ("captured", value.name))


def _attribute_form(attribute: ir.Attr, known: Mapping[ir.Value, object]) -> str:
    if attribute.type == ir.AttributeType.GRAPH and not attribute.is_ref():
        return str(_graph_form(attribute.as_graph(), known))
    if attribute.type == ir.AttributeType.TENSOR and not attribute.is_ref():
        array = attribute.as_tensor().numpy()
        return str((str(array.dtype), array.shape, array.tobytes()))
    return str(attribute.value)


# ---------------------------------------------------------------- running


def run_pass(
    name: str,
    model: ir.Model,
    *,
    target: str = "onnx",
    opset: str | int = "keep",
    trace: Trace | None = None,
) -> Trace:
    """Run one pass (or any pipeline text) on a model in place, the verifier after each group."""
    trace = trace or Trace(explain=name.partition("{")[0])
    who = targets.find(target)
    editor = Editor(model, target=who, trace=trace, opset_policy=OpsetPolicy(opset, who))  # type: ignore[arg-type]
    Driver(editor, strict=True, after_group=lambda e: verifier.verify(e.model)).run(pipelines.parse(name))
    if editor.model is not model:  # a graphsurgeon pass makes a model of its own
        model.graph = editor.model.graph
        model.functions.clear()
        model.functions.update(editor.model.functions)
    return trace


def run(model: ir.Model, feeds: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Outputs of a model in onnxruntime with optimizations off."""
    return list(plain_session(ir.to_proto(model)).run(None, dict(feeds)))


def random_feeds(
    model: ir.Model, sizes: Mapping[str, int] | None = None, seed: int = 0
) -> dict[str, np.ndarray]:
    """Random inputs; a dynamic dim has the size given for its name, or 3."""
    rng = np.random.default_rng(seed)
    feeds: dict[str, np.ndarray] = {}
    for value in model.graph.inputs:
        if value.const_value is not None or value.name is None:
            continue
        dims = value.shape.dims if value.shape is not None else ()
        shape = [d if isinstance(d, int) else (sizes or {}).get(str(d.value), 3) for d in dims]
        dtype = value.dtype.numpy() if value.dtype is not None else np.dtype(np.float32)
        if dtype.kind == "b":
            feeds[value.name] = rng.integers(0, 2, shape).astype(dtype)
        elif dtype.kind in "iu":
            feeds[value.name] = rng.integers(0, 3, shape).astype(dtype)
        else:
            feeds[value.name] = rng.standard_normal(shape).astype(dtype)
    return feeds


def assert_same_outputs(
    first: ir.Model, second: ir.Model, feeds: Mapping[str, np.ndarray], *, exact: bool = True
) -> None:
    """Both models give the same outputs: bit for bit, or within 1e-5 of the largest value."""
    for value, x, y in zip(first.graph.outputs, run(first, feeds), run(second, feeds), strict=True):
        x, y = np.asarray(x), np.asarray(y)
        assert x.shape == y.shape and x.dtype == y.dtype, (
            f"{value.name}: {x.dtype}{x.shape} became {y.dtype}{y.shape}"
        )
        if exact or x.dtype.kind not in "fV":
            same = np.array_equal(x, y, equal_nan=x.dtype.kind == "f")
            assert same, f"{value.name} differs: {x} became {y}"
        elif x.size:
            x, y = x.astype(np.float64), y.astype(np.float64)
            finite = np.isfinite(x)
            assert np.array_equal(finite, np.isfinite(y)), f"{value.name}: other NaN or infinity positions"
            # Re-association moves float32 results by a few units in the last place of the largest term.
            limit = 1e-5 * max(float(np.abs(x[finite]).max(initial=0.0)), 1.0)
            assert np.abs(x[finite] - y[finite]).max(initial=0.0) <= limit, f"{value.name} differs"


def assert_rewrites(
    name: str,
    before: str,
    after: str,
    *,
    opset: int = DEFAULT_OPSET,
    raised_to: int | None = None,
    target: str = "onnx",
    exact: bool = True,
    sizes: Sequence[Mapping[str, int]] = ({},),
    runs: bool = True,
    domains: Mapping[str, int] | None = None,
) -> None:
    """The pass turns one graph into the other, with the same answers, and then has nothing left to do.

    Args:
        name: The pass, with options as in pipeline text.
        before: The graph as ONNX text.
        after: What it must become, up to names.
        opset: Version of the default domain of both texts.
        raised_to: The version that the pass may raise the opset to; None: it must stay.
        target: The target.
        exact: Answers must agree bit for bit; else within the bound of `assert_same_outputs`.
        sizes: Sizes of the dynamic dims to run at.
        runs: Whether onnxruntime can run both.
        domains: Further opset imports of both texts.
    """
    model = model_from_text(before, opset=opset, domains=domains)
    original = model.clone()
    policy: str | int = "auto" if raised_to is not None else "keep"
    trace = run_pass(name, model, target=target, opset=policy)
    wanted = model_from_text(after, opset=raised_to or opset, domains=domains)
    if canonical(model) != canonical(wanted):
        found = onnx.printer.to_text(ir.to_proto(model))
        raise AssertionError(
            f"{name} made\n{found}\nnot\n{after}\nfirings: {[str(f) for f in trace.firings]}"
        )
    again = run_pass(name, model, target=target, opset=policy)
    assert not again.firings, f"a second run fired again: {again.firings[0]}"
    if runs:
        for size in sizes:
            assert_same_outputs(original, model, random_feeds(original, size), exact=exact)


def assert_rejects(
    name: str,
    graph: str,
    reason: str | None = None,
    *,
    opset: int = DEFAULT_OPSET,
    target: str = "onnx",
    domains: Mapping[str, int] | None = None,
) -> None:
    """The pass leaves the graph alone, and says why if `reason` is given."""
    model = model_from_text(graph, opset=opset, domains=domains)
    before = canonical(model)
    trace = run_pass(name, model, target=target)
    assert not trace.firings, f"fired: {trace.firings[0]}"
    assert canonical(model) == before
    if reason is not None:
        told = list(trace.misses.values())
        assert any(miss.startswith(reason) for miss in told), f"reasons given: {told}"


def operators_of(model: ir.Model) -> list[str]:
    """Operator types in graph order, bodies included, constants left out."""
    found: list[str] = []

    def walk(graph: ir.Graph) -> None:
        for node in graph:
            if node.op_type != "Constant":
                found.append(node.op_type)
            for body in bodies(node):
                walk(body)

    walk(model.graph)
    return found
