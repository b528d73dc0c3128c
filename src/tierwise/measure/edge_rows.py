"""Rows of language models on one's own machine: which device, engine, model and formats a row means.

A table has the columns ``device, backend, engine, model, quant, phase, value`` (tokens a second) and, where known,
``kind, ndev, bpw, prompt, gen, depth, batch, ubatch, fa, kv_type, power_w, tierwise_device, tierwise_model``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.core.numerics import Format, fmt
from tierwise.cost.kits import built, kit
from tierwise.machines import System, system
from tierwise.machines.load import device
from tierwise.measure.columns import COUNT, MEASURED, Table, complete, numbers
from tierwise.memory.weights import weight_bytes
from tierwise.models.load import load_model
from tierwise.models.step import LINEAR_ROLES
from tierwise.models.types import Model
from tierwise.scenario.types import Plan

COLUMNS = ("device", "backend", "engine", "model", "quant", "phase", "value")

BOUNDS = {"value": MEASURED, "ndev": (1.0, 4096.0), "bpw": (0.0, 1000.0), "prompt": COUNT, "gen": COUNT, "depth": COUNT,
          "batch": COUNT, "ubatch": (1.0, COUNT[1]), "power_w": MEASURED}  # fmt: skip

# Micro-batch of a prompt where nobody says: llama.cpp's own (`-ub`, common/common.h).
UBATCH = 512.0
# Tokens that a neural unit's compiled graph takes of a prompt at once (Qualcomm AI Hub: graphs of 128 tokens and of 1).
NEURAL_CHUNK = 128.0
# Weights of neural units' models by bits of weights and activations: integers, a scale for each channel.
_NEURAL_WEIGHTS = {"w4a16": Format("int4-channel", 4.0, 0.0, ""), "w4": Format("int4-channel", 4.0, 0.0, ""),
                   "w8a8": Format("int8-channel", 8.0, 0.0, "")}  # fmt: skip
# Build that a commit without a number is taken for: llama.cpp counts them since the summer of 2023.
UNNUMBERED = 1000
# Builds of llama.cpp as issues and pull requests name them on a day (TabbyML/tabby 4200, ik_llama.cpp 370,
# AOSC-Dev/aosc-os-abbs 10794, llama.cpp 13729, janhq/jan 5703, llama.cpp 15715, xllamacpp 81, llama.cpp 17016,
# lmstudio-bug-tracker 1308), by which runs that state a day and no build are of one.
_DATED = (("2025-04-28", 5200), ("2025-05-04", 5274), ("2025-05-07", 5298), ("2025-05-23", 5466), ("2025-07-10", 5857),
          ("2025-09-03", 6341), ("2025-09-13", 6451), ("2025-11-05", 6951), ("2025-12-14", 7394))  # fmt: skip
# Options of llama.cpp's builds and runs by which its kernels differ: products by hipBLASLt (ROCBLAS_USE_HIPBLASLT),
# flash attention by rocWMMA (GGML_HIP_ROCWMMA_FATTN).
OPTIONS = ("hipblaslt", "rocwmma")
# Bytes of a weight trained in 4 bits, with its scale, at most; bits of a weight in q8_0, with its scale.
_TRAINED_IN_FOUR, _Q8_0 = 0.6, 8.5
# Tokens a test generates where nobody says: llama-bench's default (`-n`, tools/llama-bench).
GENERATED = 128.0
# Bits a weight of a file by its mixture, where no size is given: llama.cpp, tools/quantize/README.md (Llama 3.1 8B).
_BITS = {
    "q2_k": 3.16, "q2_k_s": 2.97, "q3_k_s": 3.64, "q3_k_m": 4.00, "q3_k_l": 4.30, "q3_k": 4.00, "q4_0": 4.66,
    "q4_1": 5.12, "q4_k_s": 4.67, "q4_k_m": 4.89, "q4_k_xl": 5.0, "q4_k": 4.89, "q5_0": 5.59, "q5_1": 6.06,
    "q5_k_s": 5.57, "q5_k_m": 5.70, "q5_k_xl": 5.75, "q5_k": 5.70, "q6_k": 6.56, "q6_k_xl": 7.0, "q8_0": 8.50,
    "q8_k_xl": 9.4, "iq1_s": 2.00, "iq2_xxs": 2.38, "iq2_xs": 2.59, "iq2_s": 2.74, "iq2_m": 2.93, "iq3_xxs": 3.25,
    "iq3_xs": 3.50, "iq3_s": 3.66, "iq3_m": 3.76, "iq4_xs": 4.46, "iq4_nl": 4.68, "mxfp4": 4.6, "f16": 16.0,
    "bf16": 16.0, "q3_xxs": 3.25, "q2_xxs": 2.38, "4bit": 4.5, "8bit": 8.5,
}  # fmt: skip


@dataclass(frozen=True)
class EdgeGroup:
    """Rows that differ in lengths only.

    Attributes:
        rows: their places in the table.
        machine, engine, model, weights: what runs.
        phase: ``decode`` or ``prefill``. ``flash``: flash attention. ``ubatch``: tokens of a micro-batch. ``kv``:
            format of keys and values. ``host``: the computer that the card is in, where the row says so.
    """

    rows: NDArray[np.intp]
    machine: System
    engine: str
    model: Model
    weights: Format
    phase: str
    flash: bool
    ubatch: float
    kv: str
    host: str = ""

    @property
    def build(self) -> float:
        """The engine's build; infinite where none is given, for the newest."""
        return float(built(self.engine)[0] or np.inf)

    @property
    def options(self) -> frozenset[str]:
        """What the engine was built or run with."""
        return built(self.engine)[1]


