"""Types of command-line values that several commands take."""

from __future__ import annotations

from typing import Literal

import click

TARGETS = ("onnx", "onnxruntime", "graphopt")

Opset = Literal["auto", "keep"] | int
Shape = tuple[int, ...]


class OpsetType(click.ParamType[Opset]):
    """`auto`, `keep`, or a version number."""

    name = "auto|keep|N"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> Opset:
        if value == "auto":
            return "auto"
        if value == "keep":
            return "keep"
        text = str(value)
        if not text.isdecimal() or int(text) < 1:
            self.fail(f"{text!r} is neither auto, keep nor an opset's number", param, ctx)
        return int(text)


class ShapeType(click.ParamType[tuple[str, Shape]]):
    """`x=1,3,224,224`."""

    name = "input=n,n,..."

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, Shape]:
        if isinstance(value, tuple):
            return value
        name, equals, dims = str(value).rpartition("=")
        if not equals or not name:
            self.fail(f"{value!r} has no '=': write input=1,3,224,224", param, ctx)
        parts = [part.strip() for part in dims.split(",")] if dims.strip() else []
        if not all(part.isdecimal() for part in parts):
            self.fail(f"{value!r} needs a number for every dim: write input=1,3,224,224", param, ctx)
        return name, tuple(int(part) for part in parts)


class SizeType(click.ParamType[tuple[str, int]]):
    """`batch=8`."""

    name = "dim=n"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, int]:
        if isinstance(value, tuple):
            return value
        name, equals, size = str(value).rpartition("=")
        if not equals or not name or not size.strip().isdecimal():
            self.fail(f"{value!r} is no size of a dynamic dim: write batch=8", param, ctx)
        return name, int(size)
