"""Take large tensors out of a serialized model, and put them back in, without parsing them.

A model file is one protobuf message with the weights in the middle of it. Parsing it whole copies every
weight and fails above 2 GiB. So the reader cuts each large `raw_data` out on the wire level and leaves an
external-data reference to its place in the file; the writer does the reverse:

    model bytes  --outline-->  small skeleton + (offset, length) of each tensor
    skeleton with numbered references  --fill-->  pieces of bytes, and between them the numbers of the tensors

Only messages that can hold a tensor are entered, and of those only the large ones: the work grows with the
number of nodes, not with the bytes of the weights.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

import onnx

MARK = "graphopt:this-file"
"""Location in an outlined tensor's reference: its bytes lie in the model file itself."""

LIMIT_BYTES = 1024
"""Tensors from this size on are taken out; a reference costs about 100 bytes, a small copy nothing."""

_MAX_DEPTH = 100  # protobuf's own limit of nesting: what is deeper it refuses anyway

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

_TENSOR_FIELDS = onnx.TensorProto.DESCRIPTOR.fields_by_name
_RAW_DATA = _TENSOR_FIELDS["raw_data"].number
_EXTERNAL_DATA = _TENSOR_FIELDS["external_data"].number
_DATA_LOCATION = _TENSOR_FIELDS["data_location"].number
_RAW_DATA_TAG = _RAW_DATA << 3 | _BYTES

_HOLDERS = {
    "ModelProto": ("graph", "functions"),
    "GraphProto": ("node", "initializer"),
    "NodeProto": ("attribute",),
    "AttributeProto": ("t", "g", "tensors", "graphs"),
    "FunctionProto": ("node", "attribute_proto"),
}
_NESTED: dict[str, dict[int, str]] = {
    message: {
        field.number: field.message_type.name
        for field in map(getattr(onnx, message).DESCRIPTOR.fields_by_name.__getitem__, fields)
    }
    for message, fields in _HOLDERS.items()
}


class MalformedError(ValueError):
    """The bytes are not a serialized message."""


class TruncatedError(MalformedError):
    """A field reaches beyond the end of the bytes."""


def outline(buffer: memoryview, limit_bytes: int = LIMIT_BYTES) -> bytes:
    """Return the serialized model with each `raw_data` of at least `limit_bytes` replaced by a reference.

    A reference is external data whose location is `MARK` and whose offset and length point into `buffer`.

    Raises:
        MalformedError: The bytes are not a protobuf message, or end too early (`TruncatedError`).
    """
    try:
        return b"".join(_outline(buffer, 0, len(buffer), "ModelProto", limit_bytes, 0))
    except IndexError:
        raise TruncatedError("ends in the middle of a field") from None


def fill(skeleton: bytes, sizes: Sequence[int]) -> tuple[list[bytes | int], int]:
    """Return the pieces of a model whose references (`MARK`, offset = number of the tensor) become raw data.

    Args:
        skeleton: A serialized model; every reference stands once.
        sizes: Bytes of each tensor, by number.

    Returns:
        Pieces in file order, where an integer stands for the bytes of that tensor, and the size of the whole.
    """
    mark = MARK.encode()
    places = []
    at = skeleton.find(mark)
    while at >= 0:
        places.append(at)
        at = skeleton.find(mark, at + 1)
    pieces: list[bytes | int] = []
    size = _fill(skeleton, 0, len(skeleton), "ModelProto", places, sizes, pieces)
    return pieces, size


def _varint(buffer: memoryview | bytes, at: int) -> tuple[int, int]:
    """Decode the varint at `at`; return it and the position after it."""
    result = shift = 0
    while True:
        byte = buffer[at]
        at += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            return result, at
        shift += 7
        if shift > 63:
            raise MalformedError("a number is longer than 64 bits")


def encode_varint(value: int) -> bytes:
    """Encode a number >= 0 as a protobuf varint."""
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _field_end(buffer: memoryview | bytes, at: int, wire: int, end: int) -> tuple[int, int]:
    """Return (start of the content, end of the field) of a field whose tag ended at `at`."""
    body = at
    if wire == _BYTES:
        length, body = _varint(buffer, at)
        stop = body + length
    elif wire == _VARINT:
        stop = _varint(buffer, at)[1]
    elif wire == _FIXED64:
        stop = at + 8
    elif wire == _FIXED32:
        stop = at + 4
    else:
        raise MalformedError(f"no such wire type: {wire}")
    if stop > end:
        raise TruncatedError("a field is longer than the file")
    return body, stop


