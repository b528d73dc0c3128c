"""Serving engines: one folder each, found by its place.

``NAME/engine.yaml`` says what the engine does by default and which GPUs it runs on. An engine that launch files are
written for also has ``launch.py`` and ``flags.yaml`` (see :mod:`tierwise.launch`). ``typical`` stands for an engine of
which nothing is known.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.yamltext import Malformed, parsed

HERE = Path(__file__).parent
TYPICAL = "typical"
# Kernels priced alone, with no engine and no host around them.
KERNELS = "kernels"
# The engine that is meant where nobody names one: the most widely used of those on file.
DEFAULT = "vllm"
# Where pipelines put layers that are left over: before the last stage, first, or last.
EXTRA_LAYERS = ("middle", "first", "last")


@dataclass(frozen=True)
class EngineDefaults:
    """What an engine does by default.

    Attributes:
        graph_steps: (first size, distance) from which recorded batch sizes lie that far apart, ascending.
        extra_graph_sizes: sizes recorded besides.
        graph_sizes_per_sequence: sizes reach at most so many times the sequences of a step.
        graphs_with_prefill: steps with prefill are replayed too, where they are no larger than the largest size.
        schedules_ahead: the next step is put together while one runs.
        shared_attention_families: families of devices on which one attention kernel serves prefill and decoding rows
            of a step together.
        attention_tile: query rows of that kernel's tile, 0 where there is none.
        memory_share: of a device's memory that it takes, and ``memory_share_of`` what (see
            :class:`tierwise.memory.account.MemoryRules`); ``logit_bytes``: bytes its sampler holds for each logit at
            its worst; ``budget``, ``max_seqs``: tokens and sequences of its largest step.
        extra_layers: which pipeline stages hold one layer more where layers do not divide (see
            :mod:`tierwise.memory.stages`).
        chunks_follow_since: with pipeline stages, the first version whose scheduler sends a prompt's next chunk into
            the first stage while the one before is in a later one; ``""`` where every version does.
        window_share: tokens that layers with a window have room for over those of the other layers, where an engine
            divides its caches once and for all; None where a sequence gives back what lies before the window.
        prefix_states: further recurrent states of a running sequence that its prefix cache keeps.
        padded: by format, the multiples that it rounds an expert's (outer, inner) width on a device up to, by family
            of devices (``any``: those not named).
        gpu_families: families of GPUs it is documented to run on; None where nothing is documented.
        source: where the facts of its steps stand.
        framework: how it runs graphs that no engine steps, such as images (``cost/frameworks``); ``""`` for kernels
            alone.
        usual_on: families of devices on which it is what people run, where nobody names an engine.
        fork_of: the engine that it is a fork of, whose kernels it has where it brings none of its own.
        upload_rows: tokens from which weights that lie on the host are copied to the device and multiplied there (inf:
            never); ``upload_spread``: of routed experts, as many for each that a token does not take.
        whole_graph: it reserves the largest graph it may build (:class:`tierwise.memory.account.MemoryRules`).
        one_socket: of a host with several sockets it gets the memory of one: its threads read pages wherever they were
            loaded first, and gain nothing by a second.
        formats: formats of weights that are its own, as patterns of their names in lower case; empty where it has none.
            ``files``: by the format of a checkpoint's experts, that of the file it is published as for the engine.
        latent_prompts, masked: how it computes latent and sparse attention (:mod:`tierwise.models.attending`).
        host: the engine whose kernels the host's processors run under it, where it brings none for them.
    """

    name: str
    graph_steps: tuple[tuple[int, int], ...]
    extra_graph_sizes: tuple[int, ...]
    graph_sizes_per_sequence: float
    graphs_with_prefill: bool
    schedules_ahead: bool
    shared_attention_families: frozenset[str]
    attention_tile: int
    memory_share: float
    memory_share_of: str
    logit_bytes: float
    budget: int
    max_seqs: int
    extra_layers: str
    window_share: float | None
    gpu_families: frozenset[str] | None
    source: str
    framework: str = ""
    usual_on: frozenset[str] = frozenset()
    fork_of: str = ""
    upload_rows: float = float("inf")
    upload_spread: bool = False
    one_socket: bool = False
    whole_graph: bool = False
    formats: tuple[str, ...] = ()
    files: Mapping[str, str] = field(default_factory=dict)
    latent_prompts: bool = False
    masked: bool = False
    host: str = ""
    prefix_states: float = 0.0
    padded: Mapping[str, Mapping[str, tuple[int, int]]] = field(default_factory=dict)
    chunks_follow_since: str = ""

    def graph_sizes(self, max_seqs: int, largest: int) -> NDArray[np.int64]:
        """Batch sizes replayed from recorded graphs, ascending; empty when ``largest`` is 0."""
        most = min(int(self.graph_sizes_per_sequence * max_seqs), largest)
        ends = [first for first, _ in self.graph_steps[1:]] + [most + 1]
        ranges = [np.arange(first, end, step) for (first, step), end in zip(self.graph_steps, ends, strict=False)]
        sizes = np.unique(np.concatenate([np.asarray(self.extra_graph_sizes, np.int64), *ranges]))
        return sizes[sizes <= most].astype(np.int64)

    def chunks_follow(self, engine: str) -> bool:
        """Whether chunks of one prompt follow each other through pipeline stages in the version that an engine is asked
        for by (``trtllm@1.1``); without one, in the newest."""
        asked, since = (re.findall(r"\d+", x) for x in (engine.partition("@")[2], self.chunks_follow_since))
        return not asked or [*map(int, asked)] >= [*map(int, since)]

    def runs_on(self, kind: str, family: str) -> bool:
        """Whether it is documented to run on a GPU; other kinds of machine are taken at the asker's word."""
        return kind != "gpu" or self.gpu_families is None or family in self.gpu_families


