"""Write a model so that it is there as a whole or not at all.

Files are written under temporary names in the target's folder, flushed to the disk and renamed; whatever
goes wrong before that leaves the folder as it was. Tensors are written one after the other, each from where
it lies: stored ones are copied between files by the kernel, lazy ones computed when their turn comes and
forgotten again.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, MutableMapping, Sequence
from contextlib import contextmanager
from functools import partial

import numpy as np
import onnx
import onnx_ir as ir

from graphopt.errors import GraphoptError, OutputError
from graphopt.ir import lazy, protobuf, scopes
from graphopt.ir.load import EXTERNAL_DATA_KEY
from graphopt.ir.replacing import Replacement
from graphopt.ir.storage import StoredTensor

PROTOBUF_LIMIT_BYTES = (1 << 31) - 1
"""Readers refuse a larger message; weights then go to a file of their own."""

_PAGE_BYTES = 4096
_LARGE_BYTES = 1 << 20
_ALIGNMENT_BYTES = 64  # a cache line; the widest vector load


def save(model: ir.Model, path: str | os.PathLike[str], *, external: bool | str | None = None) -> None:
    """Write `model` to `path`, atomically, over an existing file if there is one.

    The model itself is not changed, and stays usable even when `path` is the file it was loaded from. If
    `path` is a symbolic link, the link is replaced, not the file behind it.

    Args:
        model: The model to write.
        path: The model file.
        external: Whether large tensors go to one file beside it: True (`path` + ".data"), a name for that
            file, or False. None: where the model came with external data, or would pass 2 GiB.

    Raises:
        OutputError: It can't be written; nothing was changed on disk.
    """
    target = os.fspath(path)
    if external is None:
        external = has_external_data(model)
        decided = bool(external)
    else:
        decided = True
    check_target(target)
    with references(model) as (skeleton, tensors):
        sizes = [tensor.nbytes for tensor in tensors]
        pieces, size = protobuf.fill(skeleton, sizes) if not external else ([], 0)
        if size > PROTOBUF_LIMIT_BYTES:
            if decided:
                raise OutputError(
                    f"{target}: the model has {size:,} bytes, and a file without external data at most "
                    f"{PROTOBUF_LIMIT_BYTES:,}"
                )
            external = True
        data_name = _data_name(target, external)
        try:
            with Replacement() as files:
                if data_name is None:
                    file = files.create(target)
                    _write_pieces(file, pieces, tensors)
                else:
                    places = _Layout(tensors)
                    if places.size:
                        data = files.create(os.path.join(os.path.dirname(target), data_name))
                        places.write(data, tensors)
                    file = files.create(target)
                    _write_all(file, _with_external(skeleton, data_name, places))
                files.commit()
        except OSError as error:
            raise OutputError(f"{target}: can't be written: {_reason(error)}") from error


def has_external_data(model: ir.Model) -> bool:
    """Whether the model came with external data, or holds tensors of such a file."""
    return bool(model.meta.get(EXTERNAL_DATA_KEY)) or any(
        _is_external(value.const_value)
        for graph in scopes.all_graphs(model)
        for value in graph.initializers.values()
    )


def _is_external(tensor: ir.TensorProtocol | None) -> bool:
    if isinstance(tensor, StoredTensor):
        return tensor.raw.source.external
    return isinstance(tensor, ir.ExternalTensor)


def check_target(target: str) -> None:
    """Make sure that a file can be written there, before work is spent on what goes into it.

    Raises:
        OutputError: It can't be.
    """
    folder = os.path.dirname(target) or "."
    if not os.path.isdir(folder):
        raise OutputError(f"{target}: there is no folder '{folder}'", hint="create it first")
    if not os.access(folder, os.W_OK):
        raise OutputError(f"{target}: the folder '{folder}' can't be written")
    try:
        mode = os.stat(target).st_mode
    except OSError:
        return
    if stat.S_ISDIR(mode):
        raise OutputError(f"{target}: is a folder", hint="name a file")
    if not stat.S_ISREG(mode):
        raise OutputError(f"{target}: is not a regular file", hint="name a file")


def _data_name(target: str, external: bool | str) -> str | None:
    if external is False:
        return None
    if external is True:
        return os.path.basename(target) + ".data"
    if os.path.basename(external) != external or external in ("", os.curdir, os.pardir):
        raise OutputError(f"{target}: external data '{external}' must be a plain name in the model's folder")
    if external == os.path.basename(target):
        raise OutputError(f"{target}: external data can't have the model's own name")
    return external


def _reason(error: OSError) -> str:
    if error.errno == errno.EFBIG:
        return "the file would be larger than allowed"
    return error.strerror or str(error)


@contextmanager
def references(model: ir.Model) -> Iterator[tuple[bytes, list[ir.TensorProtocol]]]:
    """Serialize the model with its large tensors replaced by numbered references.

    onnx_ir's serializer asks each tensor for its bytes, so it must meet small stand-ins; the model gets its
    own tensors back before anything is written.
    """
    tensors: list[ir.TensorProtocol] = []
    undo: list[Callable[[], None]] = []
    try:
        for graph in scopes.all_graphs(model):
            for value in graph.initializers.values():
                tensor = value.const_value
                if tensor is not None and _is_large(tensor):
                    undo.append(partial(setattr, value, "const_value", tensor))
                    value.const_value = _stand_in(tensor, tensors)
            for node in graph:
                _replace_attributes(node.attributes, tensors, undo)
        for function in model.functions.values():
            _replace_attributes(function.attributes, tensors, undo)
        proto = ir.to_proto(model)
    finally:
        for restore in reversed(undo):
            restore()
    _drop_repeated_types(proto.graph)
    yield proto.SerializeToString(), tensors


def _replace_attributes(
    attributes: MutableMapping[str, ir.Attr],
    tensors: list[ir.TensorProtocol],
    undo: list[Callable[[], None]],
) -> None:
    for attribute in list(attributes.values()):
        if attribute.is_ref() or attribute.type != ir.AttributeType.TENSOR or attribute.value is None:
            continue
        tensor = attribute.as_tensor()
        if _is_large(tensor):
            undo.append(partial(attributes.__setitem__, attribute.name, attribute))
            stand_in = _stand_in(tensor, tensors)
            attributes[attribute.name] = ir.AttrTensor(
                attribute.name, stand_in, doc_string=attribute.doc_string
            )


def _is_large(tensor: ir.TensorProtocol) -> bool:
    # An external tensor that was not loaded by us refers to a path: its bytes are written, not the reference.
    if tensor.dtype == ir.DataType.STRING:
        return False
    return tensor.nbytes >= protobuf.LIMIT_BYTES or isinstance(tensor, ir.ExternalTensor)


def _stand_in(tensor: ir.TensorProtocol, tensors: list[ir.TensorProtocol]) -> ir.ExternalTensor:
    tensors.append(tensor)
    return ir.ExternalTensor(
        protobuf.MARK,
        len(tensors) - 1,
        tensor.nbytes,
        tensor.dtype,
        shape=ir.Shape(tensor.shape.numpy()),
        name=tensor.name or "",
        doc_string=tensor.doc_string,
        metadata_props=dict(tensor.metadata_props) or None,
    )


def _drop_repeated_types(graph: onnx.GraphProto) -> None:
    """Drop the value infos that onnx_ir writes for initializers: they repeat the tensor's own type."""
    pending = [graph]
    while pending:
        current = pending.pop()
        names = {tensor.name for tensor in current.initializer}
        kept = [
            info
            for info in current.value_info
            if info.name not in names or info.doc_string or len(info.metadata_props)
        ]
        if len(kept) != len(current.value_info):
            del current.value_info[:]
            current.value_info.extend(kept)
        for node in current.node:
            for attribute in node.attribute:
                if attribute.type == onnx.AttributeProto.GRAPH:
                    pending.append(attribute.g)
                elif attribute.type == onnx.AttributeProto.GRAPHS:
                    pending.extend(attribute.graphs)


