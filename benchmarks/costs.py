"""What operators cost in onnxruntime: times small models, fits ns = a + b*flops + c*bytes, writes the tables.

    python -m benchmarks.costs [--only OPERATOR]... [--registry] [--times FILE]

A model has a node 2 and 10 times, with inputs of its own kind and weights of its own; the eighth of the
difference is one node without what a run itself costs. Time is CPU time of the one thread, the first decile
of many runs: other processes only ever add to it. Optimizations are off: a node is what the file says.

--registry writes the rows again (versions and element types of the installed releases) with the costs that
were measured before; --only measures some operators again. --times FILE keeps the least times from run to
run, for machines that are never quiet; with --refit they are not measured again.

Tables: graphopt/targets/{onnx,onnxruntime}.json.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import platform
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import helper

from benchmarks.cost_cases import CASES, STAND_INS, Case, Sizes
from benchmarks.cost_fits import Cost, Point, fitted
from benchmarks.cost_loops import loop_cost
from benchmarks.cost_rows import kernel_rows, standard_rows
from benchmarks.sessions import session
from graphopt.ir.inference import Facts
from graphopt.ir.opset import propagate
from graphopt.ir.own_operators import ACTIVATIONS, DOMAIN, define_fully_connected
from graphopt.targets.work import UNPACKED, kernel_of, work_of

FOLDER = Path(__file__).resolve().parents[1] / "graphopt" / "targets"
FEW, MANY = 2, 10
FEWEST_ROUNDS, MOST_ROUNDS, SECONDS = 6, 400, 0.03

Feeds = Mapping[str, NDArray[np.generic]]

DTYPES = {
    "f32": np.float32,
    "i64": np.int64,
    "i32": np.int32,
    "u32": np.uint32,
    "i8": np.int8,
    "u8": np.uint8,
    "bool": np.bool_,
}


def main() -> None:
    """Measure, fit, write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", action="append", default=[], help="measure this operator alone")
    parser.add_argument("--registry", action="store_true", help="measure nothing")
    parser.add_argument("--times", type=Path, help="least times so far, read and written")
    parser.add_argument("--refit", action="store_true", help="measure only what the file of times lacks")
    options = parser.parse_args()
    stopwatch = Stopwatch(options.times, again=not options.refit)
    path = FOLDER / "onnxruntime.json"
    known: dict[str, Cost] = {}
    if (options.only or options.registry) and path.exists():
        rows = json.loads(path.read_text(encoding="utf-8"))["operators"]
        known = {
            key: Cost(row["a"], row["b"], row["c"], row["error"])
            for key, row in rows.items()
            if "like" not in row
        }
    if not options.registry:
        known |= measured(options.only, stopwatch)
        stopwatch.save()
    write(FOLDER / "onnx.json", {"source": f"onnx {onnx.__version__}"}, standard_rows())
    write(path, {"source": source()}, with_costs(kernel_rows(), known))


def source() -> str:
    """Who measured what, for the tables."""
    flags = Path("/proc/cpuinfo")
    text = flags.read_text(encoding="utf-8") if flags.exists() else ""
    features = [
        name for name in ("avx2", "avx512f", "avx512_vnni", "avx512_bf16", "amx_int8") if name in text
    ]
    return f"onnxruntime {ort.__version__}, 1 thread, {platform.machine()} {' '.join(features)}"


def measured(only: Sequence[str], stopwatch: Stopwatch) -> dict[str, Cost]:
    """Coefficients by operator ("domain.Name" or "Name") of those that have a case."""
    points: dict[str, list[Point]] = defaultdict(list)
    for case in CASES:
        if only and case.op_type not in only:
            continue
        for sizes in case.sizes:
            key = _key(case.domain, case.op_type)
            try:
                kernel, point = measure(case, sizes, stopwatch)
                points[_key(case.domain, kernel)].append(point)
            except Exception as error:  # a case that this release does not run stands in for nothing
                print(f"{key} {dict(sizes)}: {str(error).splitlines()[0][:150]}", file=sys.stderr)
    if not only or "FullyConnected" in only:
        points |= fully_connected(stopwatch)
    found = fitted(points)
    found["Constant"] = Cost(0.0, 0.0, 0.0, 0.0)  # made at load
    for op_type in ("Loop", "Scan", "If"):
        if not only or op_type in only:
            found[op_type] = loop_cost(op_type, stopwatch.least)
    return found


