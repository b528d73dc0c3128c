"""What one group of a deployment asks of an engine, in the whole numbers and names a command line takes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, fields

from tierwise.core.errors import BadField
from tierwise.core.num import is_array
from tierwise.core.numerics import Format
from tierwise.models.types import Model
from tierwise.scenario.types import KV, Plan
from tierwise.serving.deployment import Replicas


class Env(str):
    """An argument that the machine it runs on fills in: text in which ``${NAME}`` is an environment variable."""


@dataclass(frozen=True)
class AskedEngine:
    """One engine of a group.

    Attributes:
        tp, pp, dp, ep: degrees, as in :class:`tierwise.scenario.Plan`.
        nodes: nodes one engine spans; ``local`` its devices on each.
        moe: the model has routed experts.
        weights: format of the weights where it is not the checkpoint's own, else "".
        activations: format of activations where the plan names one, else "".
        kv: format of the cache where the plan names one, else "".
    """

    tp: int
    pp: int
    dp: int
    ep: int
    nodes: int
    local: int
    moe: bool
    weights: str
    activations: str
    kv: str

    @property
    def devices(self) -> int:
        """Devices of one engine."""
        return self.tp * self.pp * self.dp


def asked(model: Model, group: Replicas) -> AskedEngine:
    """The group's engine in whole numbers.

    Raises:
        BadField: a degree that is an array or no whole number, or more devices than the machine has.
    """
    plan = group.plan
    tp, pp, dp, ep = (_whole(plan, name) for name in ("tp", "pp", "dp", "ep"))
    devices = tp * pp * dp
    if devices > group.machine.count:
        raise BadField("deployment", "plan.devices", devices, f"at most the {group.machine.count} of the machine")
    nodes = -(-devices // group.machine.per_node)
    if devices % nodes:
        raise BadField("deployment", "plan.devices", devices, f"a multiple of the {nodes} nodes it spans")
    own = {str(f) for f in model.formats.values()}
    weights = _name(plan.weights)
    key, value = _name(plan.kv.key), _name(plan.kv.value)
    return AskedEngine(
        tp, pp, dp, ep, nodes, devices // nodes, has_experts(model), "" if weights in own else weights,
        _name(plan.activations), key if key == value else f"{key or 'model'}/{value or 'model'}",
    )  # fmt: skip


def has_experts(model: Model) -> bool:
    """Whether some weights are routed experts."""
    return any(
        w.role == "expert" for s in model.stacks if s.active for layer, _ in s.runs() for b in layer.blocks
        for w in b.weights()
    )  # fmt: skip


def beyond_any(group: Replicas) -> list[str]:
    """What the group asks for that no engine here has an argument for, each as a sentence."""
    plan, settings = group.plan, group.settings
    out = []
    plain = KV()
    changed = [
        f.name
        for f in fields(KV)
        if f.name not in ("key", "value") and getattr(plan.kv, f.name) != getattr(plain, f.name)
    ]
    if changed:
        out.append(f"The KV cache changed by {_list(changed)}: the engine keeps and reads every token in full.")
    if plan.sparsity or plan.structured:
        out.append("Weights skipped as zeros: a pruned checkpoint and a kernel for it are not chosen by an argument.")
    if not plan.flash:
        out.append("Attention that writes its scores to memory: these engines fuse it.")
    if plan.placement.tensors or plan.placement.ops:
        out.append(f"Placement ({plan.placement}): no flag says it so; see the engine's offloading.")
    if plan.schedule:
        out.append(f"The schedule {plan.schedule}: an engine orders its kernels by itself.")
    if plan.framework:
        out.append(f"Kernels of the framework {plan.framework}: a serving engine brings its own.")
    if plan.imbalance != 1.0:
        out.append("`imbalance` describes the traffic of experts; it is measured, not set.")
    if plan.reserve:
        out.append("`reserve` of the plan: lower the engine's share of memory instead.")
    if settings.prefill_share:
        out.append(f"`prefill_share` {settings.prefill_share:g}: prefill and decode on parts of one device.")
    return out


def _whole(plan: Plan, name: str) -> int:
    value = getattr(plan, name)
    if is_array(value) or float(value) != int(value) or int(value) < 1:
        raise BadField("deployment", f"plan.{name}", value, "one whole number, at least 1")
    return int(value)


def _name(found: Format | None) -> str:
    return "" if found is None else str(found)


def _list(names: Iterable[str]) -> str:
    return ", ".join(f"`{n}`" for n in names)
