"""Compiled models in files: the same answers, mapped or read; what is altered or cut off is refused."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import struct
import subprocess
import sys
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphopt.errors import ModelError, OutputError, UsageError
from graphopt.runtime import InferenceSession
from graphopt.runtime.compilation import compiled, program_of
from graphopt.runtime.compiled_file import is_compiled_file, read_compiled, write_compiled
from tests.runtime import models

MIXED = (
    "g (float[2,N] x, float[2] w, int64 i) => (float[2,N] y, string s, bfloat16[2] b, float[2] v)"
    ' <float[2] w = {3, 4}, string[3] words = {"a", "", "çé"}, bfloat16[2] c = {1, 2}>'
    " { e = Exp(x) y = Neg(e) s = Gather(words, i) b = Identity(c) v = Identity(w) }"
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("compiled") / "model.gopt"
    write_compiled(compiled(program_of(models.perceptron())), path)
    return path


X = np.random.default_rng(3).standard_normal((5, 64)).astype(np.float32)


@pytest.mark.parametrize("is_mapped", [False, True])
def test_gives_the_same_answers(file: Path, is_mapped: bool) -> None:
    session = InferenceSession(file, mmap=is_mapped)
    direct = InferenceSession(models.perceptron())
    np.testing.assert_array_equal(session.run(None, {"x": X})[0], direct.run(None, {"x": X})[0])
    assert session.get_inputs() == direct.get_inputs()
    assert session.get_outputs() == direct.get_outputs()


@pytest.mark.parametrize("is_mapped", [False, True])
def test_keeps_texts_defaults_and_every_type(tmp_path: Path, is_mapped: bool) -> None:
    model = models.from_text(MIXED, opset=19)
    path = tmp_path / "mixed.gopt"
    size = write_compiled(compiled(program_of(model)), path)
    assert path.stat().st_size == size
    x = np.ones((2, 3), np.float32)
    y, s, b, v = InferenceSession(path, mmap=is_mapped).run(None, {"x": x, "i": 2})
    np.testing.assert_allclose(y, -np.exp(x), rtol=1e-6)
    assert str(s) == "çé"
    direct = InferenceSession(model).run(["b"], {"x": x, "i": 2})[0]
    assert np.asarray(b).dtype == ml_dtypes.bfloat16
    assert np.asarray(b).tobytes() == np.asarray(direct).tobytes()
    assert np.asarray(v).tolist() == [3, 4]


def test_control_flow_and_taps_are_compiled(tmp_path: Path) -> None:
    path = tmp_path / "loop.gopt"
    write_compiled(compiled(program_of(models.loop(), keep=["repeat:body/negative"])), path)
    seen: list[object] = []
    session = InferenceSession(path)
    y, _ = session.run(None, {"x": [1, 2], "n": 2}, tap=lambda *shown: seen.append(shown[:2]))
    assert np.asarray(y).tolist() == [3, 6]
    assert seen == [("repeat:body/negative", (0,)), ("repeat:body/negative", (1,))]


def test_opening_imports_nothing_that_knows_graphs(file: Path) -> None:
    code = (
        "import sys\n"
        "from graphopt.runtime import InferenceSession\n"
        "session = InferenceSession(sys.argv[1])\n"
        "session.run(None, {'x': [[0.5] * 64]})\n"
        "heavy = {'onnx', 'onnx_ir', 'networkx', 'onnxruntime', 'sympy', 'graphopt.ir', 'graphopt.compiler'}\n"
        "print(sorted(heavy & sys.modules.keys()))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(file)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


WRITES = (
    "import sys; from graphopt.runtime.compilation import compiled, program_of\n"
    "from graphopt.runtime.compiled_file import write_compiled\n"
    "write_compiled(compiled(program_of(sys.argv[1])), sys.argv[2])\n"
)
RUNS_BOTH = (
    "import sys; import numpy as np; from graphopt.runtime import InferenceSession\n"
    "x = np.load(sys.argv[3])\n"
    "a, b = [InferenceSession(path).run(None, {'x': x})[0] for path in sys.argv[1:3]]\n"
    "np.testing.assert_array_equal(a, b)\n"
)


def test_a_file_of_any_cpu_opens_on_any(tmp_path: Path) -> None:
    """Each of the libraries in place of another CPU's: a weaker one never opens the stronger one's."""
    from graphopt.kernels import _engine

    model, given = tmp_path / "perceptron.onnx", tmp_path / "x.npy"
    onnx.save(models.perceptron(), model)
    np.save(given, X)
    (expected,) = InferenceSession(model).run(None, {"x": X})
    isas = [path.stem.removeprefix("kernels_") for path in _libraries()]
    for isa in isas:
        path = tmp_path / f"{isa}.gopt"
        _python(isa, WRITES, model, path)
        assert path.read_bytes()[24:40].rstrip(b"\0").decode() == isa
        np.testing.assert_array_equal(InferenceSession(path).run(None, {"x": X})[0], expected)
    for isa in isas:
        _python(isa, RUNS_BOTH, tmp_path / f"{_engine.isa()}.gopt", model, given)


def _libraries() -> list[Path]:
    from graphopt.kernels import _engine

    return sorted(Path(_engine.__file__).parent.glob("kernels_*.so"))


def _python(isa: str, code: str, *arguments: Path) -> None:
    environment = {**os.environ, "GRAPHOPT_ISA": isa}
    subprocess.run([sys.executable, "-c", code, *map(str, arguments)], env=environment, check=True)


def test_a_file_of_an_instruction_set_that_nobody_knows(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    other = data[:24] + b"v9".ljust(16, b"\0") + data[40:]
    message = assert_refused(signed(other), tmp_path / "bad.gopt")
    assert "constants are packed for v9, which this graphopt (for " in message
    assert "compile it on this machine, or with --portable" in message
    path = tmp_path / "portable.gopt"
    write_compiled(compiled(program_of(models.perceptron())), path, is_portable=True)
    data = path.read_bytes()
    path.write_bytes(signed(data[:24] + b"v9".ljust(16, b"\0") + data[40:]))
    for is_mapped in (False, True):
        (y,) = InferenceSession(path, mmap=is_mapped).run(None, {"x": X})
        np.testing.assert_array_equal(y, InferenceSession(file).run(None, {"x": X})[0])


def test_precision_is_chosen_when_compiling(file: Path) -> None:
    with pytest.raises(UsageError, match="is compiled; precision and kept values are chosen by `compile`"):
        InferenceSession(file, precision="bf16")
    with pytest.raises(ModelError, match="needs the native engine"):
        InferenceSession(file, engine="python")


def test_a_file_that_can_not_be_written(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="can't be written"):
        write_compiled(compiled(program_of(models.loop())), tmp_path / "missing" / "model.gopt")
    assert not list(tmp_path.iterdir())


def assert_refused(data: bytes, path: Path) -> str:
    path.write_bytes(data)
    for is_mapped in (False, True):
        with pytest.raises(ModelError) as caught:
            read_compiled(path, is_mapped=is_mapped)
        assert "\n" not in str(caught.value)
    return str(caught.value)


def test_says_what_is_wrong_with_a_file(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    path = tmp_path / "bad.gopt"
    assert "cut off" in assert_refused(data[:-1], path)
    assert "cut off" in assert_refused(data[:100], path)
    assert "cut off or longer" in assert_refused(data + b"x", path)
    assert "checksum" in assert_refused(data[:-9] + b"?" + data[-8:], path)
    assert "version 2 of the format, this graphopt reads 1" in assert_refused(
        data[:8] + struct.pack("<I", 2) + data[12:], path
    )
    assert "no compiled model" in assert_refused(b"GRAPHOPS" + data[8:], path)
    assert not is_compiled_file(path)
    assert not is_compiled_file(tmp_path / "missing")


def signed(data: bytes) -> bytes:
    """The file with the digest that its contents have now."""
    body = hashlib.sha256(data[152:]).digest()
    return data[:120] + hashlib.sha256(data[:120] + body).digest() + data[152:]


def test_another_version_of_graphopt_is_named(file: Path, tmp_path: Path) -> None:
    data = file.read_bytes()
    assert signed(data) == data
    from graphopt import __version__

    other = data.replace(json.dumps({"graphopt": __version__})[1:-1].encode(), b'"graphopt": "9.8.7"')
    assert "graphopt 9.8.7 compiled it" in assert_refused(signed(other), tmp_path / "bad.gopt")


@settings(max_examples=150)
@given(data=st.data())
def test_altered_and_truncated_files_are_refused(file: Path, data: st.DataObject) -> None:
    good = file.read_bytes()
    path = file.with_name("fuzzed.gopt")
    bad = bytearray(good)
    if data.draw(st.booleans()):
        for _ in range(data.draw(st.integers(1, 4))):
            at = data.draw(st.integers(0, len(good) - 1) | st.integers(0, 2000))
            bad[at] ^= data.draw(st.integers(1, 255))
    else:
        del bad[data.draw(st.integers(0, len(good) - 1)) :]
    if bytes(bad) == good:
        return
    assert_refused(bytes(bad), path)


@settings(max_examples=150)
@given(data=st.data())
def test_damage_behind_a_right_checksum_is_found_too(file: Path, data: st.DataObject) -> None:
    """Tables that lead outside raise; none brings the process down."""
    good = file.read_bytes()
    words, n_words = struct.unpack_from("<QQ", good, 40)
    path = file.with_name("forged.gopt")
    bad = bytearray(good)
    at = words + 8 * data.draw(st.integers(0, n_words // 8 - 1))
    value = data.draw(st.integers(-3, 60) | st.integers(-(2**63), 2**63 - 1))
    bad[at : at + 8] = struct.pack("<q", value)
    path.write_bytes(signed(bytes(bad)))
    with contextlib.suppress(ModelError):
        InferenceSession(path)