def _outline(
    buffer: memoryview, start: int, end: int, message: str, limit: int, depth: int
) -> list[bytes | memoryview]:
    nested = _NESTED[message]
    chunks: list[bytes | memoryview] = []
    kept_from = at = start
    while at < end:
        field_start = at
        tag = buffer[at]
        at += 1
        if tag >= 0x80:
            tag, at = _varint(buffer, field_start)
        body, at = _field_end(buffer, at, tag & 7, end)
        if tag >> 3 == 0:
            raise MalformedError("field number 0")
        if tag & 7 != _BYTES or at - body < limit or depth >= _MAX_DEPTH:
            continue
        child = nested.get(tag >> 3)
        if child is None:
            continue
        inner = (
            _outline_tensor(buffer, body, at, limit)
            if child == "TensorProto"
            else _outline(buffer, body, at, child, limit, depth + 1)
        )
        if len(inner) == 1 and len(inner[0]) == at - body:
            continue  # nothing was taken out of it
        chunks.append(buffer[kept_from:field_start])
        chunks.append(encode_varint(tag) + encode_varint(sum(map(len, inner))))
        chunks += inner
        kept_from = at
    if kept_from < end or not chunks:
        chunks.append(buffer[kept_from:end])
    return chunks


def _outline_tensor(buffer: memoryview, start: int, end: int, limit: int) -> list[bytes | memoryview]:
    at = start
    found: list[tuple[int, int, int]] = []
    while at < end:
        field_start = at
        tag, at = _varint(buffer, at)
        body, at = _field_end(buffer, at, tag & 7, end)
        if tag >> 3 in (_EXTERNAL_DATA, _DATA_LOCATION):
            return [buffer[start:end]]
        if tag == _RAW_DATA_TAG:
            found.append((field_start, body, at))
    if len(found) != 1 or found[0][2] - found[0][1] < limit:
        return [buffer[start:end]]
    field_start, body, stop = found[0]
    reference = onnx.TensorProto(data_location=onnx.TensorProto.EXTERNAL)
    for key, value in (("location", MARK), ("offset", str(body)), ("length", str(stop - body))):
        reference.external_data.add(key=key, value=value)
    return [buffer[start:field_start], buffer[stop:end], reference.SerializeToString()]


def _fill(
    skeleton: bytes,
    start: int,
    end: int,
    message: str,
    places: list[int],
    sizes: Sequence[int],
    pieces: list[bytes | int],
) -> int:
    """Append the pieces of one message; return its size."""
    nested = _NESTED[message]
    size = 0
    kept_from = at = start
    while at < end:
        field_start = at
        tag, at = _varint(skeleton, at)
        body, at = _field_end(skeleton, at, tag & 7, end)
        child = nested.get(tag >> 3) if tag & 7 == _BYTES else None
        if child is None:
            continue
        first = bisect_left(places, body)
        if first == len(places) or places[first] >= at:
            continue
        inner: list[bytes | int] = []
        if child == "TensorProto":
            inner_size = _fill_tensor(skeleton, body, at, sizes, inner)
        else:
            inner_size = _fill(skeleton, body, at, child, places, sizes, inner)
        head = skeleton[kept_from:field_start] + encode_varint(tag) + encode_varint(inner_size)
        pieces.append(head)
        pieces += inner
        size += len(head) + inner_size
        kept_from = at
    pieces.append(skeleton[kept_from:end])
    return size + end - kept_from


def _fill_tensor(
    skeleton: bytes, start: int, end: int, sizes: Sequence[int], pieces: list[bytes | int]
) -> int:
    tensor = onnx.TensorProto.FromString(skeleton[start:end])
    entries = {entry.key: entry.value for entry in tensor.external_data}
    if entries.get("location") != MARK:
        pieces.append(skeleton[start:end])
        return end - start
    number = int(entries["offset"])
    tensor.ClearField("external_data")
    tensor.ClearField("data_location")
    head = tensor.SerializeToString() + encode_varint(_RAW_DATA_TAG) + encode_varint(sizes[number])
    pieces += [head, number]
    return len(head) + sizes[number]
