"""Adds up what the engine's conformance tests found, over all workers."""

from __future__ import annotations

import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = [
        value
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        for name, value in getattr(report, "user_properties", ())
        if name == "conformance"
    ]
    if found:
        cases, passed, native = (sum(column) for column in zip(*found, strict=True))
        terminalreporter.write_line(
            f"ONNX's backend tests on the engine: {passed} of {cases} pass, {native} without the reference "
            f"implementation, {passed - native} with it"
        )