def names() -> tuple[str, ...]:
    """Engines on file."""
    return _names(HERE)


@cache
def _names(folder: Path) -> tuple[str, ...]:
    """Asked for with every price, so that the folder is looked through once."""
    return tuple(name for name in sorted(p.parent.name for p in folder.glob("*/engine.yaml")) if name != TYPICAL)


def plain(name: str) -> str:
    """An engine's name without the version it may be asked for by: ``vllm`` of ``vllm@0.24``."""
    return name.partition("@")[0]


def usual(family: str) -> str:
    """The engine that people run on a family of devices, as its file says; ``""`` where none does."""
    return _usual().get(family, "")


@cache
def _usual() -> dict[str, str]:
    return {family: name for name in names() for family in _load(name).usual_on}


def of_format(form: str, family: str) -> str:
    """The engine to name for weights in a format on a family of devices: ``""``, its usual one, where that reads the
    format or no engine has it for its own; else, of those that have, the one that people run most widely."""
    own = [name for name in names() if any(fnmatchcase(form.lower(), p) for p in _load(name).formats)]
    if not own or usual(family) in own:
        return ""
    return max(own, key=lambda name: len(_load(name).usual_on))


def launchable() -> tuple[str, ...]:
    """Engines that launch files can be written for."""
    return tuple(name for name in names() if (HERE / name / "launch.py").exists())


def load(name: str = "") -> EngineDefaults:
    """An engine's facts, whichever version is asked for; ``""`` is a typical one.

    Raises:
        UnknownName: there is no folder of that name.
        TierwiseError, BadField: its file is wrong; says where.
    """
    name = plain(name)
    if name and name not in names():
        raise UnknownName("engine", name, names(), f"Allowed: {', '.join(names())}.")
    return _load(name or TYPICAL)


