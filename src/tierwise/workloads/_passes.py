"""Passes, and how requests are cut into them: what workloads share."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tierwise.core.num import Num, ceil_div, maximum, minimum, num, scalar, where
from tierwise.models.lower import running
from tierwise.models.step import Step
from tierwise.scenario.types import Resolved
from tierwise.steps.state import StepState

# What full passes leave of the prompts, in one pass.
LAST_PREFILL = "last prefill"


@dataclass(frozen=True)
class Pass:
    """Equal passes over one group of stacks.

    Attributes:
        name: ``vision``, ``audio``, ``encode``, ``prefill``, ``decode``, or a workload's own.
        step: what one pass sees.
        times: how many there are; ``pipeline_stretch``: their time end to end over their own (filling of the pipeline).
        state: the step of a serving engine that a pass is; None where no engine steps (towers, encoders).
        follows: they go through a pipeline that the passes before have filled.
        deepest: tokens that are cached before the last of them, where passes of a prefill see more and more.
        prompts: of whose prefill they are parts, where engines may have these wait for each other; inf where a pass
            is of whole prompts.
        share: of a pass's work that a device does in its time: less than 1 where pipeline stages have fewer
            micro-batches than there are stages, so that each stands idle in between.
        busy: requests of the mean data-parallel rank over those of the busiest, which the step is of.
        varies: what grows from one pass to the next: dim -> (mean over the passes, step).
    """

    name: str
    step: Step
    times: Num
    pipeline_stretch: Num = 1.0
    state: StepState | None = None
    varies: Mapping[str, tuple[Num, Num]] = field(default_factory=dict)
    share: Num = 1.0
    busy: Num = 1.0
    follows: bool = False
    deepest: Num | None = None
    prompts: Num = float("inf")


def per_rank(r: Resolved, batch: Num) -> tuple[Num, Num]:
    """(requests of the busiest data-parallel rank, at least 1; those of the mean one over them).

    A request runs on one rank, whole. Less than one on a rank is for sweeps over fractions of it.
    """
    mean = batch / r.plan.dp
    busiest = maximum(np.ceil(mean * (1.0 - 1e-12)), 1.0)
    return scalar(busiest), minimum(mean / busiest, 1.0)


def towers(r: Resolved, rank: Num) -> list[Pass]:
    """A pass of each image or audio tower over what the requests of a rank bring."""
    out = []
    for phase in ("vision", "audio"):
        for stack in running(r.model, phase):
            items = r.traffic.images if phase == "vision" and r.model.task == "generate" else 1.0
            if np.all(np.asarray(items) == 0):
                continue
            step = Step(r.model, r.plan, rank * items, stack.tokens_at(r.traffic.image_size), 0.0, phase)
            out.append(Pass(phase, step, 1.0))
    return out


def encoder(r: Resolved, rank: Num) -> list[Pass]:
    """The passes of a text encoder, which cannot cut a sequence and packs whole ones."""
    if not any(running(r.model, "encode")):
        return []
    prompt = num(r.traffic.prompt)
    seqs = maximum(rank / maximum(ceil_div(rank * prompt, r.plan.chunk), 1.0), 1.0)
    # A decoder that classifies runs over the same text, behind its encoder.
    step = Step(r.model, r.plan, seqs, prompt, 0.0, "encode", encoder=prompt, fresh_encoder=True)
    return [Pass("encode", step, rank / seqs)]


def encoder_tokens(r: Resolved) -> Num:
    """Tokens that the decoder's cross-attention sees; 0 without an encoder."""
    if any(running(r.model, "encode")):
        return num(r.traffic.prompt)
    for stack in running(r.model, "audio"):
        return stack.tokens_at(r.traffic.image_size)
    return 0.0


@dataclass(frozen=True)
class Chunks:
    """Equal passes of a prefill.

    Attributes:
        seqs, new, past: sequences in a pass, new tokens of each, those that it has cached before (their mean, which is
            exact where attention is linear in it).
        times: how many passes; may be 0.
        deepest: cached tokens before the last of a prompt's passes.
    """

    seqs: Num
    new: Num
    past: Num
    times: Num
    deepest: Num


def split(rank: Num, prompt: Num, chunk: Num) -> tuple[Chunks, Chunks]:
    """A prefill as engines cut it: passes of ``chunk`` tokens as long as there are so many, and one with the rest.

    Short prompts are packed into a pass; a prompt longer than a pass is cut, and its later parts see the earlier ones
    as cached.
    """
    total = rank * prompt
    # What the last bits of a division leave is no pass of its own.
    full = maximum(np.floor(total / chunk * (1.0 + 1e-12)), 1.0)
    each = minimum(total, chunk)
    rest = maximum(total - full * each, 0.0)
    rest = where(np.asarray(rest) < 1e-6, 0.0, rest)
    new, last = minimum(prompt, each), minimum(prompt, maximum(rest, 1.0))
    long = np.asarray(prompt) > np.asarray(chunk)
    past = where(long, prompt - last, (prompt - last) / 2.0)
    seqs = rest / last
    # The positions of all tokens add up to what they do in whole prompts.
    before = (total * prompt / 2.0 - rest * (past + last / 2.0)) / (total - rest) - new / 2.0
    before = maximum(before, 0.0)
    left = where(np.asarray(rest) > 0, last, 0.0)
    deepest = where(long, maximum(prompt - left - new, before), before)
    return (Chunks(each / new, new, before, full, deepest),
            Chunks(maximum(seqs, 1e-9), last, past, where(np.asarray(rest) > 0, 1.0, 0.0), past))  # fmt: skip
