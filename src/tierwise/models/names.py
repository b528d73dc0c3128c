"""The names people use for a model of the catalog: vendors, releases, tags of Ollama, endings that say a number format.

``meta-llama/Llama-3.1-8B-Instruct``, ``llama3.1:8b``, ``Qwen3-30B-A3B-Instruct-2507-FP8`` and ``…-Q4_K_M-GGUF`` have
the shapes of a catalog entry. What was taken, and whether the format was applied, is told in a note.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from tierwise.core.numerics import MIXTURES, Format, fmt
from tierwise.models.mixtures import stored_as
from tierwise.models.step import LINEAR_ROLES
from tierwise.models.types import Model

# Words that change neither shapes nor formats: kinds of tuning, releases, who packed the files.
_TUNED = {"instruct", "chat", "it", "base", "pt", "thinking", "hf", "text", "preview", "latest", "gguf", "mlx", "awq",
          "gptq", "original", "meta", "dpo", "sft", "bnb", "imat", "i1", "qat", "inst", "onnx", "quantized", "dynamic",
          "autoround", "ud", "unsloth", "w4afp8"}  # fmt: skip
_DATE = re.compile(r"^(\d{4}|20\d{6}|v\d{4})$")
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([bm])$")
_GGUF = re.compile(r"(?:^|[-_.:])((?:iq[1-4]|q[2-8])[-_](?:k(?:[-_](?:xs|s|m|l))?|xxs|xs|s|m|nl|0|1))(?=$|[-_.:])")
_MIXED = re.compile(r"(?:^|[-_.:])(ud[-_]q\d[-_]k[-_]xl|q\d[-_]k[-_]xl|mxfp4[-_]moe)(?=$|[-_.:])")
# Endings that say how linear weights are stored. MLX: groups of 64 with a scale and a bias in 16 bits
# (mlx.core.quantize); w8a8: LLM Compressor's int8.
_FORMATS = (
    (r"(?:gptq|awq|autoround)[-_.](?:int8|8bit|w8a16)|w8a16", "int8-g128"),
    (r"(?:gptq|awq|autoround)[-_.](?:int4|4bit|w4a16)|int4|w4a16|awq|gptq|autoround", "int4-g128"),
    (r"gptq[-_.]int3", "int3-g128"), (r"bnb[-_.]4bit|nf4", "nf4"), (r"w8a8|int8", "int8"),
    (r"fp8[-_.]block", "fp8-block"), (r"fp8|float8", "fp8"), (r"nvfp4|fp4", "nvfp4"), (r"mxfp4", "mxfp4"),
    (r"mxfp8", "mxfp8"), (r"3bit", "int3-g64-z16"), (r"4bit", "int4-g64-z16"), (r"6bit", "int6-g64-z16"),
    (r"8bit", "int8-g64-z16"), (r"bf16", "bf16"), (r"fp16|f16", "fp16"),
)  # fmt: skip
_BLOCKWISE = ("qwen/", "deepseek-ai/", "minimaxai/")  # their FP8 checkpoints have scales of 128 x 128 (model cards)
_CLOSE = 0.15  # a size in a name is a rounded count


@dataclass(frozen=True)
class Reading:
    """What a name was taken for.

    Attributes:
        entry: of the catalog; ``others``: entries that fit as well.
        format: of the weights, as the name says; ``""`` where it says none.
        told: the part of the name that said so; ``known``: whether that is a format.
    """

    entry: str
    others: tuple[str, ...] = ()
    format: str = ""
    told: str = ""
    known: bool = True


def letters(name: str) -> str:
    """A name's letters and digits alone, small, by which lists that spell it otherwise are matched."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def read_name(name: str, entries: Mapping[str, Sequence[str]], sizes: Mapping[str, float]) -> Reading | None:
    """The entry a name means, or None.

    Args:
        name: as somebody wrote it.
        entries: names of every entry (its own and its aliases).
        sizes: parameters by entry; asked only of entries that may fit.
    """
    text = name.strip().lower().split("/")[-1]
    text, told, form, known = _format(text)
    if form == "fp8" and name.strip().lower().startswith(_BLOCKWISE):
        form = "fp8-block"
    words = _words(text)
    if not words:
        return None
    keys: dict[str, set[str]] = {}
    for entry, names in entries.items():
        for other in (entry, *names):
            keys.setdefault("".join(_words(other.lower().split("/")[-1])), set()).add(entry)
    found = keys.get("".join(words), set())
    if not found and any(_SIZE.match(w) for w in words):
        found = _by_size(words, keys, sizes)
    if not found:
        found = _beginning(words, keys)
    if not found:
        return None
    ranked = sorted(found, key=lambda e: (sizes.get(e, float("inf")), len(e), e))
    return Reading(ranked[0], tuple(ranked[1:]), form, told, known)


