"""What save writes, and that it writes all of it or nothing."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import GraphoptError, OutputError
from graphopt.ir import protobuf, replacing
from graphopt.ir.load import from_proto, load
from graphopt.ir.save import save

HEADER = '<ir_version: 10, opset_import: ["": 21]>\n'


def weighted(count: int = 5000, value: float = 1.0) -> onnx.ModelProto:
    model = onnx.parser.parse_model(
        HEADER + f"g (float[{count}] x) => (float[{count}] y) {{ y = Add(x, w) }}"
    )
    model.graph.initializer.append(numpy_helper.from_array(np.full(count, value, np.float32), "w"))
    return model


def everything() -> onnx.ModelProto:
    """A model with one of all that a model can carry."""
    model = onnx.parser.parse_model(
        """<ir_version: 10, opset_import: ["": 21, "acme": 3, "local": 1], producer_name: "maker",
            producer_version: "1.2", domain: "org.acme", model_version: 7, doc_string: "about it",
            metadata_props: ["author": "someone", "license": "free"]>
        g (float[batch, 2] x, bool c, seq(float[3]) s, optional(float[3]) o)
            => (float[batch, 2] y, seq(float[3]) t, float[2] d)
            <float[batch, 2] h, float[2] d = {1, 2}> {
            h = local.Double <factor = 2.0> (x)
            y = If(c) <then_branch = a () => (float[batch, 2] p) { p = Relu(h) },
                       else_branch = b () => (float[batch, 2] q)
                       { q = acme.Spin <axes = [0, 1], how = "fast"> (h) }>
            t = Identity(s)
        }
        <domain: "local", opset_import: ["": 21], doc_string: "doubles">
        Double <factor> (v) => (r) { f = Constant <value_float: float = @factor> () r = Mul(v, f) }"""
    )
    graph = model.graph
    graph.doc_string = "a graph"
    graph.metadata_props.add(key="k", value="v")
    graph.node[0].doc_string = "first"
    graph.node[0].name = "twice"
    graph.node[0].metadata_props.add(key="source", value="line 3")
    graph.input[0].doc_string = "the input"
    graph.input[0].metadata_props.add(key="unit", value="m")
    annotation = graph.quantization_annotation.add(tensor_name="x")
    annotation.quant_parameter_tensor_names.add(key="SCALE_TENSOR", value="scale")
    for number, tensor in enumerate(tensors()):
        tensor.name = f"t{number}"
        graph.initializer.append(tensor)
    return model


def tensors() -> list[onnx.TensorProto]:
    rng = np.random.default_rng(0)
    dtypes = [
        *(np.float16, np.float64, np.int8, np.uint8, np.int16, np.uint16, np.int32, np.uint32, np.int64),
        *(np.uint64, np.bool_, np.complex64, np.complex128, ml_dtypes.bfloat16, ml_dtypes.float8_e4m3fn),
        *(ml_dtypes.float8_e4m3fnuz, ml_dtypes.float8_e5m2, ml_dtypes.float8_e5m2fnuz, ml_dtypes.int4),
        *(ml_dtypes.uint4, ml_dtypes.float4_e2m1fn),
    ]
    found = []
    for size in (0, 3, 4001):
        found += [numpy_helper.from_array((rng.random(size) * 7).astype(dtype), "t") for dtype in dtypes]
    found.append(helper.make_tensor("t", TensorProto.STRING, [2], [b"one", "zwölf".encode()]))
    found.append(helper.make_tensor("t", TensorProto.FLOAT, [2, 400], list(range(800))))
    found.append(helper.make_tensor("t", TensorProto.BFLOAT16, [2], [1.0, 2.0]))
    found.append(numpy_helper.from_array(np.array(3.5, np.float32), "t"))
    return found


def canonical(model: onnx.ModelProto) -> onnx.ModelProto:
    """Order and repetition that mean nothing, made equal: value infos, names of nodes without one."""
    for graph in (model.graph, *(a.g for n in model.graph.node for a in n.attribute if a.HasField("g"))):
        infos = sorted(graph.value_info, key=lambda info: info.name)
        named = {tensor.name for tensor in graph.initializer}
        del graph.value_info[:]
        graph.value_info.extend(info for info in infos if info.name not in named)
        for node in graph.node:
            node.ClearField("name")
            if not node.domain:
                node.ClearField("domain")
    for function in model.functions:
        for node in function.node:
            node.ClearField("name")
    for tensor in model.graph.initializer:
        if tensor.data_type != TensorProto.STRING:
            array = numpy_helper.to_array(tensor)
            tensor.CopyFrom(numpy_helper.from_array(array, tensor.name))
    return model


def assert_same_model(a: onnx.ModelProto, b: onnx.ModelProto) -> None:
    a, b = canonical(a), canonical(b)
    for field in a.DESCRIPTOR.fields:
        assert str(getattr(a, field.name)) == str(getattr(b, field.name)), field.name


@pytest.mark.parametrize("external", [False, True, "weights.bin"])
def test_everything_survives(external: bool | str, tmp_path: Path) -> None:
    original = everything()
    onnx.checker.check_model(original)
    onnx.save(original, tmp_path / "a.onnx")
    save(load(tmp_path / "a.onnx"), tmp_path / "b.onnx", external=external)
    onnx.checker.check_model(tmp_path / "b.onnx")
    assert_same_model(onnx.load(tmp_path / "a.onnx"), onnx.load(tmp_path / "b.onnx"))
    written = {"a.onnx", "b.onnx"}
    if external:
        written.add("b.onnx.data" if external is True else external)
    assert {path.name for path in tmp_path.iterdir()} == written


def test_saving_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    model = from_proto(everything())
    for external in (False, True):
        save(model, tmp_path / "a.onnx", external=external)
        first = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
        save(model, tmp_path / "a.onnx", external=external)
        assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == first


def test_the_model_in_memory_is_not_changed(tmp_path: Path) -> None:
    model = from_proto(everything())
    before = ir.to_proto(model).SerializeToString()
    values = list(model.graph.initializers.values())
    tensors_before = [value.const_value for value in values]
    save(model, tmp_path / "a.onnx", external=True)
    assert ir.to_proto(model).SerializeToString() == before
    assert all(
        a is v.const_value for a, v in zip(tensors_before, model.graph.initializers.values(), strict=True)
    )


def test_external_data_comes_back_external(tmp_path: Path) -> None:
    save(from_proto(weighted()), tmp_path / "a.onnx", external=True)
    model = load(tmp_path / "a.onnx")
    save(model, tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx.data").stat().st_size == 20000
    save(model.clone(), tmp_path / "c.onnx")
    assert (tmp_path / "c.onnx.data").exists()
    save(model, tmp_path / "d.onnx", external=False)
    assert not (tmp_path / "d.onnx.data").exists()
    assert_same_model(onnx.load(tmp_path / "d.onnx"), weighted())


def test_shared_data_stays_shared(tmp_path: Path) -> None:
    proto = weighted()
    proto.graph.initializer.append(numpy_helper.from_array(np.zeros(5000, np.float32), "v"))
    save(from_proto(proto), tmp_path / "a.onnx", external=True)
    tied = onnx.load(tmp_path / "a.onnx", load_external_data=False)
    for entry in tied.graph.initializer[1].external_data:
        entry.value = {e.key: e.value for e in tied.graph.initializer[0].external_data}[entry.key]
    onnx.save(tied, tmp_path / "a.onnx")
    save(load(tmp_path / "a.onnx"), tmp_path / "b.onnx")
    assert (tmp_path / "b.onnx.data").stat().st_size == 20000


@pytest.mark.parametrize("external", [False, True])
def test_over_itself(external: bool, tmp_path: Path) -> None:
    """The model stays usable while and after its own files are replaced."""
    path = tmp_path / "a.onnx"
    save(from_proto(weighted(value=3.0)), path, external=external)
    model = load(path)
    weight = model.graph.initializers["w"]
    old = weight.const_value
    weight.const_value = ir.LazyTensor(
        lambda: ir.tensor(old.numpy() * 2), ir.DataType.FLOAT, ir.Shape([5000]), name="w"
    )
    save(model, path)
    assert old.numpy()[0] == 3
    again = load(path)
    assert again.graph.initializers["w"].const_value.numpy()[0] == 6
    save(again, path)
    assert load(path).graph.initializers["w"].const_value.numpy()[-1] == 6
    assert len(list(tmp_path.iterdir())) == (2 if external else 1)


def test_lazy_tensors_are_computed_one_at_a_time(tmp_path: Path) -> None:
    model = from_proto(weighted())
    alive: list[int] = []
    most = 0

    def lazy(number: int) -> ir.LazyTensor:
        class Counted(ir.Tensor[np.ndarray]):
            def __init__(self) -> None:
                nonlocal most
                super().__init__(np.full(5000, number, np.float32))
                alive.append(number)
                most = max(most, len(alive))

            def __del__(self) -> None:
                alive.remove(number)

        return ir.LazyTensor(Counted, ir.DataType.FLOAT, ir.Shape([5000]), name=f"l{number}")

    for number in range(8):
        value = ir.Value(name=f"l{number}", const_value=lazy(number))
        model.graph.register_initializer(value)
    for external in (False, True):
        save(model, tmp_path / "a.onnx", external=external)
        assert most == 1 and not alive
        found = load(tmp_path / "a.onnx").graph.initializers
        assert [found[f"l{n}"].const_value.numpy()[0] for n in range(8)] == list(range(8))


def test_a_lazy_tensor_that_breaks_its_word_is_named(tmp_path: Path) -> None:
    model = from_proto(weighted())
    model.graph.initializers["w"].const_value = ir.LazyTensor(
        lambda: ir.tensor(np.zeros(7, np.float32)), ir.DataType.FLOAT, ir.Shape([5000]), name="w"
    )
    with pytest.raises(GraphoptError, match=r"tensor 'w': computed as FLOAT\[7\], declared as FLOAT\[5000\]"):
        save(model, tmp_path / "a.onnx")
    assert not list(tmp_path.iterdir())


def test_more_than_protobuf_can_hold_goes_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("graphopt.ir.save.PROTOBUF_LIMIT_BYTES", 10_000)
    save(from_proto(weighted()), tmp_path / "a.onnx")
    assert (tmp_path / "a.onnx.data").stat().st_size == 20000
    with pytest.raises(OutputError, match="at most 10,000"):
        save(from_proto(weighted()), tmp_path / "b.onnx", external=False)


def test_large_tensors_lie_on_pages(tmp_path: Path) -> None:
    proto = weighted(300_001)
    proto.graph.initializer.insert(0, numpy_helper.from_array(np.zeros(1001, np.int8), "odd"))
    proto.graph.initializer[0].raw_data = bytes(1025)
    proto.graph.initializer[0].dims[0] = 1025
    save(from_proto(proto), tmp_path / "a.onnx", external=True)
    places = {
        tensor.name: int(next(e.value for e in tensor.external_data if e.key == "offset"))
        for tensor in onnx.load(tmp_path / "a.onnx", load_external_data=False).graph.initializer
    }
    assert places == {"odd": 0, "w": 4096}


# --- nothing half-written ---


def no_space(*_: object, **__: object) -> int:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def interrupted(*_: object, **__: object) -> int:
    raise KeyboardInterrupt


def nth(number: int, original: Callable[..., object], failure: Callable[..., int]) -> Callable[..., object]:
    calls = 0

    def call(*args: object, **kwargs: object) -> object:
        nonlocal calls
        calls += 1
        return (failure if calls == number else original)(*args, **kwargs)

    return call


@pytest.mark.parametrize("failure", [no_space, interrupted])
@pytest.mark.parametrize("before", ["nothing", "a model"])
@pytest.mark.parametrize(
    ("function", "number"),
    [("write", 1), ("write", 2), ("fsync", 1), ("fsync", 2), ("replace", 1), ("replace", 2), ("open", 2)],
)
def test_nothing_half_written(
    failure: Callable[..., int],
    before: str,
    function: str,
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    path = tmp_path / "a.onnx"
    if before == "a model":
        save(from_proto(weighted(value=1.0)), path, external=True)
    files = {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()}
    model = from_proto(weighted(value=2.0))
    with monkeypatch.context() as patch:
        patch.setattr(os, function, nth(number, getattr(os, function), failure))
        with pytest.raises(OutputError if failure is no_space else KeyboardInterrupt):
            save(model, path, external=True)
    assert {entry.name: entry.read_bytes() for entry in tmp_path.iterdir()} == files
    save(model, path, external=True)
    assert load(path).graph.initializers["w"].const_value.numpy()[0] == 2


def test_data_file_comes_back_where_hard_links_are_not_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.onnx"
    save(from_proto(weighted(value=1.0)), path, external=True)
    monkeypatch.setattr(os, "link", no_space)
    monkeypatch.setattr(replacing.os, "replace", nth(2, os.replace, no_space))
    with pytest.raises(OutputError, match="No space left on device"):
        save(from_proto(weighted(value=2.0)), path, external=True)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["a.onnx", "a.onnx.data"]
    assert load(path).graph.initializers["w"].const_value.numpy()[0] == 1


LIMITED = """
import resource, sys
from graphopt.errors import OutputError
from graphopt.ir.load import load
from graphopt.ir.save import save

