"""Models divided over a device and the computer around it, layer by layer: what does not fit is computed where it lies.

As llama.cpp divides them (``-ngl``, ``--n-cpu-moe``, ``--no-kv-offload``): the first layers, or their experts alone,
stay in the host's memory and are computed by its processors; for prompts of many tokens their weights are copied to the
device and multiplied there.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise import engines
from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.num import Num, is_zero, num
from tierwise.cost import Target, efficiency
from tierwise.cost.nodes import at
from tierwise.cost.paths import path
from tierwise.models.facts import facts_of
from tierwise.models.marks import decoder, experts_of, marked, spread
from tierwise.models.types import Stack
from tierwise.program.placement import ANY, Placement
from tierwise.scenario.types import Resolved, Scenario
from tierwise.techniques._make import MANY, NothingMatched, Technique, applied, changed, within

# Marks of layers by what of them the host holds and computes.
MOST_SKEW = 4.0  # the first of a hundred experts then takes nine tenths of all tokens
LAYERS, EXPERTS, CACHES, FEED = "host", "host-experts", "host-caches", "host-feed-forward"


def partial_offload(
    layers: Num = 0.0, experts: Num = 0.0, caches: Num = 0.0, feed_forward: Num = 0.0, missed: Num = 0.0,
    disk: str = "", upload: Num | None = None, embed: bool = True, skew: Num = 0.0,
) -> Technique:  # fmt: skip
    """Layers, or the experts of layers, stay in the host's memory and its processors compute them (llama.cpp, -ngl and
    --n-cpu-moe).

    Args:
        layers: how many, the first ones: weights, cache and computing; of a pipeline, as many of each stage.
        experts: layers whose routed experts do, counted likewise.
        caches: layers whose KV cache and attention do.
        feed_forward: layers whose feed-forward part does; attention and caches stay on the device.
        missed: share of what the host holds of weights that each step reads again from ``disk`` (``nvme``), through
            the page cache.
        upload: tokens from which weights are copied to the device and multiplied there; what the engine does by
            default, inf for never.
        embed: the table of embeddings stays on the host too.
        skew: Zipf exponent of how often experts are chosen; ``missed`` is then what the page cache has no room for, of
            which less is read.

    Example: ``partial_offload:layers=8``
    """
    within("partial_offload", 0, MANY, layers=layers, experts=experts, caches=caches, feed_forward=feed_forward)
    within("partial_offload", 0, 1, missed=missed)
    within("partial_offload", 0, MOST_SKEW, skew=skew)
    if upload is not None:
        within("partial_offload", 0, float("inf"), upload=upload)
    name = _name(layers, experts, caches, feed_forward, missed, disk)

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        at(Target(r.machine, efficiency(r.machine.device)), "host")  # refuses a machine whose processors are unknown
        stack = decoder(r.model)
        if stack is None:
            raise NothingMatched(name, r.model.name, "nothing in it decodes")
        _check(stack, float(layers), float(experts), float(caches), float(feed_forward))
        marks = _marks(stack, int(float(np.max(r.plan.pp))), int(layers), int(experts), int(caches), int(feed_forward))
        placement = _placement(r, num(missed), disk, _uploads(r, upload), embed, set(marks.values()), num(skew))
        model = marked(r.model, marks)
        plan = replace(r.plan, placement=placement)
        what = (("layers on the host", float(layers)), ("layers with experts on the host", float(experts)),
                ("layers with caches on the host", float(caches)),
                ("layers with feed-forward parts on the host", float(feed_forward)))  # fmt: skip
        if not marks:
            return applied(replace(s, plan=plan), name, (("embedding", 1.0 * embed),), r.model.name)
        return replace(changed(replace(s, plan=plan), name, r, model, what), plan=plan)

    return technique


def read_from_disk(
    share: Num, disk: str = "nvme", experts: bool = False, skew: Num = 0.0, foreseen: Num = 1.0
) -> Technique:
    """Weights that memory does not hold are read from a disk as they are needed, through the page cache.

    Args:
        share: of the weights that each step reads anew (1 for a sweep larger than memory, which finds nothing).
        disk: where they lie.
        experts: of routed experts alone; all others are in memory.
        skew: Zipf exponent of how often experts are chosen: ``share`` is then what memory has no room for, and a step
            reads what it needs of that beyond the ones used last (warm; :mod:`tierwise.program.residency`).
        foreseen: share of the experts to read that a predictor knows before their layer's router has run, which a
            schedule (``prefetch``) then reads ahead; as many as it does not know are read in vain.

    Example: ``read_from_disk:share=0.5,experts=true,skew=0.8``
    """
    if not experts and not (is_zero(skew) and np.all(np.asarray(foreseen) >= 1.0)):
        raise TierwiseError("read_from_disk: skew and foreseen are of experts; say experts=true")
    within("read_from_disk", 0, MOST_SKEW, skew=skew)
    within("read_from_disk", 0, 1, share=share, foreseen=foreseen)
    name = f"{float(np.max(share)):.0%} of the {'experts' if experts else 'weights'} read from {disk} each step"
    if not is_zero(skew):
        name += f" but popular ones, which memory holds (Zipf, {float(np.max(skew)):g})"
    if not np.all(np.asarray(foreseen) >= 1.0):
        name += f", {float(np.max(foreseen)):.0%} of them foreseen"

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        path(Target(r.machine, efficiency(r.machine.device)), disk, "")  # refuses a disk that is not there
        placement = replace(r.plan.placement, mapped=True, skew=num(skew), foreseen=num(foreseen))
        placement = placement.with_tensors("expert" if experts else "weights", {disk: num(share)})
        return applied(replace(s, plan=replace(r.plan, placement=placement)), name, (("placement", 1.0),), r.model.name)

    return technique


def _name(layers: Num, experts: Num, caches: Num, feed: Num, missed: Num, disk: str) -> str:
    parts = [f"{float(n):g} {what}" for n, what in ((layers, "layers"), (experts, "layers' experts"),
                                                    (caches, "layers' caches"),
                                                    (feed, "layers' feed-forward parts")) if float(n)]  # fmt: skip
    end = f", {float(missed):.0%} of them read from {disk} each step" if float(missed) else ""
    return f"{' and '.join(parts) or 'embedding'} on the host{end}"


def _check(stack: Stack, layers: float, experts: float, caches: float, feed: float) -> None:
    able = len(experts_of(stack))
    for name, value, most in (("layers", layers, stack.depth), ("experts", experts, able),
                              ("caches", caches, stack.depth), ("feed_forward", feed, stack.depth)):  # fmt: skip
        if not 0 <= value <= most or value != np.floor(value):
            raise BadField("partial_offload", name, value, f"a whole number from 0 to {most}")
    if feed and (experts or caches):
        raise TierwiseError("partial_offload: feed-forward parts and experts (or caches) are not divided together")


def _marks(stack: Stack, stages: int, layers: int, experts: int, caches: int, feed: int) -> dict[int, str]:
    whole = spread(list(range(stack.depth)), stack.depth, stages, layers)
    left = [i for i in range(stack.depth) if i not in whole]
    out = dict.fromkeys(spread([i for i in experts_of(stack) if i in left], stack.depth, stages, experts), EXPERTS)
    for i in left[:caches]:
        out[i] = f"{out[i]}+caches" if i in out else CACHES
    out |= dict.fromkeys(spread(left, stack.depth, stages, feed), FEED)
    return out | dict.fromkeys(whole, LAYERS)


def _uploads(r: Resolved, given: Num | None) -> tuple[Num, Num]:
    """(rows from which products are computed by the device all the same, those of routed experts)."""
    if given is not None:
        return num(given), num(given)
    name = engines.plain(r.engine)
    facts = engines.load(name) if name in engines.names() else None
    if facts is None:
        return np.inf, np.inf
    routed = [facts_of(b) for s in r.model.stacks for k in s.kinds for b in k.blocks]
    idle = max((float(f.experts) / float(f.top_k) for f in routed if f.experts is not None and f.top_k), default=1.0)
    return facts.upload_rows, facts.upload_rows * (idle if facts.upload_spread else 1.0)


def _placement(r: Resolved, missed: Num, disk: str, rows: tuple[Num, Num], embed: bool, used: set[str],
               skew: Num) -> Placement:  # fmt: skip
    weights = {"host": 1.0 - missed, **({disk: missed} if disk else {})}
    mapped = bool(disk)
    layers = Placement(mapped=mapped, upload=rows[0], skew=skew).with_tensors("weights", weights).with_ops(ANY, "host")
    for group in ("kv", "state", "activations"):
        layers = layers.with_tensors(group, {"host": 1.0})
    experts = Placement(mapped=mapped, upload=rows[1], skew=skew).with_tensors("expert", weights)
    experts = experts.with_ops("expert", "host")
    caches = Placement().with_tensors("kv", {"host": 1.0}).with_ops("attention", "host")
    feed = Placement(mapped=mapped, upload=rows[0]).with_tensors("mlp", weights).with_ops("mlp", "host")
    both = replace(experts, tensors=experts.tensors + caches.tensors, ops=experts.ops + caches.ops)
    out = r.plan.placement
    if embed:
        out = out.with_tensors("embed", {"host": 1.0}).with_ops("embedding", "host")
    parts = {LAYERS: layers, EXPERTS: experts, CACHES: caches, FEED: feed, f"{EXPERTS}+caches": both}
    for mark in sorted(used):
        out = out.with_part(mark, parts[mark])
    return out
