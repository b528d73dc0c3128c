"""safetensors files and their indexes: number formats from the tensors, architecture from config.json beside.

Layout: the safetensors format (8 bytes of little-endian header length, a JSON header, the data).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tierwise.core.errors import BadField, TierwiseError, Truncated
from tierwise.core.numerics import fmt
from tierwise.models.hf import from_config
from tierwise.models.importers._bytes import Reader
from tierwise.models.importers._stored import NOT_WEIGHTS, Stored, with_stored
from tierwise.models.jsonfile import parse_json, read_json
from tierwise.models.types import Model

LARGEST_HEADER = 100_000_000  # bytes; the format's own limit
_INDEX = ".safetensors.index.json"
_SHARD = re.compile(r"^(?P<stem>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.safetensors$", re.DOTALL)

# dtype: (number format, bits of an element).
_DTYPES = {
    "F64": ("fp64", 64), "F32": ("fp32", 32), "F16": ("fp16", 16), "BF16": ("bf16", 16),
    "F8_E4M3": ("fp8", 8), "F8_E5M2": ("fp8", 8), "F8_E8M0": ("8bit", 8), "F6_E2M3": ("6bit", 6),
    "F6_E3M2": ("6bit", 6), "F4": ("fp4", 4), "I64": ("int64", 64), "U64": ("int64", 64), "I32": ("int32", 32),
    "U32": ("int32", 32), "I16": ("int16", 16), "U16": ("int16", 16), "I8": ("int8", 8), "U8": ("8bit", 8),
    "BOOL": ("bool", 8), "C64": ("64bit", 64),
}  # fmt: skip
# Integers in which quantized checkpoints pack several weights.
_PACKING = {"I64", "U64", "I32", "U32", "I16", "U16", "U8"}
# Numbers that belong to another tensor's format: scales, zeros, group indexes, as GPTQ, AWQ, FP8 and
# compressed-tensors checkpoints name them.
_META = re.compile(
    r"(^|[._])(scales?|qzeros|zeros?|zero_point|g_idx|weight_scale\w*|weight_zero_point|weight_shape"
    r"|input_scale|weight_global_scale|SCB|absmax|quant_map|quant_state.*|nested_\w+)$"
)


def read(path: str) -> Model:
    """The model of a ``.safetensors`` file, of all shards of a split one, or of an index.

    Raises:
        Truncated, BadField: a file is damaged.
        TierwiseError: no ``config.json`` beside it, or a shard is missing.
    """
    file = Path(path)
    config = file.with_name("config.json")
    if not config.is_file():
        raise TierwiseError(
            f"{path}: no config.json beside it; safetensors files do not describe their architecture: "
            "put the model's config.json into the same folder"
        )
    total, tensors, notes = _contents(file)
    quant = file.with_name("hf_quant_config.json")
    model = from_config(
        read_json(config),
        str(config),
        read_json(quant) if quant.is_file() else None,
        file.resolve().parent.name,
    )
    if tensors:
        head = any(t.role == "head" for t in tensors)
        model = with_stored(model, tensors, tied=not head)
    return _noted(model, path, total, notes)


def read_tensors(path: str) -> list[Stored]:
    """What one safetensors file stores; the data are not read, but must be there.

    Raises:
        Truncated: the file ends inside its header or before its data do.
        BadField: a header that cannot be.
    """
    try:
        with Path(path).open("rb") as file:
            r = Reader(file, path, LARGEST_HEADER)
            length = int.from_bytes(r.take(8, "length of the header"), "little")
            header = parse_json(r.take(length, "header"), path)
            return [_tensor(path, name, entry, r) for name, entry in header.items() if name != "__metadata__"]
    except OSError as error:
        raise TierwiseError(f"{path}: cannot be read: {error.strerror or error}") from None


def role(name: str) -> str:
    """The weight role of a tensor, by the names checkpoints of `transformers` use."""
    for pattern, found in _ROLES:
        if pattern.search(name):
            return found
    return "*"


_ROLES = [
    (re.compile(pattern), found)
    for pattern, found in (
        (r"rotary_emb|inv_freq|position_ids|masked_bias|\.(attn|attention)\.bias$", NOT_WEIGHTS),
        (r"vision|visual|image_|img_|patch_embed|multi_modal_projector|mm_projector", "vision"),
        (r"(^|[._])(ln|norm|layernorm|LayerNorm|layer_norm|ln_f|ln_\d|norm\d|norm_f|sinks)([._]|$)"
         r"|norm(\.weight|\.bias)?$|layernorm\.|A_log$|\.D$|dt_bias$", "norm"),
        (r"shared_expert_gate", "router"),
        (r"shared_experts?\.|shared_mlp\.", "shared_expert"),
        (r"\.experts[._]|\.experts$", "expert"),
        (r"(mlp|block_sparse_moe|moe|feed_forward|mixer)\.(gate|router)\.|router|e_score_correction_bias",
         "router"),
        (r"lm_head|embed_out|^output\.weight|^score\.|^classifier\.", "head"),
        (r"embed_tokens|word_embeddings|position_embeddings|token_type_embeddings"
         r"|(^|\.)(wte|wpe|embeddings?|tok_embeddings|embed_in|embed_positions|shared)\.", "embed"),
        (r"conv1d", "conv"),
        (r"mamba|mixer\.|ssm|linear_attn|dt_proj|x_proj", "ssm"),
        (r"attn|attention|[qkv]_proj|o_proj|qkv|out_proj", "attn"),
        (r"mlp|feed_forward|ffn|fc\d|fc_in|fc_out|dense|gate_proj|up_proj|down_proj|wi(_\d)?\.|wo\.", "mlp"),
    )
]  # fmt: skip


def _contents(file: Path) -> tuple[float | None, list[Stored], list[str]]:
    """(bytes promised by an index, tensors of all shards, notes)."""
    if file.name.endswith(_INDEX):
        return _indexed(file)
    if match := _SHARD.match(file.name):
        index = file.with_name(match["stem"] + _INDEX)
        if index.is_file():
            return _indexed(index)
        names = [f"{match['stem']}-{i:05d}-of-{match['parts']}.safetensors" for i in range(1, int(match["parts"]) + 1)]
        missing = [n for n in names if not file.with_name(n).is_file()]
        if missing:
            raise TierwiseError(
                f"{file}: {len(missing)} of {len(names)} shards missing ({', '.join(missing[:3])}) and no {index.name}"
            )
        return None, [t for n in names for t in read_tensors(str(file.with_name(n)))], []
    return None, read_tensors(str(file)), []


def _indexed(index: Path) -> tuple[float | None, list[Stored], list[str]]:
    data = read_json(index, largest=LARGEST_HEADER)
    where = data.get("weight_map")
    if not isinstance(where, dict) or not where or not all(isinstance(v, str) for v in where.values()):
        raise BadField(str(index), "weight_map", where, "a mapping of tensor names to file names")
    section = data.get("metadata")
    total = section.get("total_size") if isinstance(section, dict) else None
    good = isinstance(total, (int, float)) and not isinstance(total, bool) and 0 < total < 1e18
    if total is not None and not good:
        raise BadField(str(index), "metadata.total_size", total, "a number of bytes")
    names = sorted(set(where.values()))
    if bad := [n for n in names if not n or Path(n).name != n or n in (".", "..")]:
        raise BadField(str(index), "weight_map", bad[0], "names of files in the same folder")
    missing = [n for n in names if not index.with_name(n).is_file()]
    if not missing:
        return total, [t for n in names for t in read_tensors(str(index.with_name(n)))], []
    if total is None:
        raise BadField(str(index), "metadata.total_size", None, f"a number of bytes, or all shards ({missing[0]})")
    note = f"{len(missing)} of {len(names)} shards are not here: size from the index, formats as configured"
    return total, [], [note]


def _noted(model: Model, path: str, total: float | None, notes: list[str]) -> Model:
    stored = model.stored_bytes if model.stored_bytes is not None else total
    if total is not None and stored is not None and stored != total:
        notes = [*notes, f"the index promises {total:.0f} bytes, the shards hold {stored:.0f}"]
    return replace(model, stored_bytes=None if stored is None else float(stored), source=path,
                   notes=(*model.notes, *notes))  # fmt: skip


def _tensor(where: str, name: str, entry: Any, r: Reader) -> Stored:
    if not isinstance(entry, Mapping):
        raise BadField(where, name, entry, "dtype, shape and data_offsets")
    dtype, shape, span = entry.get("dtype"), entry.get("shape"), entry.get("data_offsets")
    if not isinstance(dtype, str) or dtype not in _DTYPES:
        raise BadField(where, f"{name}.dtype", dtype, ", ".join(_DTYPES))
    if not isinstance(shape, list) or not all(_whole(n) for n in shape) or len(shape) > 64:
        raise BadField(where, f"{name}.shape", shape, "a list of whole numbers")
    if not isinstance(span, list) or len(span) != 2 or not all(_whole(n) for n in span):
        raise BadField(where, f"{name}.data_offsets", span, "two whole numbers")
    begin, end = span
    elements = math.prod(shape)
    spec, bits = _DTYPES[dtype]
    if end - begin != -(-elements * bits // 8):
        raise BadField(where, f"{name}.data_offsets", span, f"{elements * bits / 8:.0f} bytes for {dtype} {shape}")
    if end > r.left:
        raise Truncated(where, r.size, f"{name}, {end - begin} bytes from byte {r.at + begin}")
    belongs = _META.search(name) is not None or dtype in _PACKING
    return Stored(name, role(name), None if belongs else elements, end - begin, fmt(spec))


def _whole(n: object) -> bool:
    return isinstance(n, int) and not isinstance(n, bool) and 0 <= n < 1 << 62
