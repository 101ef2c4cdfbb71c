import subprocess
import sys
from pathlib import Path

import onnx
import onnx_ir as ir
import pytest

from examples.fuse_tan import NOT_FLOAT32
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text

PASS = "fuse-tan"
ROOT = Path(__file__).parents[2]
GRAPH = "g (float[N,4] x) => (float[N,4] y) { s = Sin(x)  c = Cos(x)  y = Div(s, c) }"


def test_fuses():
    assert_rewrites(
        PASS,
        before=GRAPH,
        after="g (float[N,4] x) => (float[N,4] y) { y = Tan(x) }",
        exact=False,
        sizes=[{"N": 0}, {"N": 5}],
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        (GRAPH.replace("float[", "double["), NOT_FLOAT32),
        (GRAPH.replace("y = Div(s, c)", "y = Div(s, c)  z = Exp(c)").replace("y)", "y, float[N,4] z)"), HAS_OTHER_CONSUMERS),
        (GRAPH.replace("Div(s, c)", "Div(c, s)"), None),
        ("g (float[N] x, float[N] z) => (float[N] y) { s = Sin(x)  c = Cos(z)  y = Div(s, c) }", None),
    ],
)  # fmt: skip
def test_leaves_alone(graph, reason):
    assert_rejects(PASS, graph, reason)


def test_runs_from_the_command_line(tmp_path):
    source, result = tmp_path / "m.onnx", tmp_path / "r.onnx"
    onnx.save(ir.to_proto(model_from_text(GRAPH)), source)
    command = [sys.executable, "-m", "graphopt", "optimize", source, "-o", result]
    plugin = ["--plugin", "examples.fuse_tan"]
    done = subprocess.run([*command, *plugin], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
    assert [node.op_type for node in onnx.load(result).graph.node] == ["Tan"]
