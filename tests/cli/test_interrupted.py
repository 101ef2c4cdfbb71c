"""`graphopt quantize` interrupted: one line that says where it goes on, and nothing half-written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest

RNG = np.random.default_rng(0)
# Ctrl-C after two samples, each of which is kept.
INTERRUPTED = """
import sys
from graphopt.quantization.checkpoint import Checkpoint
Checkpoint.__init__.__kwdefaults__["seconds"] = 0
after = Checkpoint.after
def interrupted(self, number, parts):
    after(self, number, parts)
    if number == STOP:
        raise KeyboardInterrupt
Checkpoint.after = interrupted
from graphopt.cli import main
main(sys.argv[1:])
"""


@pytest.fixture
def command(tmp_path: Path) -> list[str]:
    proto = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> g (float[N,64] x) => (float[N,64] y) { h = MatMul(x, w)  y = Relu(h) }'
    )
    w = RNG.standard_normal((64, 64)).astype(np.float32)
    proto.graph.initializer.append(onnx.numpy_helper.from_array(w, "w"))
    onnx.save(proto, tmp_path / "model.onnx")
    (tmp_path / "calib").mkdir()
    for i in range(4):
        np.savez(tmp_path / "calib" / f"{i}.npz", x=RNG.standard_normal((20, 64)).astype(np.float32))
    paths = [tmp_path / "model.onnx", "--data", tmp_path / "calib", "--table", tmp_path / "q.json"]
    return ["quantize", *map(str, paths), "--no-verify", "--quiet"]


def run(script: str, command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script, *command], capture_output=True, text=True, check=False
    )


def test_it_says_where_it_goes_on(command: list[str], tmp_path: Path) -> None:
    stopped = run(INTERRUPTED.replace("STOP", "2"), command)
    state = tmp_path / "q.json.calibration"
    assert stopped.returncode == 130
    assert stopped.stderr == f"graphopt: interrupted; the same command goes on from {state}\n"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["calib", "model.onnx", "q.json.calibration"]
    # Stopped at once where nothing new was done: two samples are passed over.
    again = run(INTERRUPTED.replace("STOP", "3"), command)
    assert again.returncode == 130 and state.exists()
    ended = run("import sys; from graphopt.cli import main; main(sys.argv[1:])", command)
    assert ended.returncode == 0, ended.stderr
    assert not state.exists() and (tmp_path / "q.json").exists() and (tmp_path / "model.int8.onnx").exists()


def test_before_anything_was_kept(command: list[str], tmp_path: Path) -> None:
    script = INTERRUPTED.replace("    after(self, number, parts)\n", "").replace("STOP", "1")
    stopped = run(script, command)
    assert stopped.returncode == 130
    assert stopped.stderr.strip() == "graphopt: interrupted; nothing half-written remains"
    assert sorted(p.name for p in tmp_path.iterdir()) == ["calib", "model.onnx"]


# The process is killed once so many results of the search are kept; what is kept is counted on stderr.
KILLED_IN_SEARCH = """
import atexit, os, signal, sys
from graphopt.quantization.journal import Journal
add, count = Journal.add, 0
def counted(self, key, entry):
    global count
    add(self, key, entry)
    count += 1
    if count == STOP:
        os.kill(os.getpid(), signal.SIGKILL)
Journal.add = counted
atexit.register(lambda: print(count, file=sys.stderr))
from graphopt.cli import main
main(sys.argv[1:])
"""


def test_a_search_goes_on_where_it_was_killed(command: list[str], tmp_path: Path) -> None:
    def written() -> dict[str, bytes]:
        return {p.name: p.read_bytes() for p in tmp_path.iterdir() if p.is_file() and p.name != "model.onnx"}

    whole = run(KILLED_IN_SEARCH.replace("STOP", "0"), command)
    assert whole.returncode == 0, whole.stderr
    expected, count = written(), int(whole.stderr)
    for name in expected:
        (tmp_path / name).unlink()
    killed = run(KILLED_IN_SEARCH.replace("STOP", str(count // 2)), command)
    assert killed.returncode < 0
    assert (tmp_path / "q.json.calibration.search").exists()
    ended = run(KILLED_IN_SEARCH.replace("STOP", "0"), command)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stderr) == count - count // 2
    assert written() == expected
