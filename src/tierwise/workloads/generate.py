"""Text written token by token: towers and encoders first, then prefill, then decode."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise import engines
from tierwise.core.num import Num, is_zero, maximum, minimum, num, where
from tierwise.models.lower import running
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Resolved
from tierwise.steps.state import Chunk, StepState
from tierwise.workloads._passes import LAST_PREFILL, Pass, encoder, encoder_tokens, per_rank, split, towers


def runs(model: Model) -> bool:
    """Whether a model has a decoder."""
    return any(running(model, "prefill"))


def passes(r: Resolved, batch: Num) -> list[Pass]:
    """Towers, encoder, prefill in passes of the plan's chunk, and decode steps at their mean context."""
    plan = r.plan
    rank, balance = per_rank(r, batch)
    # A rank without a request runs a token of none where its experts are needed.
    idle = where(np.asarray(rank) > 1.0, 0.0, 1.0 - balance)
    out = [*towers(r, rank), *encoder(r, rank)]
    seen = encoder_tokens(r)
    own = _engine_steps(r.model)
    alone = not own or r.engine == engines.KERNELS or bool(plan.framework)
    prompt, output = decoder_prompt(r), num(r.traffic.output)
    cached = minimum(plan.kv.shared_prefix, prompt - 1.0) if not is_zero(plan.kv.shared_prefix) else 0.0
    for name, c in zip(("prefill", LAST_PREFILL), split(rank, prompt - cached, plan.chunk), strict=True):
        if is_zero(c.times):
            continue
        # Passes follow each other through the stages, which fill once. Engines send whole ones; without any they are
        # cut into micro-batches.
        parts, follows = minimum(plan.pp, maximum(c.seqs, 1.0)) if alone else 1.0, name == LAST_PREFILL
        stretch = (c.times * parts + (0.0 if follows else plan.pp - 1.0)) / (maximum(c.times, 1.0) * plan.pp)
        seqs, past = c.seqs / parts, c.past + cached
        # Engines compute logits of the last token of each chunk, and pass over those of chunks that end no prompt.
        step = Step(r.model, plan, seqs, c.new, past, "prefill", 1.0, seen, not is_zero(seen),
                    balance=balance + idle / maximum(c.seqs * c.new, 1.0))  # fmt: skip
        state = StepState(chunks=(Chunk(c.new, past, seqs),), logits=seqs, balance=step.balance)
        cut = where(np.asarray(c.new) < prompt - cached, rank, np.inf)
        out.append(Pass(name, step, c.times, stretch, state if own else None, share=parts / plan.pp,
                        busy=balance, follows=follows, deepest=c.deepest + cached, prompts=cut))  # fmt: skip
    if not np.all(np.asarray(output) <= 1):
        micro = maximum(rank / plan.pp, 1.0)
        middle = prompt + maximum(output - 2.0, 0.0) / 2.0
        mean = balance + idle
        decode = Step(r.model, plan, micro, 1.0, middle, "decode", 1.0, seen, balance=mean)
        state = replace(StepState.decoding(micro, middle), balance=mean)
        out.append(Pass("decode", decode, maximum(output - 1.0, 0.0), 1.0, state if own else None,
                        {"context": (middle, 1.0)}, rank / plan.pp / micro,
                        balance))  # fmt: skip
    return out


def final_length(r: Resolved) -> Num:
    """The prompt and all tokens but the newest, which is not cached."""
    return decoder_prompt(r) + num(r.traffic.output) - 1.0


def decoder_prompt(r: Resolved) -> Num:
    """Tokens the decoder starts from: the prompt, or one start token where an encoder reads the prompt."""
    return 1.0 if any(running(r.model, "encode")) or any(running(r.model, "audio")) else num(r.traffic.prompt)


def _engine_steps(model: Model) -> bool:
    """Whether a serving engine's steps run the model: steps know no encoder's passes."""
    return not any(running(model, "encode")) and not any(running(model, "audio"))