@dataclass(frozen=True)
class RefusedRows:
    """Rows that are not answered, and why."""

    rows: NDArray[np.intp]
    reason: str


def checked(table: Table, where: str) -> Table:
    """The table with its numbers as numbers.

    Raises:
        BadField: a column is missing, or a cell cannot be.
    """
    return numbers(complete(table, COLUMNS, where), where, BOUNDS, tuple(BOUNDS))


# Kinds of rows: language models on a device's own kernels, and those on its neural unit.
RESIDENT, NEURAL = "llm", "llm_npu"


def asked(table: Table, kind: str = RESIDENT) -> NDArray[np.intp]:
    """Rows in which a model that is resident decodes or reads a prompt: of llama.cpp or MLX, or of any engine on a
    neural unit."""
    kinds = np.asarray(table["kind"], str) if "kind" in table else np.full(len(table["value"]), "llm")
    engines = np.char.lower(np.asarray(table["engine"], str))
    mlx = (np.char.find(engines, "mlx") >= 0) | (np.asarray(table["backend"], str) == "mlx")
    ours = (np.char.find(engines, "llama") >= 0) | mlx | (kind == NEURAL)
    given = np.asarray(table["phase"], str)
    # All that is recorded of MLX is output over total time, of short prompts.
    phases = np.isin(given, ["decode", "prefill"]) | (mlx & (given == "e2e"))
    values = np.isfinite(np.asarray(table["value"], float))
    # What a source marks as an artefact of running out of memory measured nothing.
    notes = _text(table, "note", len(values))
    sound = np.char.find(np.asarray(notes, str), "implausible") < 0
    return np.flatnonzero((kinds == kind) & ours & phases & values & sound)


def groups(table: Table, rows: NDArray[np.intp]) -> tuple[list[EdgeGroup], list[RefusedRows]]:
    """The rows by what they run."""
    names = ("kind", "device", "ndev", "backend", "engine", "model", "tierwise_model", "quant", "bpw", "phase", "fa",
             "ubatch", "kv_type", "threads", "note")  # fmt: skip
    columns = [_text(table, n, len(table["value"]))[rows] for n in names]
    keys: dict[tuple[str, ...], list[int]] = {}
    for place, key in zip(rows, zip(*columns, strict=True), strict=True):
        keys.setdefault(tuple(map(str, key)), []).append(int(place))
    found: list[EdgeGroup] = []
    refused: list[RefusedRows] = []
    for values, places in keys.items():
        at = np.asarray(places, dtype=np.intp)
        try:
            found.append(_group(dict(zip(names, values, strict=True)), at))
        except TierwiseError as error:
            refused.append(RefusedRows(at, str(error).split(";")[0][:160]))
    return found, refused


