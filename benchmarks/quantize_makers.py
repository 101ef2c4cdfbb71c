"""Quantized models to compare: one maker, one model, one process.

    python -m benchmarks.quantize_makers MAKER MODEL SAMPLES OUT

MODEL is the float model as it came, except for peers: these get what `graphopt optimize` makes of it, since
on exporters' files most of them find no weights. SAMPLES is a folder of .npz files, keys = input names.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from collections.abc import Callable, Iterator
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Feeds = dict[str, NDArray[Any]]
# At its default of 128 bins, onnxruntime's entropy calibration has one candidate: it is min-max.
BINS = 2048


def samples(folder: Path) -> Iterator[Feeds]:
    """The samples in a folder, in order."""
    for path in sorted(folder.glob("*.npz")):
        with np.load(path) as content:
            yield {name: content[name] for name in content.files}


def ours(model: Path, data: Path, out: Path, *options: str) -> None:
    """The command line."""
    from graphopt.cli import main

    command = ["quantize", str(model), "-o", str(out), "--no-verify", "--quiet"]
    try:
        main([*command, *([] if "--weights-only" in options else ["--data", str(data)]), *options])
    except SystemExit:
        if not out.exists():  # exit code 7: it is there, though a limit was out of reach
            raise


def dynamic(model: Path, _: Path, out: Path, *, per_channel: bool) -> None:
    """onnxruntime's dynamic quantization, bodies included."""
    from onnxruntime.quantization import QuantType, quantize_dynamic

    options = {"EnableSubgraph": True}
    quantize_dynamic(model, out, weight_type=QuantType.QInt8, per_channel=per_channel, extra_options=options)


def static(model: Path, data: Path, out: Path, *, method: str) -> None:
    """onnxruntime's static quantization with one of its calibrators, at a number of bins that serves."""
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod, QuantFormat, QuantType

    module = import_module("onnxruntime.quantization.quantize")  # the package has a function of that name

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.left = samples(data)

        def get_next(self) -> Feeds | None:
            return next(self.left, None)

    made = module.create_calibrator

    def with_bins(*arguments: object, extra_options: dict[str, object], **named: object) -> object:
        return made(*arguments, extra_options={**extra_options, "num_bins": BINS}, **named)

    setattr(module, "create_calibrator", with_bins)  # noqa: B010 (a plain assignment has no type)
    module.quantize_static(
        model,
        out,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=True,
        activation_type=QuantType.QUInt8,
        weight_type=QuantType.QInt8,
        calibrate_method=CalibrationMethod[method],
    )


def nncf(model: Path, data: Path, out: Path) -> None:
    """NNCF on the ONNX model.

    Raises:
        ImportError: It is not installed.
    """
    import nncf as tool
    import onnx

    quantized = tool.quantize(onnx.load(model), tool.Dataset(list(samples(data))))
    onnx.save(quantized, out)


MAKERS: dict[str, Callable[[Path, Path, Path], None]] = {
    "graphopt": ours,
    "graphopt onnxruntime": lambda m, d, o: ours(m, d, o, "--target", "onnxruntime"),
    "graphopt graphopt": lambda m, d, o: ours(m, d, o, "--target", "graphopt"),
    "graphopt 8.2 MB": lambda m, d, o: ours(m, d, o, "--max-size", "8.2MB"),
    "graphopt all": lambda m, d, o: ours(m, d, o, "--no-search"),
    "graphopt weights int8": lambda m, d, o: ours(m, d, o, "--weights-only", "int8"),
    "graphopt weights int4": lambda m, d, o: ours(m, d, o, "--weights-only", "int4"),
    "dynamic": partial(dynamic, per_channel=False),
    "dynamic per channel": partial(dynamic, per_channel=True),
    "static minmax": partial(static, method="MinMax"),
    "static percentile": partial(static, method="Percentile"),
    "static entropy": partial(static, method="Entropy"),
    "static distribution": partial(static, method="Distribution"),
    "nncf": nncf,
}


def is_peer(name: str) -> bool:
    """Whether it is another tool."""
    return not name.startswith("graphopt")


def main(name: str, model: Path, data: Path, out: Path) -> None:
    """Make one model."""
    logging.disable()
    with contextlib.redirect_stdout(io.StringIO()):
        MAKERS[name](model, data, out)


if __name__ == "__main__":
    main(sys.argv[1], *(Path(argument) for argument in sys.argv[2:5]))
