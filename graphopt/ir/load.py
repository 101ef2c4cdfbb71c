"""Read a model; weights stay in their files until somebody asks for them."""

from __future__ import annotations

import math
import os
import stat
from collections.abc import Callable, MutableMapping

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.errors import ModelError
from graphopt.ir import order, protobuf, scopes
from graphopt.ir.load_checks import OLDEST_OPSET, check_model
from graphopt.ir.storage import Source, StoredBytes, StoredTensor, checked_shape
from graphopt.ir.verifier import verify_structure

EXTERNAL_DATA_KEY = "graphopt.external_data"
"""Key in `model.meta`: the model came with external data, and is saved with it again."""

_TEXT_FORMATS = {
    ".onnxtxt": "onnxtxt",
    ".onnxtext": "onnxtxt",
    ".textproto": "textproto",
    ".prototxt": "textproto",
    ".pbtxt": "textproto",
    ".json": "json",
    ".onnxjson": "json",
}

_ELEMENT_TYPES = frozenset(dtype.value for dtype in ir.DataType)


def load(path: str | os.PathLike[str], oldest_opset: int = OLDEST_OPSET) -> ir.Model:
    """Read the model at `path`, whose nodes come out in topological order.

    The file's ending chooses the format: `.onnxtxt`, `.textproto` and `.json` are ONNX's text formats, all
    else is protobuf. Large tensors are `StoredTensor`s; external data must lie in the model's folder. Files
    may be replaced on disk while the model is in memory, but not changed in place.

    Args:
        path: The file.
        oldest_opset: The oldest version of the standard operators that is taken.

    Raises:
        ModelError: The model can't be taken; the message says why (`InvalidGraph`: its structure is wrong).
    """
    name = os.fspath(path)
    try:
        source = _open(name)
        return _model(_parse(name, source), _Binder(name, source), oldest_opset)
    except ModelError as error:
        raise type(error)(
            f"{name}: {error.args[0]}", node=error.node, value=error.value, hint=error.hint
        ) from error.__cause__


def from_proto(
    proto: onnx.ModelProto,
    folder: str | os.PathLike[str] | None = None,
    oldest_opset: int = OLDEST_OPSET,
) -> ir.Model:
    """Take a model that is in memory, with the same checks as `load`.

    Args:
        proto: The model; it is shared, not copied.
        folder: Where its external data lies; None: it has none.
        oldest_opset: The oldest version of the standard operators that is taken.

    Raises:
        ModelError: As `load`.
    """
    binder = _Binder(None if folder is None else os.path.join(os.fspath(folder), ""), None)
    return _model(proto, binder, oldest_opset)


def _model(proto: onnx.ModelProto, binder: _Binder, oldest_opset: int) -> ir.Model:
    check_model(proto, oldest_opset)
    model = _deserialize(proto)
    binder.bind(model)
    if "ai.onnx" in model.graph.opset_imports:  # an alias of "" that half of the tools do not know
        model.graph.opset_imports.setdefault("", model.graph.opset_imports.pop("ai.onnx"))
    for graph in (model.graph, *(function.graph for function in model.functions.values())):
        order.sort(graph)  # runtimes take files in any order, the standard does not
    verify_structure(model)
    return model


def _open(name: str) -> Source:
    try:
        mode = os.stat(name).st_mode
        if stat.S_ISDIR(mode):
            raise ModelError("is a folder, not a model")
        if not stat.S_ISREG(mode):
            raise ModelError("is not a regular file", hint="copy the model to a file first")
        source = Source(name, external=False)
    except FileNotFoundError:
        raise ModelError("no such file") from None
    except OSError as error:
        raise ModelError(f"can't be read: {error.strerror}") from error
    if not source.size:
        raise ModelError("is empty")
    return source