def _text(table: Table, name: str, count: int) -> NDArray[Any]:
    if name not in table:
        return np.full(count, "")
    values = table[name]
    if values.dtype.kind == "f":
        return np.asarray(["" if np.isnan(v) else f"{v:g}" for v in values])
    return np.asarray(["" if v is None else str(v) for v in values])


def _group(row: Mapping[str, str], at: NDArray[np.intp]) -> EdgeGroup:
    neural = row["kind"] == NEURAL
    name = row["engine"]
    engine = neural_engine(name, row["quant"]) if neural else engine_of(name, row["backend"], row["note"])
    machine = machine_of(row["device"], row["backend"], int(float(row["ndev"] or 1)))
    if kit(engine, machine.device) is None:
        raise TierwiseError(f"{engine}: no kernels on file for {machine.device.name}")
    if machine.device.kind == "cpu" and "cuda" in row["backend"].lower():
        raise TierwiseError("processors beside a card that takes the prompts: not priced")
    flash = row["fa"] in ("1", "True", "on") or (row["fa"] == "" and _modern(engine))
    weights = _NEURAL_WEIGHTS.get(row["quant"]) if neural else weights_of(row["quant"], row["bpw"])
    if weights is None:
        raise UnknownName("weight format", row["quant"], list(_NEURAL_WEIGHTS))
    threads = row["threads"]
    if machine.device.kind == "cpu" and threads.isdigit():
        machine = with_threads(machine, int(threads))
    return EdgeGroup(at, machine, engine, model_of(row["model"], row["tierwise_model"]), weights,
                 "prefill" if row["phase"] == "prefill" else "decode", flash,
                 NEURAL_CHUNK if neural and not row["ubatch"] else micro_batch(row["ubatch"], row["note"]),
                 "int8" if neural else row["kv_type"].split("/")[0],
                 row["device"].partition("(")[0] if "(" in row["device"] else "")  # fmt: skip


def micro_batch(stated: str, note: str = "") -> float:
    """Tokens of a micro-batch, which holds no more than the batch that a note may state (``-b 256``): llama.cpp,
    src/llama-context.cpp, n_ubatch."""
    batch = re.search(r"(?<![\w-])-b (\d+)", note)
    return min(float(stated or UBATCH), max(float(batch[1]), 1.0) if batch else np.inf)


def neural_engine(text: str, quant: str) -> str:
    """The engine of a neural unit that a row means, with the option by which its kernels differ: activations in 16-bit
    floats (Qualcomm AI Hub: w4, in contrast to w4a16).

    Raises:
        TierwiseError: one whose kernels are not on file.
    """
    low = text.lower()
    if "qairt" in low:
        return "qairt@+float" if quant == "w4" else "qairt"
    if "rkllm" in low:
        return "rkllm"
    raise TierwiseError(f"{text}: its kernels on neural units are not on file")


def with_threads(machine: System, threads: int) -> System:
    """The machine as so many of its cores see it, where these are fewer."""
    d = machine.device
    share = {e.name: min(threads / e.units, 1.0) for e in d.engines}
    engines = tuple(replace(e, rates={k: v * share[e.name] for k, v in e.rates.items()}) for e in d.engines)
    return machine.with_device(engines=engines)


def _modern(engine: str) -> bool:
    """Whether flash attention is on where nobody says: it is by default since b6325 (llama.cpp pull request 15434)."""
    build = built(engine)[0]
    return not build or int(build) >= 6325


def engine_of(text: str, backend: str, note: str = "") -> str:
    """The engine a row means, with its build where it is one of llama.cpp's numbers, and options that change its
    kernels: ``llama.cpp@6077+hipblaslt+rocwmma``."""
    options = [o for o in OPTIONS if o in backend.lower() or re.search(rf"{o}=[1-9]", note.lower())]
    plain = _engine_of(text, backend)
    if plain in ("llama.cpp", "llama.cpp-vulkan") and (build := _built_on(note)):
        plain = f"{plain}@{build}"
    return plain + ("" if "@" in plain or not options else "@") + "".join(f"+{o}" for o in options)


