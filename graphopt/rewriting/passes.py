"""Passes: named, documented, with options; made of rules, or of one `run` over a graph.

    @dataclass(frozen=True)
    class RemoveDoubleNegation(Pass):
        \"\"\"Neg(Neg(x)) is x.\"\"\"

        name = "remove-double-negation"
        family = "algebra"
        rules = (double_negation,)

Defining a Pass with a name registers it. Options are dataclass fields with defaults: the command
line, the pipeline's text and the documentation all read them from there.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal

from graphopt.errors import UsageError
from graphopt.rewriting import registry
from graphopt.rewriting.rule import Rule

if TYPE_CHECKING:
    import onnx_graphsurgeon as gs

    from graphopt.rewriting.editor import Editor
    from graphopt.rewriting.scope import Scope

Stage = Literal["open", "simplify", "fuse", "attention", "target", "finish", "on-request"]

SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


@dataclass(frozen=True)
class Pass:
    """Base of every pass.

    Attributes:
        name: Kebab-case verb phrase; the file is called the same.
        family: cleanup, shapes, movement, algebra, fusion, control_flow, quantization or layout.
        rules: What the driver applies to a fixed point; or leave it empty and override `run`.
        stage: Where the default pipelines have it; "on-request": only where it is named.
        again: Whether a pass of stage "open" runs at the end, too.
        level: The lowest -O level that has it.
        targets: The targets that it is for; empty: all of them.
        bound: What may change in the answers ("" for bit-exact passes), in words.
        changes_signature: Whether it changes shapes of graph inputs or outputs, as its user asked: such
            passes run first, and what they make is what the result is verified against.
    """

    name: ClassVar[str] = ""
    family: ClassVar[str] = ""
    rules: ClassVar[tuple[Rule, ...]] = ()
    stage: ClassVar[Stage] = "simplify"
    again: ClassVar[bool] = False
    level: ClassVar[int] = 1
    targets: ClassVar[tuple[str, ...]] = ()
    bound: ClassVar[str] = ""
    marks_steps: ClassVar[bool] = False
    changes_signature: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: object) -> None:
        super().__init_subclass__(**kwargs)
        if cls.__dict__.get("name"):
            registry.register(cls)

    def run(self, scope: Scope) -> None:
        """Rewrite one graph: called for the main graph, every body and every function, inner ones first.

        A run is one firing of the trace, unless the pass sets `marks_steps` and asks for each step.
        """

    def run_model(self, editor: Editor) -> None:
        """Rewrite what no graph has alone: functions, opset imports, initializers over scopes."""

    @classmethod
    def summary(cls) -> str:
        """First line of the docstring."""
        return (cls.__doc__ or "").strip().splitlines()[0]

    @classmethod
    def option_fields(cls) -> dict[str, dataclasses.Field[object]]:
        """Options by their names in text, kebab-case."""
        return {f.name.replace("_", "-"): f for f in dataclasses.fields(cls)}

    def __str__(self) -> str:
        """The pass as pipeline text; options at their defaults are left out."""
        given = [
            f"{name}={_text(getattr(self, f.name))}"
            for name, f in self.option_fields().items()
            if getattr(self, f.name) != f.default
        ]
        return self.name + (f"{{{','.join(given)}}}" if given else "")

    @classmethod
    def from_options(cls, options: dict[str, str]) -> Pass:
        """Make the pass with options as text gives them.

        Raises:
            UsageError: If an option is unknown or its value has the wrong type.
        """
        fields = cls.option_fields()
        given: dict[str, object] = {}
        for name, text in options.items():
            if name not in fields:
                known = ", ".join(fields) or "none"
                raise UsageError(f"pass {cls.name} has no option {name!r} (it has: {known})")
            given[fields[name].name] = _value(cls.name, name, text, fields[name].default)
        return cls(**given)


def _text(value: object) -> str:
    if isinstance(value, tuple):
        return "+".join(str(v) for v in value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


def _value(pass_name: str, name: str, text: str, default: object) -> object:
    try:
        if isinstance(default, bool):
            return {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}[
                text.lower()
            ]
        if isinstance(default, int):
            unit = SIZES.get(text[-1:].upper())
            return int(float(text[:-1]) * unit) if unit else int(text)
        if isinstance(default, float):
            return float(text)
        if isinstance(default, tuple):
            return tuple(part for part in text.split("+") if part)
        return text
    except (KeyError, ValueError) as error:
        kind = type(default).__name__
        raise UsageError(f"pass {pass_name}: option {name}={text!r} is not of type {kind}") from error


def graphsurgeon_pass(
    name: str, *, family: str = "plugin"
) -> Callable[[Callable[[gs.Graph], gs.Graph | None]], type[Pass]]:
    """Make a pass of a function on an onnx-graphsurgeon graph.

    The function edits the graph in place, or returns another one. The whole run is one firing.

    Args:
        name: Name of the pass.
        family: As in `Pass`.
    """

    def decorate(function: Callable[[gs.Graph], gs.Graph | None]) -> type[Pass]:
        def run_model(_: Pass, editor: Editor) -> None:
            from graphopt.ir import graphsurgeon

            model = graphsurgeon.edited(editor.model, function)
            if model is not None:
                editor.adopt(model)

        body = {
            "__doc__": function.__doc__ or f"{name} (graphsurgeon).",
            "__module__": function.__module__,
            "name": name,
            "family": family,
            "stage": "on-request",
            "run_model": run_model,
            "function": staticmethod(function),
        }
        return dataclass(frozen=True)(type(function.__name__, (Pass,), body))

    return decorate
