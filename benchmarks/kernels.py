"""How fast products are: chains of constant weights K -> N -> K -> .. in our engine and in onnxruntime.

    python -m benchmarks.kernels [--rounds 15] [--precision f32 bf16 int8] [--rows 1 10 100]
    python -m benchmarks.kernels --large      Strassen's product against the plain one

Prints GFLOP/s (2 a multiply-add) of the best round and the ratio of the medians, onnxruntime's time over
ours: above 1 we are faster. Both on one thread, in turns; time is CPU time, which a busy machine disturbs
least. A chain is long enough that its weights leave L2, as those of a model do.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence

import numpy as np
import onnx
import onnx.helper as oh

from benchmarks.sessions import session
from graphopt.runtime import InferenceSession

LENGTH = 8
SIZES = ((256, 256), (256, 1024), (512, 512), (512, 2048), (1024, 1024))
ROWS = (1, 8, 10, 30, 100, 400)
PRECISIONS = ("f32", "f16", "bf16", "int8")


def chain(k: int, n: int) -> onnx.ModelProto:
    """MatMuls with weights of their own, in turns [K, N] and [N, K]; results keep their size."""
    rng = np.random.default_rng(0)
    nodes, weights = [], []
    for i in range(LENGTH):
        rows, columns = (k, n) if i % 2 == 0 else (n, k)
        w = (rng.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights.append(onnx.numpy_helper.from_array(w, f"w{i}"))
        nodes.append(oh.make_node("MatMul", [f"x{i}", f"w{i}"], [f"x{i + 1}"]))
    inputs = [oh.make_tensor_value_info("x0", onnx.TensorProto.FLOAT, ["m", k])]
    outputs = [oh.make_tensor_value_info(f"x{LENGTH}", onnx.TensorProto.FLOAT, ["m", k])]
    graph = oh.make_graph(nodes, "chain", inputs, outputs, weights)
    return oh.make_model(graph, opset_imports=[oh.make_opsetid("", 20)], ir_version=10)


def times(runs: Sequence[Callable[[], object]], rounds: int, work: float) -> list[list[float]]:
    """Seconds of one call of each, round by round; the order of the runs changes with the round."""
    calls = max(1, round(1e9 / work))
    found: list[list[float]] = [[] for _ in runs]
    for run in runs:
        run()
    for r in range(rounds):
        for i in sorted(range(len(runs)), key=lambda i: (i + r) % len(runs)):
            start = time.thread_time()
            for _ in range(calls):
                runs[i]()
            found[i].append((time.thread_time() - start) / calls)
    return found


def row(m: int, k: int, n: int, precisions: Sequence[str], rounds: int) -> str:
    """One line of the table."""
    model = chain(k, n)
    peer = session(model)
    own = [InferenceSession(model, precision=p, optimize=False) for p in precisions]  # type: ignore[arg-type]
    feeds = {"x0": np.random.default_rng(1).standard_normal((m, k), dtype=np.float32)}
    runs: list[Callable[[], object]] = [lambda s=s: s.run(None, feeds) for s in (peer, *own)]  # type: ignore[misc]
    work = 2.0 * m * k * n * LENGTH
    first, *others = times(runs, rounds, work)
    cells = [
        f"{work / min(found) * 1e-9:7.1f} {statistics.median(first) / statistics.median(found):6.2f}"
        for found in others
    ]
    return f"{m:5} {f'{k} <-> {n}':14} {work / min(first) * 1e-9:12.1f}  " + "  ".join(cells)


def large(n: int, rounds: int) -> str:
    """One line: a product of n^3; a bias of zeros keeps the plain one."""
    from graphopt.kernels import _engine

    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal((n, n), dtype=np.float32) for _ in range(2))
    zeros = (np.zeros(n, np.float32), 1)

    def product(bias: tuple[np.ndarray, int] | None) -> object:
        operands = [(a, 1), (b, 1), bias, None]
        return _engine.call_kernel("matmul", operands, [(1, [n, n], None)], [0, 0], [1.0], b"", 1, 1)

    work = 2.0 * n**3
    best = [min(found) for found in times([lambda: product(None), lambda: product(zeros)], rounds, work)]
    return f"{n:5} {work / best[0] * 1e-9:8.1f} {work / best[1] * 1e-9:8.1f} {best[1] / best[0]:6.2f}"


def main(arguments: Sequence[str]) -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.kernels", description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--rows", type=int, nargs="+", default=ROWS)
    parser.add_argument("--precision", nargs="+", choices=PRECISIONS, default=PRECISIONS)
    parser.add_argument("--large", action="store_true", help="Strassen's product instead")
    given = parser.parse_args(arguments)
    if given.large:
        print(f"{'n':>5} {'GF':>8} {'plain':>8} {'ratio':>6}")
        for n in (2048, 3072, 4096):
            print(large(n, min(given.rounds, 3)), flush=True)
        return
    print(
        f"{'rows':>5} {'K <-> N':14} {'onnxruntime':>12}  "
        + "  ".join(f"{p:>7} {'ratio':>6}" for p in given.precision)
    )
    for k, n in SIZES:
        for m in given.rows:
            print(row(m, k, n, given.precision, given.rounds), flush=True)


if __name__ == "__main__":
    main(sys.argv[1:])
