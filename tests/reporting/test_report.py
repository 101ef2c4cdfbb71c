from __future__ import annotations

import io
import json
import math
import sys

import jsonschema
import pytest

from graphopt.reporting import (
    Change,
    DroppedFiring,
    OperatorChange,
    PassStatistics,
    Report,
    console,
    count_operators,
    signature_of,
)
from graphopt.reporting.console import verification_line
from graphopt.reporting.report import schema
from graphopt.testing import model_from_text
from graphopt.verification import Mismatch, Verification, Verifier

BEFORE = "g (float[N,3] x) => (float[N,3] y) { a = Neg (x)  b = Neg (a)  y = Relu (b) }"
AFTER = "g (float[N,3] x) => (float[N,3] y) { y = Relu (x) }"


def make(verification: Verification | None = None, **kwargs) -> Report:
    before, after = model_from_text(BEFORE), model_from_text(AFTER)
    return Report(
        model="m.onnx",
        target="onnx",
        signature=signature_of(before),
        operators=OperatorChange(count_operators(before), count_operators(after)),
        bytes=Change(2_000_000, 1_500_000),
        passes=(PassStatistics("remove-double-negation", 1, 2, 0.25), PassStatistics("idle", 0, 0, 0.01)),
        verification=verification,
        seconds=1.5,
        **kwargs,
    )


def verified() -> Verification:
    return Verifier(model_from_text(BEFORE)).check(model_from_text(AFTER))


MISMATCH = Verification(
    "mismatch",
    "onnxruntime 1",
    1,
    ({"N": 2},),
    3,
    {"y": math.inf},
    (Mismatch("y", {"N": 2}, math.inf, "shape"),),
)
REPORTS = {
    "plain": make(),
    "verified": make(verified(), flops=Change(10, 5), nanoseconds=Change(2_500_000, 1500), sizes={"N": 2}),
    "mismatch": make(MISMATCH, dropped=(DroppedFiring("a/b@c#0", "a", "shape"),), warnings=("slow",)),
    "unverified": make(Verification("unverified", notes=("no kernel",))),
}


@pytest.mark.parametrize("name", REPORTS)
def test_reports_follow_the_published_schema(name):
    validator = jsonschema.Draft202012Validator(schema())
    jsonschema.Draft202012Validator.check_schema(schema())
    validator.validate(json.loads(REPORTS[name].to_json()))


@pytest.mark.parametrize(
    ("path", "value"),
    [
        (("schema",), "urn:graphopt:report:0"),
        (("operators", "before", "total"), -1),
        (("verification", "status"), "fine"),
        (("verification", "errors", "y"), "NaN"),
        (("passes", 0, "fired"), 1.5),
        (("extra",), 1),
        (("signature", "inputs", 0, "shape", 0), 1.5),
    ],
)
def test_the_schema_rejects_what_is_no_report(path, value):
    content = json.loads(REPORTS["verified"].to_json())
    place = content
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema())


def test_the_keys_of_a_report():
    assert list(REPORTS["plain"].to_dict()) == [
        "schema", "tool", "model", "target", "signature", "operators", "bytes", "graph_bytes", "flops",
        "nanoseconds", "peak_bytes", "sizes", "passes", "verification", "dropped", "warnings", "seconds",
    ]  # fmt: skip


def test_the_content_of_a_report():
    content = json.loads(REPORTS["verified"].to_json())
    assert content["operators"]["before"] == {"total": 3, "constants": 0, "types": {"Neg": 2, "Relu": 1}}
    assert content["operators"]["after"]["types"] == {"Relu": 1}
    assert content["signature"]["inputs"] == [{"name": "x", "type": "float32", "shape": ["N", 3]}]
    assert content["verification"]["status"] == "verified"
    assert json.loads(REPORTS["mismatch"].to_json())["verification"]["errors"] == {"y": "inf"}


def test_a_report_on_the_console(capsys):
    console.print_report(REPORTS["mismatch"])
    lines = capsys.readouterr().out.splitlines()
    assert "m.onnx  target onnx  1.50 s" in lines
    assert [line.split() for line in lines if line.startswith(("Neg", "total"))] == [
        ["Neg", "2", "0", "-2"], ["total", "3", "1", "-2"],
    ]  # fmt: skip
    assert not any(line.startswith(("Relu", "idle")) for line in lines)
    assert "weights 2.0 MB -> 1.5 MB (-25.0%)" in lines
    assert "dropped: a/b@c#0: shape" in lines
    assert "warning: slow" in lines
    assert lines[-1] == "mismatch: 1 size, 1 samples, output 'y': shape, judge onnxruntime 1"


def test_a_verbose_report_has_everything(capsys):
    console.print_report(REPORTS["verified"], verbose=True)
    out = capsys.readouterr().out
    assert "Relu" in out
    assert "idle" in out
    assert "flops 10 -> 5 (-50.0%) at N=2" in out
    assert "predicted time 2.50 ms -> 1.5 us (-99.9%) at N=2" in out


def test_plain_text_without_a_terminal(capsys):
    long = make(warnings=("word " * 100,))
    console.print_report(long)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert any(len(line) > 400 for line in out.splitlines())


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [True, False])
def test_no_color_is_respected_on_a_terminal(monkeypatch, no_color):
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("TERM", "xterm-256color")
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    console.print_report(REPORTS["verified"])
    assert ("\x1b[32m" in terminal.getvalue()) is not no_color


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (None, "not verified: verification was turned off"),
        (Verification("unverified"), "unverified: no sample could be run"),
        (Verification("unverified", notes=("no kernel",)), "unverified: no kernel"),
        (
            Verification("verified", "onnxruntime 1.32", 6, ({"N": 1}, {"N": 2}), errors={"y": 1.2e-6}),
            "verified: 2 sizes, 6 samples, max error 1.2e-06, judge onnxruntime 1.32",
        ),
    ],
)
def test_the_line_on_verification(found, expected):
    assert verification_line(found) == expected


def test_a_trace_and_near_misses(capsys):
    from graphopt.rewriting import Firing, FiringId, Place, Trace

    place = Place("remove-double-negation", "double_negation", "", "y")
    trace = Trace(explain="remove-double-negation")
    trace.firings.append(Firing(FiringId(place, 0), {"Neg": 2}, {}))
    console.print_trace(trace)
    out = capsys.readouterr().out
    assert out.startswith("    1 ")
    assert "2 Neg -> nothing" in out
    console.print_misses(trace)
    assert capsys.readouterr().out == "remove-double-negation: no near misses\n"
    trace.misses[place] = "shared"
    console.print_misses(trace)
    assert capsys.readouterr().out == f"{place}: shared\n"