# ---------------------------------------------------------------------- models


def measure(case: Case, sizes: Sizes, stopwatch: Stopwatch) -> tuple[str, Point]:
    """One node of a case: its kernel, and its work by the operator's facts with its time."""
    model, feeds = _model(case, sizes, 1)
    read = ir.serde.deserialize_model(model)
    propagate(read)
    facts = Facts(read)
    work = work_of(read.graph[0], facts)
    few, many = (_model(case, sizes, count)[0] for count in (FEW, MANY))
    return kernel_of(read.graph[0]), Point(work.flops, work.bytes, stopwatch.one_node(few, many, feeds))


def fully_connected(stopwatch: Stopwatch) -> dict[str, list[Point]]:
    """Our own operators, which onnxruntime runs as the bodies of their functions."""
    found: dict[str, list[Point]] = {}
    (gemm,) = (case for case in CASES if case.op_type == "Gemm")
    for activation in ("", *ACTIVATIONS):
        for sizes in gemm.sizes:
            _, feeds = _model(gemm, sizes, 1)
            one, few, many = (_calls(gemm, sizes, count, activation) for count in (1, FEW, MANY))
            work = work_of(one.graph[0], Facts(one))
            ns = stopwatch.one_node(ir.serde.serialize_model(few), ir.serde.serialize_model(many), feeds)
            key = _key(DOMAIN, one.graph[0].op_type)
            found.setdefault(key, []).append(Point(work.flops, work.bytes, ns))
    return found


def _calls(gemm: Case, sizes: Sizes, count: int, activation: str) -> ir.Model:
    """The model of a Gemm with calls of FullyConnected instead."""
    model = ir.serde.deserialize_model(_model(gemm, sizes, count)[0])
    name = define_fully_connected(model, activation)
    for node in model.graph:
        if node.op_type == "Gemm":
            node.domain, node.op_type = DOMAIN, name
            for attribute, kind in ACTIVATIONS.get(activation, {}).items():
                value = (
                    ir.AttrString(attribute, "none") if kind == "string" else ir.AttrFloat32(attribute, 0.25)
                )
                node.attributes.add(value)
    return model


