"""Quantize a model on samples from Python, and keep some of its operators in floats.

    python -m examples.quantize_with_samples model.onnx folder_of_npz out.onnx classifier norm

The quant table says what every operator does. It can be changed like any mapping, or as the JSON that is
written beside the result, and applied again without samples.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import graphopt
from graphopt.ir import quant_table
from graphopt.ir.quant_table import OperatorPlan, QuantTable

Feeds = Mapping[str, NDArray[Any]]


def samples(folder: Path) -> Iterator[Feeds]:
    """One sample after the other, as a loader of data would give them; only one is in memory."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as content:
            yield {name: content[name] for name in content.files}


def with_floats(table: QuantTable, words: Sequence[str]) -> QuantTable:
    """A table that leaves operators as they are whose name has one of the words."""
    plan = OperatorPlan("float", reason="asked for")
    chosen = {name: plan for name in table.operators if any(word in name for word in words)}
    return replace(table, operators={**table.operators, **chosen})


def quantize_but(model: Path, data: Iterable[Feeds], out: Path, words: Sequence[str]) -> graphopt.Quantized:
    """Calibrate, change the table, apply it, and write the model and the table."""
    first = graphopt.quantize(model, data=data, deciding=None)  # all that may be; no search
    assert first.table is not None
    table = with_floats(first.table, words)
    result = graphopt.quantize(model, table=table)
    graphopt.save(result.model, out)
    quant_table.write(table, out.with_suffix(".json"))
    return result


if __name__ == "__main__":
    source, folder, destination = (Path(argument) for argument in sys.argv[1:4])
    found = quantize_but(source, samples(folder), destination, sys.argv[4:])
    print("\n".join(found.report.saved(destination).lines()))