@cache
def _load(name: str) -> EngineDefaults:
    path = HERE / name / "engine.yaml"
    where = f"engines/{name}/engine.yaml"
    try:
        data: Any = parsed(path.read_text(encoding="utf-8"))
    except Malformed as error:
        raise TierwiseError(f"{where}{error.place}: not valid YAML: {error.problem}") from None
    steps, gpus = _part(data, "steps", where), None
    _only(steps, _STEPS, f"{where}: steps")
    # An engine that says nothing of its memory lays it out as most do.
    typical = {} if "memory" in data else parsed((HERE / TYPICAL / "engine.yaml").read_text(encoding="utf-8"))
    memory = _part({**typical, **data}, "memory", where)
    _only(
        memory,
        ("share", "of", "logit_bytes", "budget", "max_seqs", "source"),
        f"{where}: memory",
        ("window_share", "whole_graph", "prefix_states", "padded"),
    )
    pipeline = _part({**typical, **data}, "pipeline", where) if "pipeline" in {**typical, **data} else {}
    _only(pipeline, ("extra_layers", "source") if pipeline else (), f"{where}: pipeline", ("chunks_follow_since",))
    extra = pipeline.get("extra_layers", "middle")
    if extra not in EXTRA_LAYERS:
        raise BadField(f"{where}: pipeline", "extra_layers", extra, ", ".join(EXTRA_LAYERS))
    if "gpus" in data:
        gpus = _part(data, "gpus", where)
        _only(gpus, ("families", "source"), f"{where}: gpus")
    usual_on: frozenset[str] = frozenset()
    if "usual_on" in data:
        part = _part(data, "usual_on", where)
        _only(part, ("families", "source"), f"{where}: usual_on")
        usual_on = frozenset(part["families"])
    upload = _part(data, "upload", where) if "upload" in data else {}
    _only(upload, ("rows", "spread", "source") if upload else (), f"{where}: upload")
    numa = _part(data, "numa", where) if "numa" in data else {}
    _only(numa, ("one_socket", "source") if numa else (), f"{where}: numa")
    host = _part(data, "host", where) if "host" in data else {}
    _only(host, ("engine", "source") if host else (), f"{where}: host")
    attention = _part(data, "attention", where) if "attention" in data else {}
    _only(attention, ("latent_prompts", "masked", "source") if attention else (), f"{where}: attention")
    formats: tuple[str, ...] = ()
    files: dict[str, str] = {}
    if "formats" in data:
        part = _part(data, "formats", where)
        _only(part, ("own", "source"), f"{where}: formats", ("files",))
        formats, files = tuple(map(str, part["own"])), dict(part.get("files", {}))
    pairs = tuple((int(first), int(step)) for first, step in steps["graph_sizes"])
    return EngineDefaults(
        name, pairs, tuple(map(int, steps["extra_graph_sizes"])), float(steps["graph_sizes_per_sequence"]),
        bool(steps["graphs_with_prefill"]), bool(steps["schedules_ahead"]),
        frozenset(steps["shared_attention_families"]), int(steps.get("attention_tile", 0)),
        float(memory["share"]), str(memory["of"]), float(memory["logit_bytes"]), int(memory["budget"]),
        int(memory["max_seqs"]), str(extra),
        None if memory.get("window_share") is None else float(memory["window_share"]),
        None if gpus is None else frozenset(gpus["families"]), str(steps["source"]),
        str(data.get("framework", "")), usual_on, str(data.get("fork_of", "")),
        float(upload.get("rows", "inf")), bool(upload.get("spread", False)), bool(numa.get("one_socket", False)),
        bool(memory.get("whole_graph", False)), formats, files, bool(attention.get("latent_prompts", False)),
        bool(attention.get("masked", False)), str(host.get("engine", "")),
        float(memory.get("prefix_states", 0.0)),
        {f: {k: (int(a), int(b)) for k, (a, b) in by.items()} for f, by in memory.get("padded", {}).items()},
        str(pipeline.get("chunks_follow_since", "")),
    )  # fmt: skip


_STEPS = (
    "graph_sizes", "extra_graph_sizes", "graph_sizes_per_sequence", "graphs_with_prefill", "schedules_ahead",
    "shared_attention_families", "source",
)  # fmt: skip


def _part(data: Any, name: str, where: str) -> dict[str, Any]:
    found = data.get(name) if isinstance(data, dict) else None
    if not isinstance(found, dict):
        raise BadField(where, name, found, "a mapping; see docs/launch.md")
    return found


def _only(found: dict[str, Any], needed: tuple[str, ...], where: str, besides: tuple[str, ...] = ()) -> None:
    """Refuse a part that lacks fields, all told at once, or that has one nobody reads."""
    if lacking := [n for n in needed if n not in found]:
        raise BadField(where, "fields", sorted(found), f"also {', '.join(lacking)}")
    for name, value in found.items():
        if name not in (*needed, *besides, "attention_tile"):
            raise BadField(where, name, value, f"only {', '.join((*needed, *besides))} and attention_tile")
