"""Number formats: how many bytes an element takes, and in which arithmetic it is multiplied.

A :class:`Format` may describe many formats at once (its fields arrays), which is how a sweep over
precisions stays one evaluation.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import UnknownName
from tierwise.core.num import Num, is_array, num

Names: TypeAlias = str | NDArray[np.str_]


@dataclass(frozen=True)
class Format:
    """A stored number format.

    Attributes:
        name: what users call it.
        bits: bits of one element, metadata aside.
        meta: bits of scales, zeros and indexes per element (group metadata divided by group size).
        arithmetic: dtype in which an engine multiplies it natively, or ``""`` when it is only a storage
            format that is expanded to the activations' dtype first (weight-only quantization).
    """

    name: Names
    bits: Num
    meta: Num
    arithmetic: Names

    @property
    def bytes(self) -> Num:
        """Bytes per element, metadata included."""
        return (self.bits + self.meta) / 8.0

    def __str__(self) -> str:
        return self.name if isinstance(self.name, str) else "/".join(str(n) for n in np.unique(self.name))


def _plain(name: str, bits: float, arithmetic: str, meta: float = 0.0) -> Format:
    return Format(name, bits, meta, arithmetic)


# Bits per element and block metadata. OCP Microscaling Formats v1.0 (mx*), NVIDIA NVFP4 (one e4m3 scale per
# 16), DeepSeek-V3 report section 3.3 (one fp32 scale per 128x128 weight block), ggml block layouts
# (ggml-common.h: bytes per block over elements per block).
_FIXED = {
    f.name: f
    for f in (
        _plain("fp64", 64, "fp64"),
        _plain("fp32", 32, "fp32"),
        _plain("tf32", 32, "tf32"),
        _plain("bf16", 16, "bf16"),
        _plain("fp16", 16, "fp16"),
        _plain("fp8", 8, "fp8"),
        _plain("fp8-block", 8, "fp8", 32 / 128**2),
        _plain("mxfp8", 8, "fp8", 8 / 32),
        _plain("mxfp6", 6, "fp6", 8 / 32),
        _plain("mxfp4", 4, "fp4", 8 / 32),
        _plain("nvfp4", 4, "fp4", 8 / 16),
        _plain("fp4", 4, "fp4"),
        _plain("int8", 8, "int8"),
        _plain("int16", 16, ""),
        _plain("int32", 32, ""),
        _plain("int64", 64, ""),
        _plain("bool", 8, ""),
        _plain("ternary", 2, ""),
        _plain("nf4", 4, "", 8 / 64 + 32 / (64 * 256)),
        *(
            _plain(name, 8 * block_bytes / block, "")
            for name, block_bytes, block in (
                ("q4_0", 18, 32), ("q4_1", 20, 32), ("q5_0", 22, 32), ("q5_1", 24, 32), ("q8_0", 34, 32),
                ("q8_1", 36, 32), ("q2_k", 84, 256), ("q3_k", 110, 256), ("q4_k", 144, 256),
                ("q5_k", 176, 256), ("q6_k", 210, 256), ("q8_k", 292, 256), ("iq2_xxs", 66, 256),
                ("iq2_xs", 74, 256), ("iq3_xxs", 98, 256), ("iq1_s", 50, 256), ("iq4_nl", 18, 32),
                ("iq3_s", 110, 256), ("iq2_s", 82, 256), ("iq4_xs", 136, 256), ("iq1_m", 56, 256),
                ("tq1_0", 54, 256), ("tq2_0", 66, 256),
            )
        ),
    )
}  # fmt: skip

# Files of llama.cpp by the type that most of their weights have; which tensors have another follows from the model
# (tierwise.models.mixtures).
MIXTURES = {
    "q2_k": "q2_k", "q2_k_s": "q2_k", "q3_k_s": "q3_k", "q3_k_m": "q3_k", "q3_k_l": "q3_k", "q4_0": "q4_0",
    "q4_1": "q4_1", "q4_k_s": "q4_k", "q4_k_m": "q4_k", "q5_0": "q5_0", "q5_1": "q5_1", "q5_k_s": "q5_k",
    "q5_k_m": "q5_k", "q6_k": "q6_k", "q8_0": "q8_0", "iq1_s": "iq1_s", "iq1_m": "iq1_m", "iq2_xxs": "iq2_xxs",
    "iq2_xs": "iq2_xs", "iq2_s": "iq2_xs", "iq2_m": "iq2_s", "iq3_xxs": "iq3_xxs", "iq3_xs": "iq3_s",
    "iq3_s": "iq3_s", "iq3_m": "iq3_s", "iq4_nl": "iq4_nl", "iq4_xs": "iq4_xs", "mxfp4_moe": "q8_0",
}  # fmt: skip
# Bits of a linear weight where no model says more: averages over the layers of Llama-3.1-8B
# (of MXFP4_MOE, of gpt-oss-20b).
_AVERAGE = {
    "q2_k_s": 2.724, "q3_k_s": 3.438, "q3_k_m": 3.844, "q3_k_l": 4.191, "q4_k_s": 4.536, "q4_k_m": 4.797,
    "q5_k_s": 5.5, "q5_k_m": 5.653, "iq2_m": 2.697, "iq3_xs": 3.27, "iq3_m": 3.575, "mxfp4_moe": 4.63,
}  # fmt: skip
_FIXED |= {name: _plain(name, bits, "") for name, bits in _AVERAGE.items()}

_ALIASES = {
    "float32": "fp32", "float": "fp32", "f32": "fp32", "float64": "fp64", "float16": "fp16", "half": "fp16",
    "f16": "fp16", "bfloat16": "bf16", "f8_e4m3": "fp8", "f8_e5m2": "fp8", "float8_e4m3fn": "fp8",
    "fp8_e4m3": "fp8", "fp8_e5m2": "fp8", "w8a8": "int8", "i8": "int8", "u8": "int8", "uint8": "int8",
    "i32": "int32", "i64": "int64", "i16": "int16", "w4a16": "int4-g128", "int4": "int4-g128",
    "awq": "int4-g128", "gptq": "int4-g128", "int3": "int3-g128", "int2": "int2-g128", "f4": "fp4",
    "fp8_block": "fp8-block",
}  # fmt: skip

_GROUPED = re.compile(r"^(?:int|w)(\d{1,2})-g(\d{1,9})(-sym|-z16)?$")
_BITS = re.compile(r"^(\d{1,4}(?:\.\d{1,20})?)(?:bit|bits|bpw)$")


def fmt(spec: Any, *, zero_bits: float | None = None) -> Format:
    """Read a format, or an array of them.

    Accepted: names (``bf16``, ``fp8``, ``nvfp4``, ``q4_k``, ...), ``int4-g128`` (integers with one fp16
    scale and one packed zero per group; ``-sym`` without zero, ``-z16`` with an fp16 zero), and
    ``2.5bit`` (storage of that many bits). A :class:`Format` passes through.

    Args:
        spec: a name, a Format, or an array or sequence of names.
        zero_bits: bits of a group's zero where the name does not say (default: as many as the element).

    Raises:
        UnknownName: no such format.
    """
    if isinstance(spec, Format):
        return spec
    if isinstance(spec, str):
        return _one(spec, zero_bits)
    if isinstance(spec, (np.ndarray, Sequence)):
        names = np.asarray(spec, dtype=np.str_)
        if names.ndim == 0:
            return _one(str(names), zero_bits)
        if not names.size:
            raise UnknownName("number format", str(spec), known_formats())
        distinct, index = np.unique(names, return_inverse=True)
        parts = [_one(str(n), zero_bits) for n in distinct]
        index = index.reshape(names.shape)

        def pick(values: list[Any]) -> Any:
            return np.asarray(values)[index]

        return Format(
            pick([p.name for p in parts]),
            num(pick([p.bits for p in parts])),
            num(pick([p.meta for p in parts])),
            pick([p.arithmetic for p in parts]),
        )
    raise UnknownName("number format", str(spec), known_formats())


def _one(text: str, zero_bits: float | None) -> Format:
    key = text.strip().lower()
    key = _ALIASES.get(key, key)
    if key in _FIXED:
        return _FIXED[key]
    if match := _GROUPED.match(key):
        bits, group = int(match[1]), int(match[2])
        if 1 <= bits <= 16 and group >= 1:
            zero = {"-sym": 0.0, "-z16": 16.0}.get(match[3] or "", bits if zero_bits is None else zero_bits)
            return Format(key, float(bits), (16.0 + zero) / group, "")
    if (match := _BITS.match(key)) and 0 < float(match[1]) <= 4096:
        return Format(key, float(match[1]), 0.0, "")
    raise UnknownName("number format", text, known_formats(), "Also int4-g128 (1 to 16 bits, any group) and 2.5bit.")


def blocks(form: Format) -> tuple[int, int]:
    """(inputs, outputs) of a matrix that share a scale, so that a part of it must hold whole blocks of them; 1 where
    nothing is shared. Of a mixture the largest. Microscaling formats count as 1: engines pad their short blocks."""
    names = [str(n) for n in np.unique(form.name)]
    found = [_blocks(part) for name in names for part in name.split("/")]
    return max(i for i, _ in found), max(o for _, o in found)


def _blocks(name: str) -> tuple[int, int]:
    if name == "fp8-block":  # DeepSeek-V3 report, section 3.3
        return 128, 128
    match = _GROUPED.match(name)
    return (int(match[2]), 1) if match else (1, 1)


def known_formats() -> list[str]:
    """Every fixed name and alias."""
    return sorted([*map(str, _FIXED), *_ALIASES])


def multiply_in(weights: Format, activations: Format) -> Names:
    """The dtype in which a weight and an activation meet.

    A storage-only weight is expanded to the activations' dtype; an 8- or 4-bit float weight is multiplied
    natively (16-bit activations are cast on the fly; wider ones are not); int8 needs int8 activations.
    """
    w, a = np.asarray(weights.arithmetic), np.asarray(activations.arithmetic)
    native = (w != "") & ((w != "int8") | (a == "int8")) & ~np.isin(a, ("fp32", "tf32", "fp64"))
    out = np.where(native, w, a)
    return out if is_array(out) else str(out)