class _Layout:
    """Where each tensor goes in the external data file; tensors that share their bytes share a place."""

    def __init__(self, tensors: Sequence[ir.TensorProtocol]) -> None:
        self.offsets: list[int] = []
        self.lengths = [tensor.nbytes for tensor in tensors]
        self.size = 0
        self._owners: list[int] = []
        known: dict[tuple[int, int, int], int] = {}
        for number, tensor in enumerate(tensors):
            place = tensor.raw.place if isinstance(tensor, StoredTensor) else (id(tensor), -1, -1)
            if place in known:
                self.offsets.append(known[place])
                continue
            # Mapped directly by runtimes: a large tensor starts on a page, any other on a cache line.
            unit = _PAGE_BYTES if self.lengths[number] >= _LARGE_BYTES else _ALIGNMENT_BYTES
            offset = -(-self.size // unit) * unit
            known[place] = offset
            self.offsets.append(offset)
            self._owners.append(number)
            self.size = offset + self.lengths[number]

    def write(self, file: int, tensors: Sequence[ir.TensorProtocol]) -> None:
        at = 0
        for number in self._owners:
            _write_all(file, bytes(self.offsets[number] - at))
            _write_tensor(file, tensors[number])
            at = self.offsets[number] + self.lengths[number]


def _with_external(skeleton: bytes, data_name: str, places: _Layout) -> bytes:
    """Turn numbered references into references to the data file."""
    model = onnx.ModelProto.FromString(skeleton)
    pending: list[onnx.GraphProto] = [model.graph]
    nodes: list[onnx.NodeProto] = [node for function in model.functions for node in function.node]
    tensors: list[onnx.TensorProto] = []
    for function in model.functions:
        tensors += [attribute.t for attribute in function.attribute_proto if attribute.HasField("t")]
    while pending or nodes:
        if pending:
            graph = pending.pop()
            tensors += graph.initializer
            nodes += graph.node
            continue
        for attribute in nodes.pop().attribute:
            if attribute.HasField("t"):
                tensors.append(attribute.t)
            elif attribute.HasField("g"):
                pending.append(attribute.g)
            pending += attribute.graphs
    for tensor in tensors:
        entries = {entry.key: entry for entry in tensor.external_data}
        if "location" in entries and entries["location"].value == protobuf.MARK:
            number = int(entries["offset"].value)
            entries["location"].value = data_name
            entries["offset"].value = str(places.offsets[number])
    serialized: bytes = model.SerializeToString()
    return serialized


def _write_pieces(file: int, pieces: Sequence[bytes | int], tensors: Sequence[ir.TensorProtocol]) -> None:
    for piece in pieces:
        if isinstance(piece, int):
            _write_tensor(file, tensors[piece])
        else:
            _write_all(file, piece)


def _write_tensor(file: int, tensor: ir.TensorProtocol) -> None:
    expected = tensor.nbytes
    if isinstance(tensor, lazy.Transposed) and tensor.dtype.bitwidth >= 8 and sys.byteorder == "little":
        for piece in tensor.pieces():
            _write_all(file, piece.reshape(-1).view(np.uint8).data)
        return
    if isinstance(tensor, ir.LazyTensor):
        computed = tensor.raw()
        if (computed.dtype, computed.shape.numpy()) != (tensor.dtype, tensor.shape.numpy()):
            raise GraphoptError(
                f"tensor '{tensor.name}': computed as {computed.dtype}{list(computed.shape.numpy())}, "
                f"declared as {tensor.dtype}{list(tensor.shape.numpy())}",
                value=tensor.name,
            )
        tensor = computed
    if isinstance(tensor, StoredTensor):
        _copy(file, tensor)
        return
    contents = memoryview(_contents(tensor))
    if contents.nbytes != expected:
        raise GraphoptError(
            f"tensor '{tensor.name}': {contents.nbytes} bytes, {expected} declared", value=tensor.name
        )
    _write_all(file, contents)


def _contents(tensor: ir.TensorProtocol) -> memoryview | bytes:
    """The little-endian bytes of a tensor, without a copy where it is an ordinary array."""
    if tensor.dtype.bitwidth >= 8 and type(tensor) is ir.Tensor:
        array = tensor.numpy()
        little = array.dtype.newbyteorder("<")
        if array.flags.c_contiguous and array.dtype == little and array.size:
            return array.reshape(-1).view(np.uint8).data
    return tensor.tobytes()


def _copy(file: int, tensor: StoredTensor) -> None:
    """Copy the bytes of a stored tensor, inside the kernel where it can."""
    stored = tensor.raw
    done = 0
    descriptor = stored.source.descriptor
    if descriptor is not None and hasattr(os, "copy_file_range"):
        try:
            while done < stored.length:
                count = os.copy_file_range(
                    descriptor, file, stored.length - done, offset_src=stored.offset + done
                )
                if not count:
                    break
                done += count
        except OSError as error:  # not between these two file systems, or not in this kernel: the long way
            if error.errno not in (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM):
                raise
    if done < stored.length:
        _write_all(file, stored.view()[done:])


def _write_all(file: int, contents: bytes | memoryview) -> None:
    left = memoryview(contents).cast("B")
    while left:
        left = left[os.write(file, left[: 64 << 20]) :]