def _parse(name: str, source: Source) -> onnx.ModelProto:
    whole = source.view(0, source.size)
    text_format = _TEXT_FORMATS.get(os.path.splitext(name)[1].lower())
    if text_format is not None:
        try:
            return onnx.load_model_from_string(bytes(whole), format=text_format)
        except Exception as error:  # each format has its own family of errors
            raise ModelError(f"is not a model in format {text_format}: {_first_line(error)}") from error
    try:
        proto = onnx.ModelProto()
        proto.ParseFromString(protobuf.outline(whole))
        return proto
    except protobuf.TruncatedError as error:
        raise ModelError(f"is truncated, or not an ONNX model: {error}") from error
    except Exception as error:  # protobuf's own DecodeError comes without types
        raise ModelError(f"is not an ONNX model: {_first_line(error)}") from error


def _deserialize(proto: onnx.ModelProto) -> ir.Model:
    try:
        return ir.from_proto(proto)
    except Exception as error:  # onnx_ir wraps its errors level by level: the innermost says what is wrong
        root: BaseException = error
        while (
            inner := root.__cause__ or (root.__context__ if isinstance(root, TypeError) else None)
        ) is not None:
            root = inner  # a TypeError comes from onnx_ir's own report of what it was doing
        raise ModelError(f"can't be taken: {_first_line(root)}") from error


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


class _Binder:
    """Replaces references to bytes in files by tensors that hold the open file, and checks all sizes."""

    def __init__(self, model_path: str | None, model_source: Source | None) -> None:
        self._sources: dict[str, Source] = {}
        if model_source is not None:
            self._sources[protobuf.MARK] = model_source
        self._folder = None if model_path is None else os.path.dirname(model_path) or "."
        if model_path is None or self._folder is None:
            return
        # A cache of downloads keeps model and data side by side under other names, with links to both from a
        # folder of the right names: beside the real model is as good as beside the link to it.
        self._roots = [os.path.realpath(self._folder), os.path.dirname(os.path.realpath(model_path))]

    def bind(self, model: ir.Model) -> None:
        for graph in scopes.all_graphs(model):
            for value in graph.initializers.values():
                if value.const_value is not None:
                    value.const_value = self._bound(value.const_value)
            for node in graph:
                self._bind_attributes(node.attributes.data)
        for function in model.functions.values():
            self._bind_attributes(function.attributes)
        if any(source.external for source in self._sources.values()):
            model.meta[EXTERNAL_DATA_KEY] = True

    def _bind_attributes(self, attributes: MutableMapping[str, ir.Attr]) -> None:
        changed: list[ir.Attr] = []
        for attribute in attributes.values():
            held = attribute.value
            if held is None:
                continue
            if attribute.type is ir.AttributeType.TENSOR:
                bound = self._bound(held)
                if bound is not held:
                    changed.append(ir.AttrTensor(attribute.name, bound, doc_string=attribute.doc_string))
            elif attribute.type is ir.AttributeType.TENSORS:
                tensors = [self._bound(tensor) for tensor in held]
                changed.append(ir.AttrTensors(attribute.name, tensors, doc_string=attribute.doc_string))
        for attribute in changed:
            attributes[attribute.name] = attribute

    def _bound(self, tensor: ir.TensorProtocol) -> ir.TensorProtocol:
        if isinstance(tensor, ir.serde.TensorProtoTensor):
            _check_contents(tensor.raw)
            return _decoded(tensor)
        if isinstance(tensor, ir.ExternalTensor):
            return self._stored(tensor)
        if isinstance(tensor, ir.StringTensor):
            shape = checked_shape(tensor.shape.numpy(), tensor.name or "")
            if len(tensor.string_data()) != math.prod(shape):
                raise ModelError(
                    f"tensor '{tensor.name}': {len(tensor.string_data())} strings for shape {list(shape)}",
                    value=tensor.name,
                )
        return tensor

    def _stored(self, tensor: ir.ExternalTensor) -> StoredTensor:
        name = tensor.name
        shape = checked_shape(tensor.shape.numpy(), name)
        location = os.fspath(tensor.location)
        if tensor.dtype in (ir.DataType.STRING, ir.DataType.UNDEFINED):
            raise ModelError(f"tensor '{name}': external data can't hold {tensor.dtype}", value=name)
        source = self._source(location, name)
        offset = tensor.offset or 0
        stored = StoredBytes(source, offset, tensor.dtype, shape)
        length = stored.length if tensor.length is None else tensor.length
        if length != stored.length:
            raise ModelError(
                f"tensor '{name}': {length} bytes stored, {stored.length} needed for "
                f"{tensor.dtype}{list(stored.shape)}",
                value=name,
            )
        if offset < 0 or offset + length > source.size:
            raise ModelError(
                f"tensor '{name}': bytes {offset} to {offset + length} are outside of external data "
                f"'{location}', which has {source.size}",
                value=name,
                hint="the file is incomplete: fetch or export it again",
            )
        return StoredTensor(
            stored,
            name=name,
            doc_string=tensor.doc_string,
            metadata_props=dict(tensor.metadata_props) or None,
        )

    def _source(self, location: str, tensor: str) -> Source:
        known = self._sources.get(location)
        if known is not None:
            return known
        where = f"tensor '{tensor}': external data '{location}'"

        def refuse(reason: str, hint: str | None = None) -> ModelError:
            return ModelError(f"{where} {reason}", value=tensor, hint=hint)

        path = self._inside(location, refuse)
        try:
            if not stat.S_ISREG(os.stat(path).st_mode):
                raise refuse("is not a regular file")
            source = Source(path, external=True)
        except FileNotFoundError:
            raise refuse("is missing", "put it beside the model") from None
        except OSError as error:
            raise refuse(f"can't be read: {error.strerror}") from error
        self._sources[location] = source
        return source

    def _inside(self, location: str, refuse: Callable[..., ModelError]) -> str:
        """Return the real path of `location`, which must lie in the model's folder."""
        if self._folder is None:
            raise refuse("can't be found for a model in memory", "give the folder, or load the file")
        outside = "points outside of the model's folder"
        hint = "put the data in the model's folder"
        normal = os.path.normpath(location)
        if not location or "\0" in location:
            raise refuse("has no usable name")
        if os.path.isabs(normal) or normal.split(os.sep)[0] == os.pardir:
            raise refuse(outside, hint)
        path = os.path.realpath(os.path.join(self._folder, normal))
        if not any(path.startswith(os.path.join(root, "")) for root in self._roots):
            raise refuse(f"{outside} (to '{path}')", hint)
        return path


