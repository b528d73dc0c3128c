"""Caches whose values live in the host's memory."""

from __future__ import annotations

from tierwise.core.num import Num, num
from tierwise.models.blocks.rebuilt import rebuilt
from tierwise.models.wrapper import inside
from tierwise.scenario.types import Scenario
from tierwise.techniques._make import MANY, Technique, changed, following, shown, within


def rebuild_keys(rank: Num, chunk: Num, budget: Num, kept: Num = 0.0, hit: Num = 0.0) -> Technique:
    """Low-rank keys and landmarks on the device, values on the host; a step rebuilds and fetches a few tokens
    (ShadowKV, arXiv:2410.21465).

    Args:
        rank: of the stored keys of all heads together; ``chunk``: tokens of one landmark.
        budget: tokens a step attends to; ``kept``: further ones that never leave the device.
        hit: fraction of a step's tokens that are on the device from the step before.

    Example: ``rebuild_keys:rank=160,chunk=8,budget=1024``
    """
    within("rebuild_keys", 1, MANY, rank=rank, chunk=chunk)
    within("rebuild_keys", 0, MANY, budget=budget, kept=kept)
    within("rebuild_keys", 0, 1, hit=hit)
    name = f"keys of rank {shown(rank)}, values on the host"
    sizes = (num(rank), num(chunk), num(budget), num(kept), num(hit))

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        matched = following(name, r.model, "rebuilt")
        return changed(s, name, r, r.model.map_blocks(lambda b: inside(b, lambda x: rebuilt(x, *sizes))), matched)

    return technique
