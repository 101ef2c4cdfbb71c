"""What other optimizers make of the same models (extra `bench`), each in a process of its own.

    python -m benchmarks.peers run PEER SOURCE RESULT           one peer on one model
    python -m benchmarks.peers count FOLDER OUT.json [NAME ...] all peers on a folder of models with recipes

The counts are kept as JSON, so that a benchmark need not run them again:

    {MODEL: {"operators": N, "peers": {PEER: {"operators": N, "standard": true, "works": true}}}}
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.children import run_python
from benchmarks.counting import contents

TIMEOUT_S = 180


def _onnxsim(source: str, result: str) -> None:
    import onnx
    import onnxsim

    model, _ = onnxsim.simplify(onnx.load(source))
    onnx.save(model, result)


def _onnxslim(source: str, result: str) -> None:
    import onnxslim

    onnxslim.slim(source, result)


def _onnxoptimizer(source: str, result: str) -> None:
    import onnx
    import onnxoptimizer

    passes = onnxoptimizer.get_fuse_and_elimination_passes()
    onnx.save(onnxoptimizer.optimize(onnx.load(source), passes), result)


def _onnxscript(source: str, result: str) -> None:
    import onnx
    import onnxscript.optimizer
    import onnxscript.rewriter

    onnx.save(onnxscript.rewriter.rewrite(onnxscript.optimizer.optimize(onnx.load(source))), result)


def _onnxruntime(level: str) -> Callable[[str, str], None]:
    def write(source: str, result: str) -> None:
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, level)
        options.optimized_model_filepath = result
        options.log_severity_level = 3
        ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])

    return write


PEERS: dict[str, Callable[[str, str], None]] = {
    "ort_basic": _onnxruntime("ORT_ENABLE_BASIC"),
    "ort_extended": _onnxruntime("ORT_ENABLE_EXTENDED"),
    "ort_all": _onnxruntime("ORT_ENABLE_ALL"),
    "onnxslim": _onnxslim,
    "onnxsim": _onnxsim,
    "onnxoptimizer": _onnxoptimizer,
    "onnxscript": _onnxscript,
}


@dataclass(frozen=True, slots=True)
class PeerResult:
    """What one peer made of one model.

    Attributes:
        standard: Only standard operators, as the declared opset defines them.
        works: Loads, gives the same answers at every size, and keeps dynamic dims.
    """

    operators: int
    standard: bool
    works: bool


@dataclass(frozen=True, slots=True)
class PeerCounts:
    """All peers on one model."""

    operators: int
    peers: Mapping[str, PeerResult]

    def best(self, *, standard: bool) -> tuple[int, str]:
        """The fewest operators of a working result, and whose; the original where none is smaller."""
        fine = [
            (r.operators, name) for name, r in self.peers.items() if r.works and (r.standard or not standard)
        ]
        return min([*fine, (self.operators, "original")])


def read(path: Path) -> dict[str, PeerCounts]:
    """Read counts that were kept."""
    content = json.loads(path.read_text(encoding="utf-8"))
    return {
        model: PeerCounts(
            row["operators"],
            {
                name: PeerResult(r.get("operators", 0), bool(r.get("standard")), bool(r.get("works")))
                for name, r in row["peers"].items()
            },
        )
        for model, row in content.items()
    }


def count(folder: Path, names: Iterable[str]) -> dict[str, PeerCounts]:
    """Run every peer on every model."""
    found = {}
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            source = folder / f"{name}.onnx"
            results = {}
            for peer in PEERS:
                result = Path(scratch) / f"{name}.{peer}.onnx"
                ran = run_python("benchmarks.peers", "run", peer, source, result, timeout=TIMEOUT_S)
                if ran.code == 0 and result.exists():
                    results[peer] = _judged(source, result, folder / f"{name}.json")
                    result.unlink()
            found[name] = PeerCounts(contents(source).operators, results)
    return found


def _judged(source: Path, result: Path, recipe: Path) -> PeerResult:
    judged = run_python("benchmarks.judging", source, result, recipe, timeout=TIMEOUT_S)
    if judged.code != 0:
        return PeerResult(contents(result).operators, standard=False, works=False)
    found = json.loads(judged.output)
    works = found["loads"] and found["equal"] and found["dynamic"]
    return PeerResult(found["operators"], bool(found["standard"]), bool(works))


def to_json(counts: Mapping[str, PeerCounts]) -> str:
    """The counts as they are kept."""
    content = {
        model: {
            "operators": row.operators,
            "peers": {
                name: {"operators": r.operators, "standard": r.standard, "works": r.works}
                for name, r in row.peers.items()
            },
        }
        for model, row in counts.items()
    }
    return json.dumps(content, indent=1)


def main(arguments: list[str]) -> None:
    """The command line."""
    match arguments:
        case ["run", peer, source, result]:
            PEERS[peer](source, result)
        case ["count", folder, out, *names]:
            wanted = names or sorted(
                p.stem for p in Path(folder).glob("*.onnx") if p.with_suffix(".json").exists()
            )
            Path(out).write_text(to_json(count(Path(folder), wanted)) + "\n", encoding="utf-8")
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    main(sys.argv[1:])