def _decoded(tensor: ir.serde.TensorProtoTensor) -> ir.TensorProtocol:
    """The tensor with its array made once: a protobuf message is decoded anew for every look at it."""
    proto, dtype = tensor.raw, tensor.dtype
    if not proto.HasField("raw_data") or dtype.bitwidth < 8:
        return tensor
    shape = tuple(proto.dims)
    array = np.frombuffer(proto.raw_data, dtype.numpy().newbyteorder("<")).reshape(shape)
    return ir.Tensor(
        array,
        dtype,
        shape=ir.Shape(shape),
        name=tensor.name,
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props) or None,
    )


def _check_contents(proto: onnx.TensorProto) -> None:
    """Check that a tensor inside the model has as much data as its shape says."""
    shape = checked_shape(proto.dims, proto.name)
    if proto.HasField("segment"):
        raise ModelError(f"tensor '{proto.name}': segments are not supported", value=proto.name)
    if proto.data_type == ir.DataType.UNDEFINED:
        raise ModelError(f"tensor '{proto.name}' has no element type", value=proto.name)
    if proto.data_type not in _ELEMENT_TYPES:
        raise ModelError(f"tensor '{proto.name}' has an unknown element type", value=proto.name)
    dtype = ir.DataType(proto.data_type)
    size = math.prod(shape)
    if proto.HasField("raw_data"):
        found, needed, unit = len(proto.raw_data), (size * dtype.bitwidth + 7) // 8, "bytes"
    else:
        found = len(getattr(proto, onnx.helper.tensor_dtype_to_field(proto.data_type)))
        needed, unit = size, "elements"
        if dtype in (ir.DataType.COMPLEX64, ir.DataType.COMPLEX128):
            needed *= 2
        elif dtype.bitwidth in (2, 4):
            needed = (size * dtype.bitwidth + 7) // 8  # an element of the field holds one packed byte
    if found != needed:
        raise ModelError(
            f"tensor '{proto.name}': {found} {unit} stored, {needed} needed for {dtype}{list(shape)}",
            value=proto.name,
        )
