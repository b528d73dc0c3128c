"""How a framework trains: which numbers it keeps in which format, and what its steps were measured to reach."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.errors import BadField, UnknownName
from tierwise.core.num import Num
from tierwise.core.numerics import fmt
from tierwise.core.units import whole
from tierwise.training.optimizers import OPTIMIZERS

FOLDER = Path(__file__).with_name("frameworks")
FAMILIES = FOLDER.with_name("families.yaml")


@dataclass(frozen=True)
class Recipe:
    """Formats of what training keeps, bytes a parameter.

    Attributes:
        parameters: of the working copy. ``gradients``: of what is accumulated. ``also``: of gradients beside it (those
            that autograd leaves before they are added). ``master``: of the weights that the optimizer updates.
        waits: 1 where a pass waits for gradients of fully sharded weights to reach the host, if that updates them
            (DeepSpeed's stage 3 until 2024); 0 copies them beside it.
        apart: 1 where a product writes the gradients of its weights by themselves, and a kernel adds them to those that
            are kept (autograd without fused accumulation); so it is wherever there are any ``also``.
        optimizer: a key of :data:`OPTIMIZERS`. ``projection``: rank of what it projects gradients to.
        reduced: of a gradient on the wire. ``logits``: of a logit and its gradient while the loss is taken (16 bits,
            fp32, and the gradient in fp32).
        gathered: 1 where inputs that sequence parallelism gathers are kept whole for the backward pass, and 0 where
            they are gathered again.
        compact: share of its width in which each linear map of a layer keeps its input for the backward pass, by random
            projections; its gradient and optimizer states are as thin (CompAct, arXiv:2410.15352). 1 keeps it whole.
        transient: 1 where gradients are freed after every step. With one micro-batch they then come as activations go,
            and only what they have more adds to the peak.
        dropout: 1 where the residual stream has dropout, whose masks (a byte an element, twice a layer) are kept.
        precision: arithmetic of matrix products, a number format.
        scans: 1 where the scale of a tensor that is put into fewer bits is found by a pass over it before (current or
            dynamic scaling); 0 where it is that of earlier steps (delayed scaling) or of blocks.
        rank: of low-rank adapters, which alone are trained (LoRA, arXiv:2106.09685); 0 trains all. ``adapted``: maps of
            a layer that have them, by the last part of their name, and how many of the parts that are fused into one
            map; without, every linear map.
        magnitudes: 1 where each map's columns have trained lengths beside adapters (DoRA, arXiv:2402.09353).
            ``prefix``: trained keys and values in front of every sequence, of each layer, and nothing else that is
            trained (prefix tuning, arXiv:2101.00190).
        inputs: 1 where products of frozen weights keep inputs of their own for a backward pass that needs none (of
            four-bit weights: bitsandbytes' MatMul4Bit).
        mixed: 1 where adapters lie in one sharded unit with the frozen weights of their layer.
        slices: maps of a layer of which a share of the inputs is trained, and nothing else, by the last part of their
            name: ``(("o_proj", 0.05), ("down", 0.02))`` (S2FT, arXiv:2412.06289).
        forwards: forward passes of a micro-batch from which a step is told without a backward pass (zeroth-order:
            two, under weights that are disturbed either way; arXiv:2305.17333); 0 trains by gradients. ``noise``:
            tensors as large as a weight that changing it takes.
        loss: bytes that the loss reads and writes for a logit, and that its gradient does: of every kernel that the
            framework runs for it.
        beside: 1 where collectives of tensor parallelism in the backward pass run beside gradients of weights.
        passing: 1 where interleaved stages hand over beside their work, but while the pipeline fills and empties
            (Megatron-Core's ``overlap_p2p_comm``, its default). Other schedules wait for each message.
        cut: 1 where what stages hand over is cut among a tensor-parallel group for the way and gathered there
            (Megatron-LM's ``scatter_gather_tensors_in_pipeline``, the default until sequence parallelism did so).
        returns: 1 where new parameters of a shared update are gathered beside the next step's forward pass
            (Megatron-Core's ``overlap_param_gather``); 0 where it begins when all of them are there. ``turns``: 1 where
            every device broadcasts those it has updated, one after the other.
        around: bytes a parameter that kernels around the update read and write: unscaling and clipping gradients, their
            norm, zeroing them, copying weights back to the working copy.
        stops: 1 where recomputing a layer stops at the last tensor that its backward pass needs, before the product
            that ends it (torch.utils.checkpoint, without reentrance, since PyTorch 2.1).
        dispatch: 1 where a token goes once to every node that holds one of its experts (DeepEP, HybridEP), sorted by
            expert on the way; 0 sends every copy by the library's all-to-all, sorted before and behind it.
        aside: 1 where tokens travel to experts beside another micro-batch's work.
        grouped: 1 where a layer's experts are two kernels with activation and casting in them; 0 launches each
            expert's products by themselves.
        streams: products of single experts that run beside each other, so that one begins while the last tiles of
            another are done (Transformer Engine's GroupedLinear deals them to four streams).
        ahead: 1 where modules that predict tokens further ahead are trained too (MTP, arXiv:2412.19437, section 2.2):
            each a layer and a pass of the head more.
        graphs: what the host launches as a graph instead of one by one: one of :data:`GRAPHS`.
        lines: 1 where norms and activations are lines of PyTorch, as in `transformers`' modules, which keep more than
            one kernel for each does (:mod:`tierwise.training.lines`). ``casts``: 1 where such norms work in fp32, as
            `transformers`' do, 0 where they work in the stream's format.
        older_attention: 1 where fused attention was written for instructions before Hopper's (FlashAttention-2).
        queries: 1 where queries go round the ranks of context parallelism in a backward pass, with their gradients and
            those of the output, in place of keys, values and the gradients of both (BurstAttention, arXiv:2403.09347,
            algorithm 2).
        score: bytes of a score of unfused attention that are there at once: it and its softmax in 16 bits, or in a
            backward pass the gradients of both. Lines of PyTorch that take the softmax of fp16 in fp32 and cast it: 8
            in a forward pass.
    """

    parameters: float = 2.0
    gradients: float = 4.0
    also: float = 0.0
    master: float = 4.0
    optimizer: str = "adamw"
    reduced: float = 4.0
    logits: float = 10.0
    gathered: float = 0.0
    compact: float = 1.0
    transient: float = 0.0
    dropout: float = 0.0
    precision: str = "bf16"
    rank: float = 0.0
    adapted: tuple[tuple[str, float], ...] = ()
    magnitudes: float = 0.0
    prefix: float = 0.0
    inputs: float = 0.0
    mixed: float = 0.0
    slices: tuple[tuple[str, float], ...] = ()
    projection: float = 0.0
    forwards: float = 0.0
    noise: float = 0.0
    loss: tuple[float, float] = (6.0, 8.0)
    beside: float = 0.0
    passing: float = 0.0
    cut: float = 0.0
    returns: float = 0.0
    turns: float = 0.0
    older_attention: float = 0.0
    around: float = 0.0
    stops: float = 0.0
    dispatch: float = 0.0
    aside: float = 0.0
    grouped: float = 0.0
    streams: float = 1.0
    ahead: float = 0.0
    graphs: str = "none"
    score: float = 4.0
    lines: float = 0.0
    casts: float = 1.0
    queries: float = 0.0
    scans: float = 1.0
    apart: float = 0.0
    waits: float = 0.0

    @property
    def frozen(self) -> bool:
        """Whether most weights have no gradients."""
        return self.rank > 0 or bool(self.slices) or self.prefix > 0

    @property
    def adds(self) -> bool:
        """Whether a kernel of its own adds up gradients of weights."""
        return self.also > 0 or self.apart > 0

    @property
    def low(self) -> bool:
        """Whether products are in fewer than 16 bits."""
        return self.precision not in ("bf16", "fp16")

    @property
    def states(self) -> float:
        """Bytes of optimizer state, master weights included."""
        return OPTIMIZERS[self.optimizer] + self.master

    @property
    def update(self) -> float:
        """Bytes that an update of one parameter reads and writes, those of :data:`SHAPED` apart. Zeroth-order passes
        disturb the weights twice, put them back and then update them, each with random numbers made again."""
        if self.forwards > 0:
            return (self.forwards + 2.0) * 2.0 * self.parameters
        return self.gradients + 2.0 * self.states + self.parameters + self.around


# Nothing; routers alone; all of a layer but what follows the choice of experts; whole steps (arXiv:2603.07685).
GRAPHS = ("none", "router", "layers", "step")


def method(text: str, base: Recipe) -> Recipe:
    """The recipe of a way to fine-tune: ``full``, ``lora:r=16``, ``qlora:r=16``, ``dora:r=16``, ``prefix:n=20``,
    ``zeroth`` (MeZO, arXiv:2305.17333), ``sliced:o_proj=0.05,down=0.02`` (S2FT, arXiv:2412.06289).

    Frozen weights of ``qlora`` are in NF4 (arXiv:2305.14314).

    Raises:
        UnknownName, BadField: no such way, or no such option.
    """
    name, _, rest = text.partition(":")
    if name not in METHODS:
        raise UnknownName("method", name, METHODS, f"(there are {', '.join(METHODS)})")
    if name in ("full", "zeroth"):
        if rest:
            raise BadField("--method", name, rest, "nothing after it")
        # Random numbers, the slope times them, the decayed weight and the sum of both (MeZO's update, as ZO2's zo.py).
        alone = {"gradients": 0.0, "also": 0.0, "master": 0.0, "optimizer": "sgd", "forwards": 2.0, "noise": 4.0}
        return base if name == "full" else replace(base, **alone)  # type: ignore[arg-type]
    if name == "sliced":
        return replace(base, slices=_slices(rest))
    if name == "prefix":
        key, _, value = (rest or "n=20").partition("=")
        if key != "n" or not whole(value, MOST_PREFIX):
            raise BadField("--method", name, rest, f"n=TOKENS, a whole number from 1 to {MOST_PREFIX:,}")
        return replace(base, prefix=float(value))
    given, _, maps = (rest or "r=16").partition(",on=")
    key, _, value = given.partition("=")
    if key not in ("r", "rank") or not whole(value) or ("," in rest and not maps):
        raise BadField("--method", name, rest, "r=RANK, a whole number of at least 1; maps behind it: "
                       "r=16,on=qkv_proj+o_proj")  # fmt: skip
    held = fmt("nf4").bytes if name == "qlora" else base.parameters
    on = tuple((part, float("inf")) for part in maps.split("+") if part)
    return replace(base, parameters=float(held), rank=float(value), adapted=on, inputs=float(name == "qlora"),
                   magnitudes=float(name == "dora"))  # fmt: skip


METHODS = ("full", "lora", "qlora", "dora", "prefix", "sliced", "zeroth")
MOST_PREFIX = 1_000_000


def _slices(text: str) -> tuple[tuple[str, float], ...]:
    """Maps of a layer with the share of each that is trained."""
    out = []
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        try:
            share = float(value)
        except ValueError:
            share = 0.0
        if not 0 < share <= 1:
            raise BadField("--method", f"sliced: {name}", value or None, "a share above 0, at most 1: o_proj=0.05")
        out.append((name, share))
    if not out:
        raise BadField("--method", "sliced", None, "maps with the share that is trained: sliced:o_proj=0.05,down=0.02")
    return tuple(out)


# How gradients may be sent.
COMPRESSIONS = ("none", "int8", "topk", "powersgd")


@dataclass(frozen=True)
class Compression:
    """How gradients are sent.

    Attributes:
        kind: one of :data:`COMPRESSIONS`.
        value: the share that is sent (``topk``) or the rank (``powersgd``).
    """

    kind: str = "none"
    value: float = 0.0


def compression(text: str) -> Compression:
    """``none``, ``int8``, ``topk:0.01`` or ``powersgd:4``.

    Raises:
        UnknownName, BadField: no such way, or a number that it cannot have.
    """
    kind, _, rest = text.partition(":")
    if kind not in COMPRESSIONS:
        raise UnknownName("gradient compression", kind, COMPRESSIONS)
    if kind in ("none", "int8"):
        if rest:
            raise BadField("--compress", kind, rest, "nothing after it")
        return Compression(kind)
    try:
        value = float(rest)
    except ValueError:
        value = 0.0
    if not 0 < value < math.inf or (kind == "topk" and value > 1) or (kind == "powersgd" and not whole(rest)):
        allowed = "the share that is sent, topk:0.01" if kind == "topk" else "a whole rank, powersgd:4"
        raise BadField("--compress", kind, rest or None, allowed)
    return Compression(kind, value)


@dataclass(frozen=True)
class TrainingFramework:
    """A framework that trains.

    Attributes:
        recipe: formats it keeps.
        matmul, attention, memory, link: factors on the time of matrix products in 16 bits, of attention, of kernels
            that memory binds and of collectives of a layer: what was measured over what single ops were, and of
            products over what the device family sustains.
        low: as ``matmul``, of products in fewer bits. ``routed``: of kernels around experts, over `memory`.
        exposed: share of the traffic that averages a step's gradients which compute does not hide, of all frameworks.
        contended: how many times what collectives beside every layer's work (ZeRO-3's) take of the device that work
            takes longer (:mod:`tierwise.training.contention`): the library's, of all frameworks.
        far: power of the number of nodes by which data-parallel traffic over them is slower than on its own fabric.
        launch: host seconds an op; a pass is never faster than its launches.
        overhead: bytes of buffers and fragmentation on every device; ``saves``: activations kept over those that the
            ops of the backward pass need.
        interval: factors on a step's time that 80 % of measurements lie between; ``routed_interval`` of models with
            experts, ``memory_interval`` of memory.
        most_zero: what it divides over replicas at most, a ZeRO stage.
        schedules: of pipelines that it can run.
        compress: how gradients are sent.
        source: data, rows and date.
    """

    name: str
    recipe: Recipe = field(default_factory=Recipe)
    matmul: Num = 1.0
    low: Num = 1.0
    routed: Num = 1.0
    attention: Num = 1.0
    memory: Num = 1.0
    link: Num = 1.0
    exposed: Num = 0.3
    contended: Num = 0.0
    far: Num = 0.0
    launch: Num = 0.0
    overhead: Num = 0.0
    saves: Num = 1.0
    interval: tuple[float, float] = (1.0, 1.0)
    routed_interval: tuple[float, float] | None = None
    memory_interval: tuple[float, float] = (1.0, 1.0)
    most_zero: float = 3.0
    schedules: tuple[str, ...] = ("one_f_one_b",)
    compress: Compression = field(default_factory=Compression)
    source: str = ""


@dataclass(frozen=True)
class SustainedRates:
    """How a family's devices train, beside what short runs of single kernels were measured to.

    Attributes:
        matmul, low: factors on the time of matrix products in 16 bits, and in fewer.
        older: what fused attention written for earlier devices reaches of what is written for the family's own.
    """

    matmul: float = 1.0
    low: float = 1.0
    older: float = 1.0


@cache
def sustained(family: str) -> SustainedRates:
    """What is on file of a device family; as measured where nothing is."""
    return SustainedRates(**_known(SustainedRates, _shared()["families"].get(family, {}), FAMILIES))


@cache
def _shared() -> dict[str, Any]:
    import yaml

    data: dict[str, Any] = yaml.safe_load(FAMILIES.read_text(encoding="utf-8"))
    return data


def frameworks() -> tuple[str, ...]:
    """Every framework there is a file for."""
    return tuple(sorted(p.stem for p in FOLDER.glob("*.yaml")))


@cache
def framework(name: str) -> TrainingFramework:
    """A framework by name.

    Raises:
        UnknownName: there is no such file.
        BadField: a field it cannot have.
    """
    import yaml

    if name not in frameworks():
        raise UnknownName("training framework", name, frameworks())
    path = FOLDER / f"{name}.yaml"
    data: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    recipe = Recipe(**_known(Recipe, data.pop("recipe", {}), path))
    recipe = replace(recipe, loss=(float(recipe.loss[0]), float(recipe.loss[1])))
    for key in ("interval", "routed_interval", "memory_interval"):
        if key in data:
            data[key] = tuple(map(float, data[key]))
    data = {name: _shared()[name] for name in ("contended", "exposed")} | data
    if "schedules" in data:
        data["schedules"] = tuple(data["schedules"])
    return TrainingFramework(name, recipe, **_known(TrainingFramework, data, path))


def _known(kind: type, data: Mapping[str, Any], path: Path) -> dict[str, Any]:
    names = {f.name for f in fields(kind)}
    for key in data:
        if key not in names:
            raise BadField(path.name, key, data[key], "one of " + ", ".join(sorted(names)))
    return dict(data)
