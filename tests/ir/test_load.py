"""What load takes, and in which words it refuses the rest."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnx_ir as ir
import pytest
from onnx import TensorProto, helper, numpy_helper

from graphopt.errors import ModelError
from graphopt.ir.load import from_proto, load
from graphopt.ir.save import save
from graphopt.ir.storage import StoredTensor
from graphopt.ir.verifier import InvalidGraph

HEADER = '<ir_version: 9, opset_import: ["": 17]>\n'
FLOATS = helper.make_tensor_value_info


def parsed(text: str) -> onnx.ModelProto:
    return onnx.parser.parse_model(HEADER + text)


def valid() -> onnx.ModelProto:
    return parsed("g (float[2] x) => (float[2] y) { y = Relu(x) }")


def with_weight(array: np.ndarray, name: str = "w") -> onnx.ModelProto:
    shape = ",".join(map(str, array.shape))
    model = parsed(f"g (float[{shape}] x) => (float[{shape}] y) {{ y = Add(x, {name}) }}")
    model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def edited(edit: Callable[[onnx.ModelProto], object], model: onnx.ModelProto | None = None) -> bytes:
    model = model or valid()
    edit(model)
    return model.SerializeToString()


def external(folder: Path, size: int = 4096, **entries: str) -> bytes:
    """A model of 1024 floats whose weight lies in weights.bin of `size` bytes."""
    (folder / "weights.bin").write_bytes(bytes(size))
    model = with_weight(np.zeros(1024, np.float32))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in {"location": "weights.bin", **entries}.items():
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()


def symlinked(folder: Path) -> bytes:
    contents = external(folder)
    (folder / "weights.bin").unlink()
    (folder / "weights.bin").symlink_to("/etc/hostname")
    return contents


BODIES = """g (bool c, float[2] x) => (float[2] y) {
    y = If(c) <then_branch = a () => (float[2] p) { p = Relu(x) }, else_branch = b () => (float[2] q) { %s }>
}"""

BAD: dict[str, tuple[Callable[[Path], bytes], str]] = {
    "empty": (lambda _: b"", "is empty"),
    "text": (lambda _: b"not a model at all, only words", "not an ONNX model"),
    "zeros": (lambda _: bytes(64), "is not an ONNX model"),
    "another message": (lambda _: valid().graph.SerializeToString(), "not an ONNX model"),
    "truncated": (lambda _: valid().SerializeToString()[:-20], "is truncated"),
    "truncated weight": (
        lambda _: with_weight(np.zeros(9000, np.float32)).SerializeToString()[:20000],
        "is truncated",
    ),
    "unknown element type": (
        lambda _: edited(
            lambda m: setattr(m.graph.node[0].attribute[0].t, "data_type", -1),
            parsed("g () => (float[2] y) { y = Constant <value = float[2] {1, 2}> () }"),
        ),
        "has an unknown element type",
    ),
    "no IR version": (lambda _: edited(lambda m: m.ClearField("ir_version")), "is not an ONNX model"),
    "future IR version": (
        lambda _: edited(lambda m: setattr(m, "ir_version", 99)),
        "has IR version 99, newer",
    ),
    "no opset": (lambda _: edited(lambda m: m.ClearField("opset_import")), "imports no operator set"),
    "future opset": (
        lambda _: edited(lambda m: setattr(m.opset_import[0], "version", 99)),
        "imports opset 99 of ai.onnx; the newest supported is",
    ),
    "old opset": (
        lambda _: edited(lambda m: setattr(m.opset_import[0], "version", 6)),
        "imports opset 6 of ai.onnx; the oldest supported is 7",
    ),
    "two opsets": (
        lambda _: edited(lambda m: m.opset_import.add(domain="ai.onnx", version=11)),
        "imports operator set '' in two versions",
    ),
    "cycle": (
        lambda _: parsed(
            "g (float[2] x) => (float[2] y) { a = Add(x, c) b = Relu(a) c = Neg(b) y = Relu(c) }"
        ).SerializeToString(),
        "the graph has a cycle through node",
    ),
    "cycle through a body": (
        lambda _: parsed(
            """g (bool c, float[2] x) => (float[2] y) {
            y = If(c) <then_branch = a () => (float[2] p) { p = Relu(z) }, else_branch = b () => (float[2] q)
            { q = Neg(x) }> z = Neg(y) }"""
        ).SerializeToString(),
        "the graph has a cycle through node",
    ),
    "dangling": (
        lambda _: parsed("g (float[2] x) => (float[2] y) { y = Add(x, ghost) }").SerializeToString(),
        "(Add): uses value 'ghost', which nothing makes",
    ),
    "dangling in a body": (
        lambda _: parsed(BODIES % "q = Relu(ghost)").SerializeToString(),
        "(Relu): uses value 'ghost', which nothing makes",
    ),
    "value of a sister body": (
        lambda _: parsed(BODIES % "q = Relu(p)").SerializeToString(),
        "(Relu): uses value 'p', which nothing makes",
    ),
    "output of nobody": (
        lambda _: parsed("g (float[2] x) => (float[2] y) { z = Relu(x) }").SerializeToString(),
        "output 'y' of graph 'g' is made by nothing in it",
    ),
    "made twice": (
        lambda _: parsed("g (float[2] x) => (float[2] y) { y = Relu(x) y = Neg(x) }").SerializeToString(),
        "value 'y' is made twice, the second time by node",
    ),
    "made in a body again": (
        lambda _: parsed(
            """g (bool c, float[2] x) => (float[2] y) { p = Relu(x) t = If(c) <then_branch = a () =>
            (float[2] p) { p = Relu(x) }, else_branch = b () => (float[2] q) { q = Neg(x) }>
            y = Add(p, t) }"""
        ).SerializeToString(),
        "makes value 'p', a name that is already taken",
    ),
    "input twice": (
        lambda _: edited(lambda m: m.graph.input.append(m.graph.input[0])),
        "input 'x' is declared twice",
    ),
    "initializer twice": (
        lambda _: edited(
            lambda m: m.graph.initializer.append(m.graph.initializer[0]), with_weight(np.zeros(2, np.float32))
        ),
        "initializer 'w' is defined twice",
    ),
    "initializer without name": (
        lambda _: edited(lambda m: m.graph.initializer.add(data_type=1, dims=[0])),
        "has an initializer without a name",
    ),
    "sparse initializer": (
        lambda _: edited(lambda m: m.graph.sparse_initializer.add(values=TensorProto(name="s"))),
        "initializer 's': sparse tensors are not supported; store it dense",
    ),
    "sparse attribute": (
        lambda _: edited(
            lambda m: m.graph.node[0].attribute.add(name="v", type=onnx.AttributeProto.SPARSE_TENSOR)
        ),
        "sparse tensors are not supported",
    ),
    "training information": (lambda _: edited(lambda m: m.training_info.add()), "holds training information"),
    "map": (
        lambda _: edited(
            lambda m: m.graph.value_info.add(name="m").type.sequence_type.elem_type.map_type.SetInParent()
        ),
        "value 'm' is a map, which is not supported",
    ),
    "weight too short": (
        lambda _: edited(
            lambda m: setattr(m.graph.initializer[0], "raw_data", bytes(4)),
            with_weight(np.zeros(2, np.float32)),
        ),
        "tensor 'w': 4 bytes stored, 8 needed for FLOAT[2]",
    ),
    "large weight too long": (
        lambda _: edited(
            lambda m: setattr(m.graph.initializer[0], "raw_data", bytes(8000)),
            with_weight(np.zeros(1024, np.float32)),
        ),
        "tensor 'w': 8000 bytes stored, 4096 needed for FLOAT[1024]",
    ),
    "negative dim": (
        lambda _: edited(
            lambda m: m.graph.initializer[0].dims.append(-1), with_weight(np.zeros(2, np.float32))
        ),
        "tensor 'w': shape [2, -1] has a negative dim",
    ),
    "data missing": (
        lambda f: external(f, location="elsewhere.bin"),
        "tensor 'w': external data 'elsewhere.bin' is missing; put it beside the model",
    ),
    "data truncated": (
        lambda f: external(f, 4000),
        "bytes 0 to 4096 are outside of external data 'weights.bin', which has 4000",
    ),
    "data beyond its end": (
        lambda f: external(f, offset="8", length="4096"),
        "bytes 8 to 4104 are outside of external data",
    ),
    "data before its start": (
        lambda f: external(f, offset="-8"),
        "offset must be non-negative, got -8",
    ),
    "data of another length": (
        lambda f: external(f, length="4095"),
        "tensor 'w': 4095 bytes stored, 4096 needed for FLOAT[1024]",
    ),
    "data of no number": (lambda f: external(f, offset="many"), "can't be taken: invalid literal for int()"),
    "data without name": (lambda f: external(f, location=""), "external data '' has no usable name"),
    "data absolute": (
        lambda f: external(f, location="/etc/hostname"),
        "external data '/etc/hostname' points outside of the model's folder",
    ),
    "data above": (
        lambda f: external(f, location="../weights.bin"),
        "external data '../weights.bin' points outside of the model's folder",
    ),
    "data above by detour": (
        lambda f: external(f, location="a/../../weights.bin"),
        "points outside of the model's folder",
    ),
    "data through a link": (
        symlinked,
        "external data 'weights.bin' points outside of the model's folder (to",
    ),
    "data is a folder": (lambda f: external(f, location="."), "points outside of the model's folder"),
}


@pytest.mark.parametrize("case", BAD)
def test_refuses(case: str, tmp_path: Path) -> None:
    contents, message = BAD[case]
    path = tmp_path / "model.onnx"
    path.write_bytes(contents(tmp_path))
    with pytest.raises(ModelError) as caught:
        load(path)
    text = str(caught.value)
    assert text.startswith(f"{path}: ") and message in text
    assert "\n" not in text and len(text) < 400
    assert caught.value.exit_code == 3


def test_refuses_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file"):
        load(tmp_path / "none.onnx")
    with pytest.raises(ModelError, match="is a folder, not a model"):
        load(tmp_path)
    with pytest.raises(ModelError, match="is not a regular file"):
        load("/dev/null")


def test_structural_faults_are_typed(tmp_path: Path) -> None:
    with pytest.raises(InvalidGraph) as caught:
        from_proto(parsed("g (float[2] x) => (float[2] y) { [last] y = Add(x, ghost) }"))
    assert (caught.value.node, caught.value.value) == ("last", "ghost")


@pytest.mark.parametrize("cut", range(0, 400, 7))
def test_any_prefix_is_refused_in_one_line(cut: int, tmp_path: Path) -> None:
    whole = with_weight(np.ones(64, np.float32)).SerializeToString()
    path = tmp_path / "m.onnx"
    path.write_bytes(whole[: min(cut, len(whole) - 1)])
    with pytest.raises(ModelError):
        load(path)


def test_sorts_nodes_that_are_out_of_order() -> None:
    model = from_proto(parsed("g (float[2] x) => (float[2] y) { y = Neg(b) b = Relu(a) a = Abs(x) }"))
    assert [node.op_type for node in model.graph] == ["Abs", "Relu", "Neg"]


def test_sorts_by_what_bodies_capture() -> None:
    model = from_proto(
        parsed(
            """g (bool c, float[2] x) => (float[2] y) { y = If(c) <then_branch = a () => (float[2] p)
            { p = Relu(z) }, else_branch = b () => (float[2] q) { q = Neg(x) }> z = Abs(x) }"""
        )
    )
    assert [node.op_type for node in model.graph] == ["Abs", "If"]


def test_alias_of_the_standard_domain() -> None:
    proto = valid()
    proto.opset_import[0].domain = "ai.onnx"
    proto.graph.node[0].domain = "ai.onnx"
    model = from_proto(proto)
    assert model.graph.opset_imports == {"": 17}
    assert model.graph[0].domain == ""


def test_custom_operators_are_taken(tmp_path: Path) -> None:
    proto = parsed("g (float[2] x) => (float[2] y) { y = acme.Spin <speed = 3> (x) }")
    proto.opset_import.add(domain="acme", version=1)
    assert from_proto(proto).graph[0].op_type == "Spin"


@pytest.mark.filterwarnings("ignore:The onnxtxt format is experimental")
@pytest.mark.parametrize("format_name", ["onnxtxt", "textproto", "json"])
def test_reads_text_formats(format_name: str, tmp_path: Path) -> None:
    path = tmp_path / f"m.{format_name}"
    onnx.save(with_weight(np.arange(3, dtype=np.float32)), path, format=format_name)
    model = load(path)
    np.testing.assert_array_equal(model.graph.initializers["w"].const_value.numpy(), [0, 1, 2])
    path.write_text("{ no such thing")
    with pytest.raises(ModelError, match=f"is not a model in format {format_name}"):
        load(path)


def test_large_weights_stay_in_the_file(tmp_path: Path) -> None:
    array = np.random.default_rng(0).standard_normal((40, 30)).astype(np.float32)
    path = tmp_path / "m.onnx"
    onnx.save(with_weight(array), path)
    tensor = load(path).graph.initializers["w"].const_value
    assert isinstance(tensor, StoredTensor)
    np.testing.assert_array_equal(tensor.numpy(), array)
    assert tensor.numpy().flags.aligned
    assert tensor.tobytes() == array.tobytes()
    np.testing.assert_array_equal(np.asarray(tensor, np.float64), array.astype(np.float64))


def test_weights_in_bodies_functions_and_attributes_stay_in_the_file(tmp_path: Path) -> None:
    proto = parsed(BODIES % "q = Constant <value = float[2] {1, 2}> ()")
    big = numpy_helper.from_array(np.arange(2000, dtype=np.float32), "")
    proto.graph.node[0].attribute[1].g.node[0].attribute[0].t.CopyFrom(big)
    proto.graph.node[0].attribute[0].g.initializer.append(
        numpy_helper.from_array(np.arange(3000, dtype=np.int64), "inner")
    )
    path = tmp_path / "m.onnx"
    path.write_bytes(proto.SerializeToString())
    bodies = {name: attribute.as_graph() for name, attribute in load(path).graph[0].attributes.items()}
    inner = bodies["then_branch"].initializers["inner"].const_value
    constant = bodies["else_branch"][0].attributes["value"].as_tensor()
    assert isinstance(inner, StoredTensor) and isinstance(constant, StoredTensor)
    assert inner.numpy()[-1] == 2999 and constant.numpy()[-1] == 1999


@pytest.mark.parametrize("through", ["folder", "files"])
def test_data_beside_a_linked_model(through: str, tmp_path: Path) -> None:
    """A cache of downloads links both files into a folder of their names."""
    store, view = tmp_path / "store", tmp_path / "view"
    store.mkdir()
    (store / "m.onnx").write_bytes(external(store))
    if through == "folder":
        view.symlink_to(store)
    else:
        view.mkdir()
        for name in ("m.onnx", "weights.bin"):
            (view / name).symlink_to(store / name)
    assert load(view / "m.onnx").graph.initializers["w"].const_value.nbytes == 4096


def test_model_in_memory_with_data_in_a_folder(tmp_path: Path) -> None:
    proto = onnx.ModelProto.FromString(external(tmp_path))
    assert from_proto(proto, tmp_path).graph.initializers["w"].const_value.numpy().sum() == 0
    with pytest.raises(ModelError, match="can't be found for a model in memory"):
        from_proto(proto)


MEMORY = """
import resource, sys, time
from graphopt.ir.load import load
from graphopt.ir.save import save
import numpy, onnx_ir

def anonymous():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("RssAnon"))

before = anonymous()
model = load(sys.argv[1])
save(model, sys.argv[2])
print(anonymous() - before)
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="needs Linux's account of memory")
@pytest.mark.parametrize("kind", ["external", "inline"])
def test_round_trip_takes_no_memory_for_weights(kind: str, tmp_path: Path) -> None:
    """200 MiB of weights cost under 20 MiB, in the model file (mapped from 128 MiB on) or beside it."""
    count = (200 << 20) // 4
    model = ir.from_proto(parsed(f"g (float[{count}] x) => (float[{count}] y) {{ y = Add(x, w) }}"))
    weight = next(value for value in model.graph[0].inputs if value.name == "w")
    weight.const_value = ir.tensor(np.arange(count, dtype=np.float32), name="w")
    model.graph.register_initializer(weight)
    save(model, tmp_path / "m.onnx", external=kind == "external")
    result = subprocess.run(
        [sys.executable, "-c", MEMORY, tmp_path / "m.onnx", tmp_path / "n.onnx"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert int(result.stdout) < 20 << 10
    copied = load(tmp_path / "n.onnx").graph.initializers["w"].const_value
    assert isinstance(copied, StoredTensor) and copied.numpy()[-1] == count - 1
