"""Drafts: how many tokens to propose, and how many of them turn out right."""

from __future__ import annotations

from tierwise.serving.jit import jit
from tierwise.serving.loop import arrays as of
from tierwise.serving.loop.price import nothing, step_price
from tierwise.serving.policies.draw import uniform


@jit
def drafts(s, r):  # type: ignore[no-untyped-def]
    """Draft tokens a sequence proposes in the next step of engine r: what is set, or what gives most tokens a second
    at today's batch (Liu et al., Optimizing Speculative Decoding for Serving with Goodput, arXiv:2406.14066)."""
    e = of.engines(s)[r]
    if e.adaptive == 0:
        return e.speculate
    best, most = 0, 0.0
    expected, right = 1.0, 1.0
    for k in range(e.speculate + 1):
        if k > 0:
            right *= e.accept
            expected += right
        e.decoding, e.yields, e.context = e.width, e.width, e.tokens
        nothing(e)
        e.drafts = k
        step_price(of.groups(s)[e.group], of.tables(s), of.graphs(s), e)
        rate = expected / e.dt if e.dt > 0.0 else 0.0
        if rate > most:
            best, most = k, rate
    e.decoding, e.yields, e.context = 0, 0, 0
    nothing(e)
    return best


@jit
def accepted(seed, accept, item, made, proposed):  # type: ignore[no-untyped-def]
    """Draft tokens of one sequence that are right: they stop counting at the first that is not. Depends on the seed,
    the request and how far it is, so that every schedule of the same run meets the same text."""
    k = 0
    while k < proposed and uniform(seed, item, made + k) < accept:
        k += 1
    return k
