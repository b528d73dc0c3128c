"""The header of a GGUF file: metadata and tensor descriptions, without the tensors.

Layout: the GGUF specification (ggml, docs/gguf.md), versions 2 and 3, either byte order.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tierwise.core.errors import BadField, TierwiseError, Truncated
from tierwise.core.numerics import Format, fmt
from tierwise.models.importers._bytes import Reader

MAGIC = b"GGUF"
VERSIONS = (2, 3)

# ggml type id: (number format, elements in a block), from ggml.h and ggml-common.h. Ids that are missing
# were removed from ggml. Bits per element are those of numerics.py.
TYPES: dict[int, tuple[str, int]] = {
    0: ("fp32", 1), 1: ("fp16", 1), 2: ("q4_0", 32), 3: ("q4_1", 32), 6: ("q5_0", 32), 7: ("q5_1", 32),
    8: ("q8_0", 32), 9: ("q8_1", 32), 10: ("q2_k", 256), 11: ("q3_k", 256), 12: ("q4_k", 256),
    13: ("q5_k", 256), 14: ("q6_k", 256), 15: ("q8_k", 256), 16: ("iq2_xxs", 256), 17: ("iq2_xs", 256),
    18: ("iq3_xxs", 256), 19: ("iq1_s", 256), 20: ("iq4_nl", 32), 21: ("iq3_s", 256), 22: ("iq2_s", 256),
    23: ("iq4_xs", 256), 24: ("int8", 1), 25: ("int16", 1), 26: ("int32", 1), 27: ("int64", 1),
    28: ("fp64", 1), 29: ("iq1_m", 256), 30: ("bf16", 1), 34: ("tq1_0", 256), 35: ("tq2_0", 256),
    39: ("mxfp4", 32),    40: ("nvfp4", 64), 41: ("1.125bit", 128),
}  # fmt: skip

# Types of forks, by (name, elements in a block, bytes of a block): ik_llama.cpp (gguf-py, constants.py; the two to
# eight bytes that some keep for each row, under 0.2 %, are left out), BitNet's two bits, and layouts ggml has given up.
FORKS: dict[int, tuple[str, int, int]] = {
    31: ("q4_0_4_4", 32, 18), 32: ("q4_0_4_8", 32, 18), 33: ("q4_0_8_8", 32, 18), 36: ("i2_s", 4, 1),
    97: ("q8_0_x4", 32, 34), 98: ("q8_1_x4", 32, 36), 99: ("q8_2_x4", 32, 36), 133: ("q6_0", 32, 26),
    134: ("iq1_bn", 64, 13), 135: ("iq2_bn", 64, 16), 136: ("q8_k64", 64, 68), 137: ("iq2_k", 256, 76),
    138: ("iq3_k", 256, 110), 139: ("iq4_k", 256, 144), 140: ("iq5_k", 256, 176), 141: ("iq6_k", 256, 212),
    144: ("iq4_ks", 256, 136), 145: ("iq2_ks", 256, 70), 146: ("iq4_kss", 256, 128), 147: ("q8_k16", 64, 64),
    148: ("q8_k32", 256, 292), 149: ("q8_kr8", 256, 292), 150: ("q8_k128", 128, 140), 151: ("q8_kv", 32, 32),
    152: ("iq5_ks", 256, 168), 153: ("iq2_kt", 256, 68), 154: ("iq3_kt", 256, 100), 155: ("iq4_kt", 256, 128),
    156: ("iq3_ks", 256, 102), 157: ("iq2_kl", 256, 86), 158: ("iq1_kt", 256, 56), 202: ("q4_0_r8", 32, 18),
    206: ("q5_0_r4", 32, 22), 208: ("q8_0_r8", 32, 34), 210: ("q2_k_r4", 256, 84), 211: ("q3_k_r4", 256, 110),
    212: ("q4_k_r4", 256, 144), 213: ("q5_k_r4", 256, 176), 214: ("q6_k_r4", 256, 210), 216: ("iq2_xxs_r4", 256, 66),
    217: ("iq2_xs_r4", 256, 74), 218: ("iq3_xxs_r4", 256, 98), 219: ("iq1_s_r4", 32, 6), 220: ("iq4_nl_r4", 32, 18),
    221: ("iq3_s_r4", 256, 110), 222: ("iq2_s_r4", 256, 82), 223: ("iq4_xs_r8", 256, 136), 229: ("iq1_m_r4", 32, 7),
    230: ("bf16_r16", 1, 2), 233: ("q6_0_r4", 32, 26), 335: ("iq2_bn_r4", 64, 16), 337: ("iq2_k_r4", 256, 76),
    338: ("iq3_k_r4", 256, 110), 339: ("iq4_k_r4", 256, 144), 340: ("iq5_k_r4", 256, 176), 344: ("iq4_ks_r4", 256, 136),
    352: ("iq5_ks_r4", 256, 168), 398: ("q8_kv_r8", 32, 32), 399: ("q8_k_r8", 256, 258),
}  # fmt: skip
_LAST_OF_GGML = 96  # ids of ggml stay below; ik_llama.cpp's start behind

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_KEPT = 4096  # numbers of an array that are kept; longer arrays (token scores) only leave their length
_DEEPEST = 4  # arrays in arrays
_LONGEST_STRING = 1 << 26  # bytes; chat templates and merges stay far below
_MOST_TENSORS = 1 << 24
_MOST_DIMS = 8  # ggml itself stops at 4
_MOST_ELEMENTS = 1 << 50


@dataclass(frozen=True)
class Skipped:
    """An array of which only the length is known."""

    length: int


@dataclass(frozen=True)
class GgufTensor:
    """What a header says of a tensor.

    Attributes:
        name: as in "blk.0.attn_q.weight".
        shape: ggml order: the contiguous dimension (a linear map's inputs) first.
        format: how it is stored.
        elements, bytes: exact sizes.
    """

    name: str
    shape: tuple[int, ...]
    format: Format
    elements: int
    bytes: int


@dataclass(frozen=True)
class Header:
    """Metadata by key, and tensors by name."""

    metadata: Mapping[str, Any]
    tensors: Mapping[str, GgufTensor]


def read_header(path: str) -> Header:
    """The header of one GGUF file; checks that the file is long enough for every tensor it describes.

    Raises:
        Truncated: the file ends inside the header or before its tensors do.
        BadField: a count, length, type or shape that cannot be.
        TierwiseError: not a GGUF file, or a version that is not read.
    """
    try:
        with Path(path).open("rb") as file:
            return _Parser(Reader(file, path, _LONGEST_STRING)).header()
    except OSError as error:
        raise TierwiseError(f"{path}: cannot be read: {error.strerror or error}") from None


class _Parser:
    def __init__(self, reader: Reader) -> None:
        self.r, self.where, self.order = reader, reader.where, "<"

    def header(self) -> Header:
        self._start()
        n_tensors = self._count("tensors", 24)  # a name's length, dimensions, type, offset
        n_values = self._count("metadata entries", 13)  # a key's length, a type, a byte
        metadata: dict[str, Any] = {}
        for _ in range(n_values):
            key = self._string("a metadata key")
            if key in metadata:
                raise BadField(self.where, key, "a second entry", "one entry per key")
            metadata[key] = self._value(self._number("I", f"type of {key}"), key)
        found = [self._tensor() for _ in range(n_tensors)]
        self._check_data(metadata, found)
        tensors = {t.name: t for t, _ in found}
        if len(tensors) < len(found):
            raise BadField(self.where, "tensors", "a name used twice", "distinct names")
        return Header(metadata, tensors)

    def _start(self) -> None:
        start = self.r.take(min(4, self.r.size), "magic")
        if not MAGIC.startswith(start):
            raise TierwiseError(f"{self.where}: not a GGUF file: starts with {start!r}, not {MAGIC!r}")
        if len(start) < 4:
            raise Truncated(self.where, len(start), "magic 'GGUF'")
        version = self._number("I", "version")
        if version and version & 0xFFFF == 0:  # big-endian: the small number sits in the high bytes
            self.order = ">"
            version = int.from_bytes(version.to_bytes(4, "little"), "big")
        if version not in VERSIONS:
            raise BadField(self.where, "version", version, f"GGUF versions {', '.join(map(str, VERSIONS))}")

    def _number(self, code: str, what: str) -> Any:
        code = self.order + code
        return struct.unpack(code, self.r.take(struct.calcsize(code), what))[0]

    def _count(self, what: str, least_bytes: int) -> int:
        n = self._number("Q", f"number of {what}")
        if n > _MOST_TENSORS:
            raise BadField(self.where, f"number of {what}", n, f"at most {_MOST_TENSORS}")
        if n * least_bytes > self.r.left:
            raise Truncated(self.where, self.r.size, f"{n} {what} from byte {self.r.at}")
        return int(n)

    def _string(self, what: str) -> str:
        n = self._number("Q", f"length of {what}")
        return self.r.take(n, what).decode("utf-8", errors="replace")

    def _value(self, kind: int, key: str, depth: int = 0) -> Any:
        if kind == _STRING:
            return self._string(key)
        if kind == _ARRAY and depth < _DEEPEST:
            return self._array(key, depth)
        if kind not in _SCALARS:
            raise BadField(self.where, f"{key}: value type", kind, f"0 to 12; arrays at most {_DEEPEST} deep")
        return self._number(_SCALARS[kind], key)

    def _array(self, key: str, depth: int) -> Any:
        kind = self._number("I", f"element type of {key}")
        n = self._number("Q", f"length of {key}")
        if kind in _SCALARS:
            code = _SCALARS[kind]
            size = n * struct.calcsize("<" + code)
            if n > _KEPT:
                self.r.skip(size, key)
                return Skipped(n)
            return list(struct.unpack(f"{self.order}{n}{code}", self.r.take(size, key)))
        if kind not in (_STRING, _ARRAY):
            raise BadField(self.where, f"{key}: element type", kind, "0 to 12")
        if n * 8 > self.r.left:
            raise Truncated(self.where, self.r.size, f"{key}, {n} elements from byte {self.r.at}")
        for _ in range(n):
            if kind == _STRING:
                self.r.skip(self._number("Q", f"length of a string of {key}"), key)
            else:
                self._value(kind, key, depth + 1)
        return Skipped(n)

    def _tensor(self) -> tuple[GgufTensor, int]:
        """A tensor and the offset of its data."""
        name = self._string("a tensor's name")
        n = self._number("I", f"dimensions of {name}")
        if n > _MOST_DIMS:
            raise BadField(self.where, f"{name}: dimensions", n, f"at most {_MOST_DIMS}")
        shape = tuple(self._number("Q", f"shape of {name}") for _ in range(n))
        kind = self._number("I", f"type of {name}")
        offset = self._number("Q", f"offset of {name}")
        form, block = self._form(name, kind)
        elements = 1
        for width in shape:
            elements *= width
        if not 0 < elements <= _MOST_ELEMENTS:
            raise BadField(self.where, f"{name}: shape", shape, f"1 to {_MOST_ELEMENTS} elements")
        row = shape[0] if shape else 1
        if row % block:
            raise BadField(self.where, f"{name}: row length", row, f"a multiple of {block} for {form}")
        return GgufTensor(name, shape, form, elements, round(elements * float(form.bytes))), int(offset)

    def _form(self, name: str, kind: int) -> tuple[Format, int]:
        """(format, elements in a block) of a type by its id."""
        if kind in TYPES:
            spec, block = TYPES[kind]
            return fmt(spec), block
        if kind in FORKS:
            fork, block, size = FORKS[kind]
            return Format(fork, 8.0 * size / block, 0.0, ""), block
        if kind > _LAST_OF_GGML:
            allowed = f"types up to {max(FORKS)}; this looks like a newer type of ik_llama.cpp"
        else:
            allowed = f"types of ggml up to {max(TYPES)}: this one was removed from it, or is newer or of a fork"
        raise BadField(self.where, f"{name}: ggml type", kind, allowed)

    def _check_data(self, metadata: Mapping[str, Any], found: list[tuple[GgufTensor, int]]) -> None:
        """The file reaches to the end of its last tensor."""
        align = metadata.get("general.alignment", 32)
        if not isinstance(align, int) or isinstance(align, bool) or not 0 < align <= 1 << 20 or align & (align - 1):
            raise BadField(self.where, "general.alignment", align, "a power of two up to 1 MiB")
        start = -(-self.r.at // align) * align
        for tensor, offset in found:
            if offset % align:
                raise BadField(self.where, f"{tensor.name}: offset", offset, f"a multiple of {align}")
            if start + offset + tensor.bytes > self.r.size:
                wanted = f"{tensor.name}, {tensor.bytes} bytes from byte {start + offset}"
                raise Truncated(self.where, self.r.size, wanted)