def _built_on(note: str) -> int:
    """The build of the day that a note states; 0 where it states none, or one that no builds are on file for."""
    days, builds = [np.datetime64(d).astype(int) for d, _ in _DATED], [b for _, b in _DATED]
    if not (stated := re.search(r"\b20\d\d-[01]\d-[0-3]\d\b", note)):
        return 0
    try:
        day = np.datetime64(stated[0]).astype(int)
    except ValueError:
        return 0
    return int(np.interp(day, days, builds)) if days[0] <= day <= days[-1] else 0


def _engine_of(text: str, backend: str) -> str:
    low, back = text.lower(), backend.lower()
    if "mlx" in low or "mlx" in back:
        return "mlx"
    name = "ik_llama.cpp" if "ik_llama" in low else "llama.cpp"
    if "vulkan" in low or "vulkan" in back:
        name = "llama.cpp-vulkan"
    without = re.sub(r"\b[0-9a-f]{6,}\b", lambda m: m[0] if m[0].isdigit() else "", low)  # commits
    build = re.search(r"(?:\b|b)(\d{4,5})\b(?!-)", without)
    if build and not re.search(r"20\d\d-", low):
        return f"{name}@{build[1]}"
    # A commit alone is from before builds had numbers.
    return f"{name}@{UNNUMBERED}" if re.search(r"\b(?=[0-9a-f]*\d)[0-9a-f]{7,8}\b", low) else name


@lru_cache(maxsize=4096)
def machine_of(text: str, backend: str = "", count: int = 1) -> System:
    """The machine a row means: a name in parentheses first (the card in a computer), then ever shorter parts.

    Raises:
        UnknownName: none of them is a machine.
    """
    on_cpu = "cpu" in backend.lower() and "gpu" not in backend.lower()
    inside = re.findall(r"\(([^)]*)\)", text)
    outside = re.sub(r"\([^)]*\)", " ", text)
    texts = [text, outside, *inside] if on_cpu else [*inside, text, outside]
    for candidate in texts:
        for name in _parts(candidate):
            found = _known(name, on_cpu)
            if found is not None:
                return found if count == 1 else system(f"{count}x{found.device.name}")
    system(text)
    raise UnknownName("machine", text, [])


def _parts(text: str) -> Iterator[str]:
    """The name, without words about memory and cores, then every run of its words, the longest first."""
    plain = re.sub(r"[\[\],;/()]", " ", text)
    plain = re.sub(r"(?i)\b(\d+)-?core( gpu)?\b|\b\d+ ?threads?\b|\b2x\b|\bcpu\b", " ", plain)
    words = [w for w in re.sub(r"(?<=\d) (?=gb\b)", "", plain, flags=re.I).split() if w != "-"]
    yield text.strip()
    for length in range(len(words), 0, -1):
        for first in range(len(words) - length + 1):
            part = words[first : first + length]
            if length > 1 or any(c.isdigit() for c in part[0]):
                yield " ".join(part)


@lru_cache(maxsize=16384)
def _known(name: str, on_cpu: bool) -> System | None:
    if not name or len(name) > 80 or re.fullmatch(r"[\d.]+(gb)?", name.lower()):
        return None
    try:
        found = system(name)
    except TierwiseError:
        return None
    stem = re.sub(r"-\d+gb$", "", found.device.name)
    is_cpu = found.device.kind == "cpu"
    if on_cpu and not is_cpu:
        try:
            return system(re.sub(r"-\d+c$", "", stem) + "-cpu")
        except TierwiseError:
            return None
    return found


