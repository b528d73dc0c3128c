"""The vocabulary every room shares: a Scenario is model × machine × traffic × plan, an immutable value.

A technique is a function ``Scenario -> Scenario``; :meth:`Scenario.apply` chains them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from tierwise.core.errors import BadField
from tierwise.core.num import Num, is_zero, maximum, minimum, num
from tierwise.core.numerics import Format, fmt
from tierwise.program.placement import Placement
from tierwise.scenario.fields import OUTPUT, PROMPT

if TYPE_CHECKING:
    from tierwise.machines.types import System
    from tierwise.models.types import Model


@dataclass(frozen=True)
class Batch:
    """Equal requests that arrive together.

    Attributes:
        prompt: tokens already there when a request arrives (for an encoder: its input).
        output: tokens generated per request; 1 means the prefill's token only.
        batch: requests at once, over the whole system; ``"max"`` for as many as fit.
        images: images per request, for models that see.
        image_size: side of a square image in pixels; None for the model's own.
        workload: what is done with them, a file of ``workloads/``; ``""`` for what the model is made for.
    """

    prompt: Num = PROMPT
    output: Num = OUTPUT
    batch: Num | Literal["max"] = 1.0
    images: Num = 0.0
    image_size: float | None = None
    workload: str = ""


@dataclass(frozen=True)
class KV:
    """How the KV cache is stored and read. The defaults are a plain cache.

    The ``and_`` methods add one policy to those that are there: it composes by its meaning or is refused, never
    overwritten, so their order does not matter.

    Attributes:
        key, value: formats; None for the model's own.
        residual: newest tokens kept in the activations' format.
        keep: fraction of past tokens stored.
        budget: at most this many tokens stored.
        window: a full-precision window of the newest tokens kept whatever ``rank`` and ``keep`` say.
        rank: fraction of channels stored (low-rank projection).
        read: fraction of the stored tokens each decode step reads (sparse attention).
        read_budget: at most this many tokens read per decode step.
        selector: bits per stored key element read to choose what to read (0: nothing).
        remat: cache the layer input and recompute keys and values each step.
        shared_prefix: tokens at the start of every prompt that all requests share, stored once.
        relay: read the shared prefix once per batch, not once per request.
    """

    key: Format | None = None
    value: Format | None = None
    residual: Num = 0.0
    keep: Num = 1.0
    budget: Num = float("inf")
    window: Num = 0.0
    rank: Num = 1.0
    read: Num = 1.0
    read_budget: Num = float("inf")
    selector: Num = 0.0
    remat: bool = False
    shared_prefix: Num = 0.0
    relay: bool = False

    def policies(self) -> frozenset[str]:
        """What it does to a plain cache, by the names of ``tierwise.models.facts.POLICIES``."""
        on = {
            "format": self.key is not None or self.value is not None,
            "evict": not is_zero(1.0 - self.keep) or bool(np.any(np.isfinite(self.budget))),
            "read": not is_zero(1.0 - self.read) or bool(np.any(np.isfinite(self.read_budget)))
            or not is_zero(self.selector),
            "rank": not is_zero(1.0 - self.rank),
            "remat": self.remat,
            "prefix": not is_zero(self.shared_prefix),
            "relay": self.relay,
        }  # fmt: skip
        return frozenset(name for name, is_on in on.items() if is_on)

    def and_formats(self, key: Format, value: Format, residual: Num = 0.0) -> KV:
        """Stored in these formats.

        Raises:
            BadField: it is stored in others already.
        """
        if self.key is not None or self.value is not None:
            held = " and ".join(dict.fromkeys(str(f) for f in (self.key, self.value) if f is not None))
            raise BadField("plan", "kv.key", str(key), f"nothing more: the KV cache is already stored in {held}")
        return replace(self, key=key, value=value, residual=residual)

    def and_evicted(self, keep: Num, budget: Num) -> KV:
        """A fraction kept of the tokens kept before, and at most the smaller budget."""
        return replace(self, keep=self.keep * keep, budget=minimum(self.budget, budget))

    def and_sparse(self, read: Num, budget: Num, selector: Num) -> KV:
        """A fraction read of the tokens read before, chosen among them by another look at the keys."""
        return replace(self, read=self.read * read, read_budget=minimum(self.read_budget, budget),
                       selector=self.selector + selector)  # fmt: skip

    def and_low_rank(self, rank: Num, window: Num) -> KV:
        """A fraction stored of the channels stored before, and the longer window of whole tokens.

        Raises:
            BadField: keys and values are not stored at all.
        """
        if self.remat:
            raise BadField("plan", "kv.rank", rank, "1: the layer's input is cached, not keys and values")
        return replace(self, rank=self.rank * rank, window=maximum(self.window, window))

    def and_rematerialized(self) -> KV:
        """The layer's input cached.

        Raises:
            BadField: it is already, or keys and values are stored in fewer channels.
        """
        if self.remat:
            raise BadField("plan", "kv.remat", True, "once: the layer's input is already cached")
        if not is_zero(1.0 - self.rank):
            raise BadField("plan", "kv.remat", True, f"nothing: a fraction {self.rank} of the channels of keys and "
                           "values is cached, from which they are read and not recomputed")  # fmt: skip
        return replace(self, remat=True)

    def and_prefix(self, tokens: Num, relay: bool) -> KV:
        """The first ``tokens`` tokens shared.

        Raises:
            BadField: another number of them is.
        """
        if not is_zero(self.shared_prefix):
            raise BadField("plan", "kv.shared_prefix", tokens, f"nothing more: the first {self.shared_prefix} tokens "
                           "are already shared")  # fmt: skip
        return replace(self, shared_prefix=tokens, relay=relay)

    def stored(self, context: Num) -> Num:
        """Tokens kept of a context of that many tokens."""
        kept = minimum(context * self.keep, self.budget)
        return minimum(context, maximum(kept, self.window))

    def visited(self, context: Num) -> Num:
        """Tokens one decode step reads of a context of that many tokens."""
        stored = self.stored(context)
        return minimum(stored, maximum(minimum(stored * self.read, self.read_budget), 1.0))


@dataclass(frozen=True)
class Plan:
    """How the model runs on the machine.

    Attributes:
        tp, pp, dp, ep: tensor, pipeline, data and expert parallel degrees. ``dp`` replicates attention;
            experts spread over ``ep`` of the ``tp * dp`` devices.
        weights: format of linear weights; None for the checkpoint's own.
        activations: format of activations; None for the checkpoint's own.
        kv: storage of the KV cache.
        flash: fused attention (False writes the scores to memory).
        graphs: kernels are replayed from a recorded graph (False: launched one by one).
        framework: an eager framework that runs the model line by line (``cost/frameworks``); ``""`` for an engine's
            kernels.
        chunk: tokens of one prefill pass per device; inf for all at once.
        overlap: communication runs beside whatever compute does not wait for it.
        imbalance: load of the busiest expert rank over the mean.
        reserve: fraction of memory left to the runtime beyond the device's own reserve.
        sparsity: fraction of linear weights that are zero and skipped in storage and reading.
        structured: the zeros are 2:4 and the engine's sparse rate applies.
        library: collectives come from a library (NCCL) only, not from a serving engine's own kernels.
        mtp: run the multi-token-prediction modules.
        adapters: LoRA adapters the engine has buffers for; ``lora_rank``: their largest rank; ``lora_modules``: the
            matrices they change (:mod:`tierwise.models.lora`).
        placement: tensors that lie elsewhere than in the device's main memory, and ops computed elsewhere.
        schedule: which lane issues what in which order: a file of ``schedule/`` with its options
            (``prefetch:ahead=2``); ``""`` for one op after the other.
    """

    tp: Num = 1.0
    pp: Num = 1.0
    dp: Num = 1.0
    ep: Num = 1.0
    weights: Format | None = None
    activations: Format | None = None
    kv: KV = field(default_factory=KV)
    flash: bool = True
    graphs: bool = True
    framework: str = ""
    chunk: Num = 8192.0
    overlap: bool = False
    imbalance: Num = 1.0
    reserve: Num = 0.0
    sparsity: Num = 0.0
    structured: bool | NDArray[np.bool_] = False
    library: bool = False
    mtp: bool = False
    adapters: Num = 0.0
    lora_rank: Num = 16.0
    lora_modules: str = "all"
    placement: Placement = field(default=Placement())
    schedule: str = ""

    @property
    def devices(self) -> Num:
        """Devices the plan uses."""
        return self.tp * self.pp * self.dp


@dataclass(frozen=True)
class Applied:
    """A technique that was applied, and what it touched.

    Attributes:
        name: of the technique with its settings, for reports.
        matched: (what, how many), such as ``("layers with a cache", 32.0)``; never empty.
    """

    name: str
    matched: tuple[tuple[str, float], ...]

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(f'{n:g} {what}' for what, n in self.matched)})"


@dataclass(frozen=True, eq=False)
class Scenario:
    """What to evaluate. Scenarios of equal contents are equal, arrays included, and hash alike.

    Attributes:
        model: a Model, a catalog name, or a path to a config.json, GGUF, safetensors index or ONNX file.
        machine: a System, a name such as ``"8xh100-sxm"``, or a path to a YAML file.
        traffic: what arrives.
        plan: how it runs; None picks one (see :func:`tierwise.scenario.resolve.default_plan`).
        techniques: names of the techniques applied, in order, for reports.
        engine: the software that runs it, by name; ``""`` for the usual one.
        applied: the same with what each of them touched: a record that no answer and no comparison depends on.
    """

    model: Model | str
    machine: System | str
    traffic: Batch = field(default_factory=Batch)
    plan: Plan | None = None
    techniques: tuple[str, ...] = ()
    engine: str = ""
    applied: tuple[Applied, ...] = field(default=(), compare=False)

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    def __hash__(self) -> int:
        return _hash(self)

    def to_dict(self) -> dict[str, Any]:
        """The canonical form, in plain JSON types (``docs/scenarios.md``).

        Raises:
            TierwiseError: a model or machine given as a value holds what only Python can.
        """
        from tierwise.scenario.schema import to_dict

        return to_dict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any], where: str = "scenario") -> Scenario:
        """The scenario of a canonical form, of this version or an earlier one.

        Args:
            where: the file it is from, for errors.

        Raises:
            TierwiseError: a version from the future, an unknown field, a value of the wrong type.
        """
        from tierwise.scenario.schema import from_dict

        return from_dict(data, where)

    def save(self, path: str) -> None:
        """Write the canonical form as a YAML file; ``-`` prints it."""
        from tierwise.scenario.files import save

        save(self, path)

    @classmethod
    def load(cls, path: str) -> Scenario:
        """The scenario in a YAML or JSON file that :meth:`save` or ``--save`` wrote, or somebody did by hand."""
        from tierwise.scenario.files import load

        return load(path)

    @property
    def hash(self) -> str:
        """64 hexadecimal digits over everything the answer follows from (:mod:`tierwise.scenario.hash`)."""
        from tierwise.scenario.hash import scenario_hash

        return scenario_hash(self)

    def apply(self, *techniques: Callable[[Scenario], Scenario]) -> Scenario:
        """The scenario with techniques applied left to right."""
        out = self
        for technique in techniques:
            out = technique(out)
        return out

    def resolved(self) -> Resolved:
        """The scenario with names looked up and a plan chosen.

        Raises:
            UnknownName, BadField: a name or degree that does not exist or cannot be.
        """
        from tierwise.scenario.resolve import resolve

        return resolve(self)

    def with_plan(self, **changes: Any) -> Scenario:
        """The scenario with fields of its plan replaced; names of formats and plain numbers are accepted."""
        for key in ("weights", "activations"):
            if changes.get(key) is not None:
                changes[key] = fmt(changes[key])
        for key in ("tp", "pp", "dp", "ep", "chunk", "imbalance", "sparsity", "reserve"):
            if key in changes:
                changes[key] = num(changes[key])
        base = self.plan if self.plan is not None else self.resolved().plan
        return replace(self, plan=replace(base, **changes))

    def with_traffic(self, **changes: Any) -> Scenario:
        """The scenario with fields of its traffic replaced."""
        return replace(self, traffic=replace(self.traffic, **changes))


@dataclass(frozen=True, eq=False)
class Resolved:
    """A scenario whose every part is a value, ready to evaluate."""

    model: Model
    machine: System
    traffic: Batch
    plan: Plan
    techniques: tuple[str, ...] = ()
    engine: str = ""
    applied: tuple[Applied, ...] = ()

    def __eq__(self, other: object) -> bool:
        return _same(self, other)

    def __hash__(self) -> int:
        return _hash(self)


def _same(a: Any, b: Any) -> bool:
    """Whether two dataclasses of one class have equal contents; dataclasses' own ``==`` stumbles over arrays."""
    from tierwise.scenario.content import same

    names = [f.name for f in fields(a) if f.compare]
    return type(a) is type(b) and all(same(getattr(a, name), getattr(b, name)) for name in names)


def _hash(a: Any) -> int:
    from tierwise.scenario.content import encode_any, text

    return hash(tuple(text(encode_any(getattr(a, f.name))) for f in fields(a) if f.compare))
