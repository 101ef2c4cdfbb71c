"""Whatever happened to a file: it is taken, or refused in one line; never another error."""

from pathlib import Path

import numpy as np
import onnx
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import numpy_helper

from graphopt.errors import GraphoptError
from graphopt.ir.load import load
from graphopt.ir.save import save
from graphopt.ir.verifier import verify

TEXT = """<ir_version: 10, opset_import: ["": 18, "local": 1], metadata_props: ["a": "b"]>
g (bool c, float[N, 3] x, seq(float[2]) s) => (float[N, 3] y, seq(float[2]) t)
    <float[N, 3] h, float[3] k = {1, 2, 3}, int64[2] axes = {0, 1}> {
    h = local.Twice <by = 2.0> (x)
    y = If(c) <then_branch = a () => (float[N, 3] p) { p = Add(h, k) },
               else_branch = b () => (float[N, 3] q) { r = Add(h, w) q = Clip(r, , k) }>
    t = Identity(s)
}
<domain: "local", opset_import: ["": 18]> Twice <by> (v) => (o)
{ f = Constant <value_float: float = @by> () o = Mul(v, f) }"""


def whole() -> bytes:
    model = onnx.parser.parse_model(TEXT)
    model.graph.initializer.append(numpy_helper.from_array(np.ones((1000, 3), np.float32), "w"))
    contents: bytes = model.SerializeToString()
    return contents


WHOLE = whole()
# The weight is most of the file and its bytes can't be wrong: damage goes where the structure is.
STRUCTURE = [place for place in range(len(WHOLE)) if WHOLE[place : place + 1] not in b"\x80\x3f\0"]

damage = st.tuples(
    st.sampled_from(STRUCTURE),
    st.one_of(st.integers(0, 255).map(lambda byte: bytes([byte])), st.binary(max_size=6)),
    st.integers(0, 6),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(edits=st.lists(damage, min_size=1, max_size=4), cut=st.none() | st.integers(1, len(WHOLE)))
def test_damaged_files(edits: list[tuple[int, bytes, int]], cut: int | None, tmp_path: Path) -> None:
    contents = bytearray(WHOLE)
    for place, put, removed in edits:
        contents[place : place + removed] = put
    path = tmp_path / "m.onnx"
    path.write_bytes(contents[:cut])
    refusal = ""
    try:
        model = load(path)
        verify(model)
        save(model, tmp_path / "n.onnx")
    except GraphoptError as error:
        refusal = str(error)
    assert "\n" not in refusal and len(refusal) < 600
