"""What all tests share: real models where they are given, and how hard the property tests look."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import settings

import graphopt.kernels

# Two busy cores: a deadline would test the machine. The default suite repeats itself; `make fuzz` searches.
settings.register_profile("default", deadline=None, derandomize=True)
settings.register_profile("fuzz", deadline=None, max_examples=2000)
settings.load_profile("default")

# Another build of the engine than the installed one: `make sanitize`.
if folder := os.environ.get("GRAPHOPT_KERNELS"):
    graphopt.kernels.__path__.insert(0, folder)


def folder_named_by(variable: str) -> Path:
    """The folder that an environment variable names; the test is skipped where there is none."""
    given = os.environ.get(variable)
    if not given:
        pytest.skip(f"{variable} names no folder of models")
    return Path(given)


@pytest.fixture
def zoo() -> Path:
    """A folder of real models with input recipes (`benchmarks.recipes`)."""
    return folder_named_by("GRAPHOPT_ZOO")


@pytest.fixture
def asr() -> Path:
    """A folder with a trained recogniser, `asr.onnx`, and its data."""
    return folder_named_by("GRAPHOPT_ASR")