@lru_cache(maxsize=4096)
def model_of(text: str, known: str = "") -> Model:
    """The model a row means: by the catalog's name where the row gives it, else by its own without file endings and
    formats.

    Raises:
        UnknownName: nothing of that name.
    """
    if known:
        return load_model(known)
    plain = re.sub(r"(?i)\.gguf$", "", text.strip())
    plain = plain.split("/")[-1]
    tries = [plain]
    bare = re.sub(r"(?i)[-_. ](ud-)?(i1-)?(iq?\d\w*|q\d\w*|bf16|f16|fp16|mxfp4|nvfp4\S*|\d-?bit)$", "", plain)
    bare = re.sub(r"(?i)[-_. ](ud|gguf|mlx)$", "", bare)
    tries += [bare, re.sub(r"(?i)-(instruct|it|chat)(-\d{4})?$", "", bare), re.sub(r"-\d{4}$", "", bare)]
    tries += [t.split("_", 1)[1] for t in list(tries) if "_" in t]
    for name in tries:
        try:
            return load_model(name.replace(" ", "-"))
        except TierwiseError:
            continue
    raise UnknownName("model", text, [])


def weights_of(quant: str, bpw: str) -> Format:
    """The weights' format: its kernels by the mixture's name, its size by the file's.

    Raises:
        UnknownName: a mixture nobody knows.
    """
    name = re.sub(r"\(.*?\)|\bbelieved\b", " ", quant.lower()).replace(" - ", "_").strip()
    name = re.sub(r"[\s-]+", "_", name).strip("_")
    name = {"q4_k_medium": "q4_k_m", "q3_k_medium": "q3_k_m", "q4_k_small": "q4_k_s", "q3_k_small": "q3_k_s",
            "q5_k_small": "q5_k_s", "q2_k_small": "q2_k_s", "q4_k_x": "q4_k_xl"}.get(name, name)  # fmt: skip
    name = re.sub(r"^(ud_|mix_)", "", name)
    known = re.match(r"(iq\d_[a-z]+|q\d_(?:k(?:_(?:xl|[sml]))?|xxs|\d)|iq\d_k|mxfp4|b?f16|\d_?bit|iq6_k)", name)
    if known is None:
        raise UnknownName("weight format", quant or "(none given)", list(_BITS))
    key = known[1].replace("_bit", "bit")
    bits = float(bpw) if bpw else _BITS.get(key, _BITS.get(key.replace("iq", "q"), 0.0))
    if not bits:
        raise UnknownName("weight format", quant, list(_BITS))
    if key in ("f16", "bf16") and bits < 12.0:
        key = "mxfp4"  # a file of 16 bits whose experts stay as they were trained (gpt-oss)
    kernel = {"q3_xxs": "iq3_xxs", "q2_xxs": "iq2_xxs", "4bit": "int4-g64", "8bit": "int8-g64", "iq6_k": "q6_k",
              "f16": "fp16"}.get(key, key)  # fmt: skip
    return Format(re.sub(r"_k_(xl|[sml])$", "_k", kernel), bits, 0.0, "")


def stored(model: Model, weights: Format) -> Model:
    """The model with all of its weights in one format: that of a file's mean bits. Where experts were trained in 4 bits
    (gpt-oss, DeepSeek-V4), files keep these, or have fewer, and all else in what they leave of the mean, at least the
    8 bits that it was trained in."""
    own = model.formats.get("expert")
    held = float(weight_bytes(model, Plan()).get("expert", 0.0))
    if own is None or not held or float(np.max(own.bytes)) > _TRAINED_IN_FOUR or float(np.max(weights.bits)) >= 12.0:
        return replace(model, formats={"*": weights}, pinned=frozenset(), stored_bytes=None)
    four, mean = 8.0 * float(np.max(own.bytes)), float(np.max(weights.bits)) + float(np.max(weights.meta))
    share = held / (four / 8.0) / float(model.parameters)
    rest = max((mean - share * four) / (1.0 - share), _Q8_0)
    narrow = (mean - (1.0 - share) * rest) / share
    wide = Format("fp16" if rest > 12.0 else "q8_0", min(rest, 16.0), 0.0, "")
    formats = {"*": wide, "expert": replace(weights, bits=narrow, meta=0.0)}
    return replace(model, formats=formats, pinned=frozenset(LINEAR_ROLES), stored_bytes=None)


def key_value(name: str) -> Format:
    return fmt(name or "fp16")


__all__ = ["COLUMNS", "EdgeGroup", "RefusedRows", "asked", "checked", "device", "groups", "key_value", "machine_of",
           "model_of", "stored"]  # fmt: skip
