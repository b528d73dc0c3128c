"""Is this file a whole ONNX protobuf? A walk over its outermost fields, without decoding them.

Wire format: the protocol buffers encoding (a tag of field number and wire type, then a value); field numbers:
ModelProto in onnx.proto.
"""

from __future__ import annotations

from pathlib import Path

from tierwise.core.errors import TierwiseError, Truncated
from tierwise.models.importers._bytes import Reader

LARGEST = 2**31 - 1  # bytes a protobuf message may have
_GRAPH, _OPSET = 7, 8
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIELDS = {*range(1, 10), 14, 20, 25, 26}


def check(path: str) -> None:
    """Pass, or say where the file ends too early or why it is not ONNX.

    Raises:
        Truncated: with the byte at which the file ends.
        TierwiseError: too large, unreadable, or not an ONNX file.
    """
    try:
        with Path(path).open("rb") as file:
            r = Reader(file, path)
            if r.size > LARGEST:
                raise TierwiseError(
                    f"{path}: {r.size} bytes; an ONNX file has at most {LARGEST}: save its weights as external data"
                )
            seen = _walk(r)
    except OSError as error:
        raise TierwiseError(f"{path}: cannot be read: {error.strerror or error}") from None
    for field, name in ((_GRAPH, "the graph"), (_OPSET, "opset_import")):
        if field not in seen:
            raise Truncated(path, r.size, f"{name} of an ONNX model")


def _walk(r: Reader) -> set[int]:
    """The field numbers at the outermost level."""
    seen: set[int] = set()
    while r.left or not seen:
        start = r.at
        tag = _varint(r, "a field's tag")
        field, wire = tag >> 3, tag & 7
        known = field in _FIELDS or (seen and field > 0)
        if not known or wire not in (_VARINT, _FIXED64, _BYTES, _FIXED32):
            raise TierwiseError(f"{r.where}: not an ONNX file: byte {start} holds no field of a model")
        seen.add(field)
        if wire == _VARINT:
            _varint(r, f"field {field}")
        else:
            fixed = {_FIXED64: 8, _FIXED32: 4}
            r.skip(fixed[wire] if wire in fixed else _varint(r, f"length of field {field}"), f"field {field}")
    return seen


def _varint(r: Reader, what: str) -> int:
    value = 0
    for i in range(10):
        byte = r.take(1, what)[0]
        value |= (byte & 0x7F) << (7 * i)
        if byte < 0x80:
            return value
    raise TierwiseError(f"{r.where}: not an ONNX file: no number ends near byte {r.at}")
