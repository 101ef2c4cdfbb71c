import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from examples.fuse_softsign import NOT_FLOAT
from graphopt.rewriting import HAS_OTHER_CONSUMERS
from graphopt.testing import assert_rejects, assert_rewrites, model_from_text

ROOT = Path(__file__).parents[2]
PASS = "fuse-softsign"


@pytest.mark.parametrize("sum_of", ["a, 1.0", "1.0, a"])
def test_fuses(sum_of):
    assert_rewrites(
        PASS,
        before=f"g (float[N,4] x) => (float[N,4] y) {{ a = Abs(x)  s = Add({sum_of})  y = Div(x, s) }}",
        after="g (float[N,4] x) => (float[N,4] y) { y = Softsign(x) }",
        exact=False,
        sizes=[{"N": 0}, {"N": 5}],
    )


@pytest.mark.parametrize(
    ("graph", "reason"),
    [
        ("g (int32[N] x) => (int32[N] y) { a = Abs(x)  s = Add(a, o)  y = Div(x, s) }", NOT_FLOAT),
        (
            "g (float[N] x) => (float[N] y, float[N] z) { a = Abs(x)  s = Add(a, 1.0)  y = Div(x, s)  z = Exp(s) }",
            HAS_OTHER_CONSUMERS,
        ),
        ("g (float[N] x) => (float[N] y) { a = Abs(x)  s = Add(a, 2.0)  y = Div(x, s) }", None),
    ],
)
def test_leaves_alone(graph, reason):
    one = "o = Constant <value = int32 {1}> ()  a = Abs"
    assert_rejects(PASS, graph.replace("a = Abs", one) if "int32" in graph else graph, reason)


def test_runs_from_the_command_line(tmp_path):
    text = "g (float[N] x) => (float[N] y) { a = Abs(x)  s = Add(a, 1.0)  y = Div(x, s) }"
    source, result = tmp_path / "m.onnx", tmp_path / "r.onnx"
    onnx.save(onnx.parser.parse_model(onnx.printer.to_text(_proto(text))), source)
    command = [sys.executable, "-m", "graphopt", "optimize", source, "-o", result]
    plugin = ["--plugin", "examples.fuse_softsign"]
    done = subprocess.run([*command, *plugin], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "verified" in done.stdout
    assert [node.op_type for node in onnx.load(result).graph.node] == ["Softsign"]


def _proto(text: str) -> onnx.ModelProto:
    import onnx_ir as ir

    return ir.to_proto(model_from_text(text))