def applied(model: Model, name: str, reading: Reading) -> Model:
    """The model in the format its name says, with a note of what was taken."""
    note = f"{name!r} is taken as {reading.entry}"
    if reading.others:
        note += f" (the smallest that fits; also {', '.join(reading.others[:5])})"
    if reading.told:
        stored = _stored(model, fmt(reading.format)) if reading.format and reading.known else None
        if stored is not None:
            model, note = stored, note + f", its weights in {reading.format} as {reading.told!r} says"
        elif not reading.known or not reading.format:
            note += f"; {reading.told!r} names no format that is known here: weights as {reading.entry} has them"
        else:
            note += f"; its weights are quantized already: {reading.told!r} was not applied"
    return replace(model, notes=(note, *model.notes))


def _stored(model: Model, form: Format) -> Model | None:
    """Linear weights in a format, or all as a file of llama.cpp has them; None where they are quantized already."""
    own = {role for role in LINEAR_ROLES & model.formats.keys() if float(model.formats[role].bits) < 16.0}
    if (whole := stored_as(model, form)) is not model:
        return whole
    if own:
        same = all(model.formats[role].arithmetic == form.arithmetic != "" for role in own)
        return model if same else None
    text = LINEAR_ROLES - {"vision"}
    return replace(model, formats={**model.formats, **dict.fromkeys(text, form)})


def _format(text: str) -> tuple[str, str, str, bool]:
    """(the name without its format, the words that said it, the format, whether it is one)."""
    if match := _MIXED.search(text):
        return text[: match.start()] + text[match.end() :], match[1], "", False
    if match := _GGUF.search(text):
        kind = match[1].replace("-", "_")
        kind = {"q3_k": "q3_k_m", "q4_k": "q4_k_m", "q5_k": "q5_k_m"}.get(kind, kind)
        return text[: match.start()] + text[match.end() :], match[1], kind, kind in MIXTURES
    for pattern, form in _FORMATS:
        if match := re.search(rf"(?:^|[-_.:])({pattern})(?=$|[-_.:])", text):
            return text[: match.start()] + text[match.end() :], match[1], form, True
    if re.search(r"(?:^|[-_.:])gguf$", text):
        return text, "gguf", "", False
    return text, "", "", True


def _words(text: str) -> list[str]:
    """What tells models apart, in order: ``llama3.1:8b`` and ``Meta-Llama-3.1-8B-Instruct`` have the same."""
    words = [w for w in re.split(r"[-_:\s]+", text) if w]
    return [w for w in words if w not in _TUNED and not _DATE.match(w)]


def _by_size(words: list[str], keys: Mapping[str, set[str]], sizes: Mapping[str, float]) -> set[str]:
    """Entries that have the name without its size, and are of that size."""
    rest = [w for w in words if not _SIZE.match(w)]
    (number, unit) = next(m.groups() for w in words if (m := _SIZE.match(w)))
    wanted = float(number) * (1e9 if unit == "b" else 1e6)
    return {e for e in keys.get("".join(rest), set()) if abs(sizes.get(e, 0.0) / wanted - 1.0) < _CLOSE}


def _beginning(words: list[str], keys: Mapping[str, set[str]]) -> set[str]:
    """Entries whose name goes on where this one stops (``qwen3:30b``, ``llama3.1``), which has to name a generation."""
    start = "".join(words)
    if not any(c.isdigit() for c in start):
        return set()
    return {e for key, es in keys.items() for e in es if key.startswith(start) and _goes_on(start, key[len(start) :])}


def _goes_on(start: str, rest: str) -> bool:
    """By a size or active experts, and not in the middle of a number or word."""
    cut = start[-1:].isdigit() and rest[:1] in ".0123456789" and not re.match(r"^\d+(\.\d+)?[bm]", rest)
    return not cut and bool(re.match(r"^(\d+(\.\d+)?[bm]|a\d+(\.\d+)?b|v\d)", rest))
