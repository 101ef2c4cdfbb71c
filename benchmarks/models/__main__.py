"""Build the models of this folder with their recipes, for `make bench-optimize MODELS=FOLDER`.

python -m benchmarks.models FOLDER
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import onnx

from benchmarks.models import chain, encoder, loop_caches, recogniser
from benchmarks.models.builder import save


def frames(name: str, width: int) -> dict[str, object]:
    """An input of numbers over time."""
    return {"name": name, "dtype": "float32", "shape": [1, "T", width], "kind": "normal"}


def models() -> dict[str, tuple[onnx.ModelProto, dict[str, object]]]:
    """Every model by name, with the recipe that says how to feed it."""
    over_time = [{"T": 16}, {"T": 100}, {"T": 64}]
    rows = [{"batch": 1}, {"batch": 16}]
    steps = {"name": "steps", "dtype": "int64", "shape": [], "kind": "const", "value": "steps"}
    start = {"name": "x", "dtype": "float32", "shape": [1, 1, 64], "kind": "normal"}
    batch = {"name": "x", "dtype": "float32", "shape": ["batch", 32], "kind": "normal"}
    return {
        "recogniser": (recogniser.build(), {"inputs": [frames("feats", 80)], "sizes": over_time}),
        "encoder_relu": (encoder.build(), {"inputs": [frames("x", 256)], "sizes": over_time}),
        "encoder_gelu": (
            encoder.build(activation="gelu"),
            {"inputs": [frames("x", 256)], "sizes": over_time},
        ),
        "loop_caches": (
            loop_caches.build(),
            {"inputs": [steps, start], "sizes": [{"steps": 1}, {"steps": 7}, {"steps": 50}]},
        ),
        "chain": (chain.build(20), {"inputs": [batch], "sizes": rows}),
    }


def main(folder: Path) -> None:
    """Write NAME.onnx and NAME.json of each model."""
    for name, (model, recipe) in models().items():
        save(model, folder / f"{name}.onnx")
        (folder / f"{name}.json").write_text(json.dumps(recipe, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
