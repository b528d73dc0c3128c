"""How engines lay out the memory of a device."""

from __future__ import annotations

import numpy as np

from tierwise.core.num import Num, minimum, where
from tierwise.engines import EngineDefaults
from tierwise.memory.account import MemoryRules
from tierwise.scenario.types import Plan


def rules(
    engine: EngineDefaults | None,
    plan: Plan,
    *,
    share: Num | None = None,
    budget: Num | None = None,
    max_seqs: Num | None = None,
    drafts: Num = 0.0,
    draft: Num = 0.0,
    prefix_cache: bool = False,
) -> MemoryRules:
    """The rules of an engine, or of a model without one (None).

    Args:
        share: of the device's memory that it takes; its default unless given. ``budget``: tokens of one step; the
            plan's chunk unless given. ``max_seqs``: sequences of one step, its default unless given.
            ``drafts``: further tokens of each of them that it checks, made by a draft model of the size ``draft`` (over
            the model's; 0 where modules of its own draft).
        prefix_cache: blocks of earlier requests are kept for those that begin alike.
    """
    left = 1.0 - plan.reserve
    if engine is None:
        return MemoryRules(share=minimum(1.0 if share is None else share, left))
    chunk = plan.chunk if budget is None else budget
    return MemoryRules(
        share=minimum(engine.memory_share if share is None else share, left),
        of=engine.memory_share_of,
        budget=where(np.isfinite(np.asarray(chunk)), chunk, float(engine.budget)),
        max_seqs=float(engine.max_seqs) if max_seqs is None else max_seqs,
        logit_bytes=engine.logit_bytes,
        drafts=drafts,
        draft=draft,
        states=1.0 + drafts + (engine.prefix_states if prefix_cache else 0.0),
        extra_layers=engine.extra_layers,
        window_share=engine.window_share,
        whole_graph=engine.whole_graph,
        padded=engine.padded,
    )
