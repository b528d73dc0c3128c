"""A deployment: replicas of engines that serve one model, and how requests find them. The vocabulary of serving."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Literal

from tierwise.machines.types import System
from tierwise.models.types import Model
from tierwise.scenario.types import Plan

Role = Literal["both", "prefill", "decode"]


@dataclass(frozen=True)
class Speculation:
    """Draft tokens proposed ahead and verified in one step.

    Attributes:
        length: draft tokens per step along the best path; 0 for none.
        accept: probability that a draft token is right, given that those before it were.
        cost: seconds of drafting one token over those of a decode step of the model.
        tree: candidates verified per step; equal to ``length`` for a chain.
        adaptive: the length is chosen each step for the best goodput at the current batch.
    """

    length: int = 0
    accept: float = 0.7
    cost: float = 0.05
    tree: int = 0
    adaptive: bool = False


@dataclass(frozen=True)
class Settings:
    """How one engine runs; names follow vLLM's arguments where it has one.

    Attributes:
        engine: whose host times and kernels: ``vllm``, ``sglang``, ``trtllm``.
        scheduler: file of ``serving/policies/schedulers`` (or a path to one's own).
        kv: file of ``serving/policies/kv``.
        max_seqs: sequences in one step (``max_num_seqs``).
        budget: tokens in one step (``max_num_batched_tokens``).
        max_len: tokens one request may have (``max_model_len``); 0 for the model's own.
        block: tokens of one KV block.
        memory: share of the device's memory that the engine takes (``gpu_memory_utilization``).
        watermark: share of the blocks kept free when a request is admitted.
        prefix_cache: full blocks of earlier requests are reused.
        swap: preempted requests move to host memory instead of being recomputed.
        host_cache, disk_cache: bytes of further tiers of the prefix cache.
        graphs: largest batch replayed from a recorded graph; 0 for eager.
        speculation: drafts; ``adapters``: LoRA adapters held at once, ``rank`` their largest rank, ``modules`` the
            matrices they change (:mod:`tierwise.models.lora`).
        prefill_share: share of the device's units given to prefill while decode runs beside it; 0 for one after
            the other.
    """

    engine: str = "vllm"
    scheduler: str = "chunked"
    kv: str = "paged"
    max_seqs: int = 256
    budget: int = 8192
    max_len: int = 0
    block: int = 16
    memory: float = 0.9
    watermark: float = 0.01
    prefix_cache: bool = True
    swap: bool = False
    host_cache: float = 0.0
    disk_cache: float = 0.0
    graphs: int = 512
    speculation: Speculation = field(default_factory=Speculation)
    adapters: int = 0
    rank: int = 16
    modules: str = "all"
    prefill_share: float = 0.0


@dataclass(frozen=True)
class Replicas:
    """``count`` equal engines. ``plan`` is that of one engine, on ``plan.devices`` devices of ``machine``."""

    machine: System
    plan: Plan
    count: int = 1
    role: Role = "both"
    settings: Settings = field(default_factory=Settings)


@dataclass(frozen=True)
class Deployment:
    """Everything that serves one model.

    Attributes:
        groups: kinds of replicas; disaggregated where one prefills and another decodes.
        router: file of ``serving/policies/routers``; ``autoscaler``: of ``serving/policies/autoscalers``, "" for none.
        startup: seconds from asking for a replica to its first request.
        pooled: replicas share one prefix cache over the network.
        failures: (seconds, replica, seconds down) of replicas that fail.
    """

    model: Model
    groups: tuple[Replicas, ...]
    router: str = "round_robin"
    autoscaler: str = ""
    startup: float = 60.0
    pooled: bool = False
    failures: tuple[tuple[float, int, float], ...] = ()

    def with_settings(self, **changes: Any) -> Deployment:
        """The deployment with settings of every group replaced."""
        return replace(self, groups=tuple(replace(g, settings=replace(g.settings, **changes)) for g in self.groups))

    @property
    def devices(self) -> int:
        """Devices of all replicas."""
        return sum(int(g.plan.devices) * g.count for g in self.groups)

    @property
    def rent(self) -> float:
        """Dollars per second of all devices, by whole instances where a machine is rented so; nan where one has no
        known price."""
        machines = {g.machine.name: g.machine for g in self.groups}
        return sum(float(m.rent(sum(float(g.plan.devices) * g.count for g in self.groups if g.machine.name == name)))
                   for name, m in machines.items())  # fmt: skip
