"""GGUF files (llama.cpp): architecture from the metadata, number formats from the tensors."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from tierwise.core.errors import BadField, TierwiseError
from tierwise.models.blocks.mla import MLA
from tierwise.models.hf import from_config
from tierwise.models.importers._gguf_config import described, legacy_latents, to_config
from tierwise.models.importers._gguf_header import FORKS, GgufTensor, Header, read_header
from tierwise.models.importers._gguf_layers import by_tensors
from tierwise.models.importers._stored import NOT_WEIGHTS, Stored, with_stored
from tierwise.models.types import Model

_PART = re.compile(r"^(?P<stem>.*)-(?P<part>\d{5})-of-(?P<parts>\d{5})\.gguf$", re.DOTALL)
# Decay rates and skips of a scan count with the norms: small vectors that stay in a wide format.
_ROLES = (
    ("ssm_conv1d", "conv"), ("ssm_dt", "ssm"), ("ssm_a", "norm"), ("ssm_d", "norm"), ("ssm_", "ssm"),
    ("attn_", "attn"), ("ffn_", "mlp"), ("output", "head"),
)  # fmt: skip
_PREFIX = re.compile(r"^(blk|enc\.blk|dec\.blk)\.\d+\.")


def read(path: str) -> Model:
    """The model in a GGUF file, or in all parts of a split one (any part's path will do).

    Raises:
        Truncated, BadField: the file is damaged.
        TierwiseError: not GGUF, an architecture that is not read, or a part of a split file is missing.
    """
    header = read_parts(path)
    if not header.tensors:
        raise BadField(path, "tensors", 0, "a file with weights (this one holds only a vocabulary?)")
    name = header.metadata.get("general.name")
    title = name if isinstance(name, str) and name else Path(path).stem
    if described(header, path):
        model = from_config(to_config(header, path), path, name=title, complete=False)
    else:
        model = by_tensors(header, path, title)
    if legacy_latents(header):
        model = model.map_blocks(lambda block: replace(block, by_head=True) if isinstance(block, MLA) else block)
        text = "no *_mla keys in the file: llama.cpp expands keys and values and caches them for every head"
        model = replace(model, notes=(*model.notes, text))
    own = {name for name, _, _ in FORKS.values()}
    forks = sorted({str(t.format) for t in header.tensors.values()} & own)
    if forks:
        text = f"tensors in {', '.join(forks)}: of ik_llama.cpp, BitNet or an older ggml; llama.cpp does not load them"
        model = replace(model, notes=(*model.notes, text))
    tensors = [Stored(t.name, role(t.name), t.elements, t.bytes, t.format) for t in header.tensors.values()]
    return with_stored(model, tensors, tied="output.weight" not in header.tensors)


def read_parts(path: str) -> Header:
    """The header of a file, with the tensors of all its parts when it is split."""
    match = _PART.match(Path(path).name)
    if match is None:
        header = read_header(path)
        parts = header.metadata.get("split.count", 0)
        if isinstance(parts, int) and parts > 1:
            raise TierwiseError(f"{path}: one of {parts} parts, but not named NAME-00001-of-{parts:05d}.gguf")
        return header
    parts = int(match["parts"])
    if not 1 <= int(match["part"]) <= parts:
        raise TierwiseError(f"{path}: part {int(match['part'])} of {parts}: parts are numbered from 1")
    paths = [Path(path).with_name(f"{match['stem']}-{i:05d}-of-{parts:05d}.gguf") for i in range(1, parts + 1)]
    missing = [p.name for p in paths if not p.is_file()]
    if missing:
        more = f" and {len(missing) - 5} more" if len(missing) > 5 else ""
        raise TierwiseError(f"{path}: {len(missing)} of {parts} parts missing: {', '.join(missing[:5])}{more}")
    headers = [read_header(str(p)) for p in paths]
    tensors: dict[str, GgufTensor] = {}
    for p, header in zip(paths, headers, strict=True):
        if twice := tensors.keys() & header.tensors.keys():
            raise BadField(str(p), min(twice), "a tensor of an earlier part", "distinct tensors in every part")
        tensors.update(header.tensors)
    promised = headers[0].metadata.get("split.tensors.count", len(tensors))
    if promised != len(tensors):
        raise BadField(str(paths[0]), "split.tensors.count", promised, f"{len(tensors)}, as the parts hold")
    return Header(headers[0].metadata, tensors)


def role(name: str) -> str:
    """The weight role of a tensor, by llama.cpp's names (``blk.3.ffn_down_exps.weight``)."""
    stem = _PREFIX.sub("", name)
    if stem.startswith(("rope_freqs", "rope_factors")):
        return NOT_WEIGHTS
    if "norm" in stem or stem.startswith("attn_sinks"):
        return "norm"
    if stem.startswith(("ffn_gate_inp", "exp_probs_b")):
        return "router"
    if "shexp" in stem:
        return "shared_expert"
    if "exps" in stem or re.match(r"ffn_(gate|up|down)\.\d+\.", stem):
        return "expert"
    for prefix, found in _ROLES:
        if stem.startswith(prefix):
            return found
    return "embed" if stem.startswith(("token_", "position_", "per_layer_token")) else "*"