model = load(sys.argv[1])
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
try:
    save(model, sys.argv[2], external=sys.argv[3] == "True")
except OutputError as error:
    print(error)
"""


@pytest.mark.parametrize("external", [True, False])
def test_a_limit_of_the_system(external: bool, tmp_path: Path) -> None:
    save(from_proto(weighted(100_000)), tmp_path / "a.onnx", external=external)
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", LIMITED, tmp_path / "a.onnx", out / "b.onnx", str(external)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert (
        result.stdout.strip() == f"{out / 'b.onnx'}: can't be written: the file would be larger than allowed"
    )
    assert not list(out.iterdir())


INTERRUPTED = """
import os, signal, sys
from graphopt.ir.load import load
from graphopt.ir.save import save

model = load(sys.argv[1])
os.fsync = lambda file: os.kill(os.getpid(), signal.SIGINT)
save(model, sys.argv[2])
"""


def test_interrupt_from_outside(tmp_path: Path) -> None:
    save(from_proto(weighted()), tmp_path / "a.onnx")
    out = tmp_path / "out"
    out.mkdir()
    command = [sys.executable, "-c", INTERRUPTED, tmp_path / "a.onnx", out / "b.onnx"]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == -signal.SIGINT and "KeyboardInterrupt" in result.stderr
    assert not list(out.iterdir())


def test_targets_that_can_not_be(tmp_path: Path) -> None:
    model = from_proto(weighted())
    with pytest.raises(OutputError, match="there is no folder") as caught:
        save(model, tmp_path / "none" / "a.onnx")
    assert caught.value.exit_code == 5
    with pytest.raises(OutputError, match="is a folder"):
        save(model, tmp_path)
    with pytest.raises(OutputError, match="is not a regular file"):
        save(model, "/dev/null")
    for name in ("../up.bin", "sub/x.bin", "", ".."):
        with pytest.raises(OutputError, match="must be a plain name"):
            save(model, tmp_path / "a.onnx", external=name)
    with pytest.raises(OutputError, match="can't have the model's own name"):
        save(model, tmp_path / "a.onnx", external="a.onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may write anywhere")
def test_folder_without_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="Permission denied"):
        save(from_proto(weighted()), tmp_path / "a.onnx")


def test_permissions_are_kept_and_new_files_follow_the_umask(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    old = os.umask(0o027)
    try:
        save(from_proto(weighted()), path)
        assert path.stat().st_mode & 0o777 == 0o640
        path.chmod(0o604)
        save(from_proto(weighted()), path)
        assert path.stat().st_mode & 0o777 == 0o604
    finally:
        os.umask(old)


def test_a_link_is_replaced_and_not_followed(tmp_path: Path) -> None:
    save(from_proto(weighted(value=1.0)), tmp_path / "real.onnx")
    (tmp_path / "link.onnx").symlink_to("real.onnx")
    save(from_proto(weighted(value=2.0)), tmp_path / "link.onnx")
    assert not (tmp_path / "link.onnx").is_symlink()
    assert load(tmp_path / "real.onnx").graph.initializers["w"].const_value.numpy()[0] == 1


# --- the wire level ---


def test_outline_and_fill_are_inverse() -> None:
    contents = everything().SerializeToString()
    skeleton = protobuf.outline(memoryview(contents))
    assert len(skeleton) < len(contents) / 2
    references = onnx.ModelProto.FromString(skeleton)
    ranges = []
    for tensor in references.graph.initializer:
        entries = {entry.key: entry for entry in tensor.external_data}
        if entries:
            offset, length = int(entries["offset"].value), int(entries["length"].value)
            entries["offset"].value = str(len(ranges))
            ranges.append(contents[offset : offset + length])
    pieces, size = protobuf.fill(references.SerializeToString(), [len(part) for part in ranges])
    whole = b"".join(ranges[piece] if isinstance(piece, int) else piece for piece in pieces)
    assert len(whole) == size
    assert onnx.ModelProto.FromString(whole) == onnx.ModelProto.FromString(contents)


def test_the_mark_inside_a_text_does_no_harm(tmp_path: Path) -> None:
    proto = weighted()
    proto.doc_string = proto.graph.doc_string = protobuf.MARK
    proto.graph.node[0].name = protobuf.MARK
    save(from_proto(proto), tmp_path / "a.onnx")
    again = onnx.load(tmp_path / "a.onnx")
    assert again.doc_string == again.graph.node[0].name == protobuf.MARK
    assert_same_model(again, proto)