def _model(case: Case, sizes: Sizes, count: int) -> tuple[onnx.ModelProto, Feeds]:
    """The node `count` times, on the same inputs with weights of its own, or on the last one's output."""
    inputs: dict[str, NDArray[np.generic]] = {}
    weights: dict[str, NDArray[np.generic]] = {}
    nodes = []
    previous = ""
    for copy in range(count):
        names = []
        for i, text in enumerate(case.inputs):
            if not text:
                names.append("")
                continue
            is_weight = text.startswith("*")
            name = f"w{i}_{copy}" if is_weight else f"x{i}"
            (weights if is_weight else inputs).setdefault(name, _array(text.lstrip("*"), sizes, copy))
            names.append(previous if case.is_view and previous and i == 0 else name)
        outputs = [f"y{j}_{copy}" for j in range(case.outputs)]
        previous = outputs[0]
        attributes = {k: sizes.get(v, v) if isinstance(v, str) else v for k, v in case.attributes.items()}
        node = helper.make_node(case.op_type, names, outputs, domain=case.domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        nodes.append(node)
    anchor = inputs or {"x": np.zeros(1, np.float32)}
    nodes.append(helper.make_node("Identity", [next(iter(anchor))], ["last"]))
    graph = helper.make_graph(
        nodes,
        "costs",
        [_value(name, array) for name, array in anchor.items()],
        [_value("last", next(iter(anchor.values())))],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    opsets = [helper.make_opsetid("", case.opset)]
    if case.domain:
        opsets.append(helper.make_opsetid(case.domain, 1))
    return helper.make_model(graph, opset_imports=opsets, ir_version=10), anchor


def _value(name: str, array: NDArray[np.generic]) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(array.dtype), array.shape)


def _array(text: str, sizes: Sizes, seed: int) -> NDArray[np.generic]:
    """An input as `benchmarks.cost_cases` writes it."""
    body, _, filled = text.partition("=")
    body, _, below = body.partition("<")
    kind, _, inside = body.rstrip("]").partition("[")
    dims = [_size(dim, sizes) for dim in inside.split(",") if dim]
    dtype = np.dtype(DTYPES[kind])
    if filled:
        given = [_size(part, sizes) if part[0].isalpha() else float(part) for part in filled.split(",")]
        return np.resize(np.asarray(given), dims).astype(dtype)
    generator = np.random.default_rng(seed)
    if dtype.kind == "f":
        return generator.uniform(0.05, 0.95, dims).astype(dtype)
    return generator.integers(0, int(below) if below else 2, dims).astype(dtype)


def _size(text: str, sizes: Sizes) -> int:
    return math.prod(sizes[part] if part.isalpha() else int(part) for part in text.split("*"))


# ---------------------------------------------------------------------- time


class Stopwatch:
    """Least times of models in ns, by their bytes; kept in a file where one is given."""

    def __init__(self, path: Path | None = None, again: bool = True) -> None:
        self._path = path
        self._again = again
        kept = path.read_text(encoding="utf-8") if path is not None and path.exists() else "{}"
        self._least: dict[str, float] = json.loads(kept)

    def one_node(self, few: onnx.ModelProto, many: onnx.ModelProto, feeds: Feeds) -> float:
        """Time of one node; each model is timed twice, in turns."""
        pairs = [(self.least(few, feeds), self.least(many, feeds)) for _ in range(2)]
        return max(pairs[-1][1] - pairs[-1][0], 1.0) / (MANY - FEW)

    def least(self, model: onnx.ModelProto, feeds: Feeds) -> float:
        """Least time of a run so far."""
        key = hashlib.sha256(model.SerializeToString()).hexdigest()[:16]
        if self._again or key not in self._least:
            self._least[key] = min(least(model, feeds), self._least.get(key, math.inf))
        return self._least[key]

    def save(self) -> None:
        """Keep the times for the next run."""
        if self._path is not None:
            self._path.write_text(json.dumps(self._least), encoding="utf-8")


def least(model: onnx.ModelProto, feeds: Feeds) -> float:
    """CPU time of a run in ns that one in ten stays below, its output written where it was before."""
    loaded = session(model, "ORT_DISABLE_ALL")
    binding = loaded.io_binding()
    for name, array in feeds.items():
        binding.bind_cpu_input(name, array)
    last = feeds[model.graph.node[-1].input[0]]
    binding.bind_ortvalue_output("last", ort.OrtValue.ortvalue_from_numpy(last.copy()))
    times: list[int] = []
    end = time.perf_counter() + SECONDS
    while len(times) < FEWEST_ROUNDS or (len(times) < MOST_ROUNDS and time.perf_counter() < end):
        start = time.thread_time_ns()
        loaded.run_with_iobinding(binding)
        times.append(time.thread_time_ns() - start)
    # Not the least: on a virtual machine the clock of a thread now and then misses a part.
    return float(sorted(times)[len(times) // 10])


# ---------------------------------------------------------------------- tables

Row = dict[str, object]


def with_costs(rows: Mapping[str, Row], known: Mapping[str, Cost]) -> dict[str, Row]:
    """Rows with their coefficients: measured, or those of what stands in."""
    found: dict[str, Row] = {}
    kernels = {key: rows[key.removesuffix(UNPACKED)] for key in known if key.endswith(UNPACKED)}
    for key, row in sorted({**rows, **kernels}.items()):
        like = key
        while like not in known and like in STAND_INS:
            like = STAND_INS[like]
        if like not in known:
            raise SystemExit(f"{key} has neither a case that runs nor a stand-in")
        cost = {name: float(f"{number:.3g}") for name, number in asdict(known[like]).items()}
        found[key] = {**row, **cost, **({"like": like} if like != key else {})}
    return found


def write(path: Path, head: Mapping[str, object], rows: Mapping[str, Row]) -> None:
    """One line an operator, so that a change shows."""
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(row)}" for key, row in rows.items())
    start = json.dumps(dict(head), indent=1).rstrip("}\n")
    path.write_text(f'{start},\n "operators": {{\n{lines}\n }}\n}}\n', encoding="utf-8")


def _key(domain: str, op_type: str) -> str:
    return f"{domain}.{op_type}" if domain else op_type


if __name__ == "__main__":
    main()
