"""Questions that are searched: each becomes a tree of requests whose paths share their prefixes."""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields

import numpy as np

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.serving.traffic._rules import Rule, value
from tierwise.serving.traffic.blocks import BLOCK
from tierwise.serving.traffic.synthetic import draw, generator
from tierwise.serving.traffic.trace import Ints, Trace, trace

# Nodes of a level, or levels; requests in all, whose arrays take gigabytes.
WIDEST, MOST = 10_000, 10_000_000


@dataclass(frozen=True)
class Search:
    """Beam search by a scorer of steps: of a level's ``width`` nodes the best ``keep`` live on, and each of them is
    continued ``width / keep`` times (Snell et al. 2024, https://arxiv.org/abs/2408.03314, beam search against a PRM).

    Attributes:
        width: nodes of a level; ``keep``: how many of them are continued, a divisor of it; ``depth``: levels.
        step: tokens of a node: a number, a rule of ``traffic/lengths``, or a function (n, rng) -> values.
        score: seconds to score a level, likewise; drawn once for each level of a question.
    """

    width: int
    keep: int
    depth: int
    step: Rule
    score: Rule = 0.0


def searching(questions: Trace, search: Search | str, *, seed: int = 0) -> Trace:
    """Each request of ``questions`` as the tree of requests that searches for its answer.

    The question is read once, by a request of one token that nobody uses (the least an engine makes); the nodes of
    the first level follow it. Every later node follows its own parent: its prompt is the question and the path so
    far, and it comes when its parent has ended and been scored. Nodes that run together and are equally long end
    together, so levels stay in step; where ``step`` is drawn, or nodes queue, a path goes on without waiting for its
    level's slowest (a request follows one other). Which nodes live on is drawn, each as likely.

    Args:
        questions: requests that stand alone, of one sample each, in an open loop; their ``output`` is not used.
        search: how; also as text, ``width=16,keep=4,depth=8,step=64``, where ``step`` and ``score`` may be rules.

    Returns:
        1 + width * depth requests for each question, in order of the earliest time they may come, with blocks.

    Raises:
        TierwiseError: a search that cannot be; questions that follow others, or come in a closed loop.
    """
    how = _parsed(search) if isinstance(search, str) else search
    _check(questions, how)
    rng = generator(seed).spawn(1)[0]  # apart from what the same seed drew for the questions
    n, wide = len(questions), len(questions) * how.width
    step = np.maximum(np.rint(draw(how.step, how.depth * wide, rng, "step", 1.0)), 1).astype(np.int64)
    score = draw(how.score, (how.depth - 1) * n, rng, "score").reshape(-1, n)
    parent = _parents(n, how, rng)
    # Questions first, then level by level; ``grown`` is what a request adds to the path it continues.
    output, grown = np.concatenate([np.ones(n, np.int64), step]), np.concatenate([np.zeros(n, np.int64), step])
    prompt = np.concatenate([questions.prompt, np.zeros(how.depth * wide, np.int64)])
    levels = [slice(n + i * wide, n + (i + 1) * wide) for i in range(how.depth)]
    for level in levels:
        prompt[level] = (prompt[: level.start] + grown[: level.start])[parent[level]]
    question = np.concatenate([np.arange(n), np.tile(np.repeat(np.arange(n), how.width), how.depth)])
    waits = np.concatenate([np.zeros((2, n)), score])  # nothing is scored before the first level
    each = np.repeat([1] + [how.width] * how.depth, n)
    think, waited = (np.repeat(x.ravel(), each) for x in (waits, np.cumsum(waits, axis=0)))
    blocks, block_start, size = _blocks(questions, prompt, grown, parent, levels)
    rows = {name: getattr(questions, name)[question] for name in ("tenant", "priority", "adapter")}
    whole = trace(
        questions.arrival[question] + waited, prompt, output, after=parent, think=think, **rows,
        blocks=blocks, block_start=block_start, block_size=size, tenants=questions.tenants,
        source=f"{questions.source}, each searched: {_text(how)}",
        notices=(*questions.notices, f"{n:,} questions, each a tree of {1 + how.width * how.depth:,} requests: counts "
                                     "and times are of requests, not of questions"),
    )  # fmt: skip
    return whole.take(np.argsort(whole.arrival, kind="stable"))


def _parents(n: int, how: Search, rng: np.random.Generator) -> Ints:
    """Index of each request's parent, questions first (their own is -1), then level by level."""
    wide, branch = n * how.width, how.width // how.keep
    parent = [np.full(n, -1, np.int64), np.repeat(np.arange(n), how.width)]
    for level in range(1, how.depth):
        kept = np.sort(np.argsort(rng.random((n, how.width)), axis=1)[:, : how.keep], axis=1)
        node = n + (level - 1) * wide + np.arange(n)[:, None] * how.width + kept
        parent.append(np.repeat(node.ravel(), branch))
    return np.concatenate(parent)


def _blocks(questions: Trace, prompt: Ints, grown: Ints, parent: Ints, levels: list[slice]) -> tuple[Ints, Ints, int]:
    """Identities of the full blocks of every prompt: its parent's, then those that the parent's tokens filled."""
    heads, size, new = _heads(questions)
    count = prompt // size
    start = np.concatenate([[0], np.cumsum(count)]).astype(np.int64)
    filled = (prompt + grown) // size - count
    own = new + np.cumsum(filled) - filled  # the first identity of the blocks that a request fills
    blocks = np.empty(start[-1], np.int64)
    blocks[: len(heads)] = heads
    for level in levels:
        held, above = count[level], parent[level]
        first = start[level.start]
        place = np.arange(first, start[level.stop]) - np.repeat(start[:-1][level], held)
        inherited = np.repeat(count[above], held)
        theirs = np.minimum(np.repeat(start[above], held) + place, max(first - 1, 0))
        mine = np.repeat(own[above], held) + place - inherited
        blocks[first : start[level.stop]] = np.where(place < inherited, blocks[theirs], mine)
    return blocks, start if start[-1] else start[:1], size


def _heads(questions: Trace) -> tuple[Ints, int, int]:
    """Identities of the full blocks of the questions themselves, the size of a block, and the next free identity.

    Blocks larger than what engines cache by are divided, for steps are shorter than those of some traces.
    """
    known = len(questions.blocks) > 0
    size = BLOCK if not known or questions.block_size % BLOCK == 0 else questions.block_size
    count = questions.prompt // size
    start = np.cumsum(count) - count
    owner = np.repeat(np.arange(len(questions)), count)
    ids = np.arange(len(owner))
    if not known:
        return ids, size, len(ids)
    parts = questions.block_size // size
    names, block = np.unique(questions.blocks, return_inverse=True)
    place = ids - start[owner]
    at = questions.block_start[owner] + place // parts
    told = at < questions.block_start[owner + 1]
    new = len(names) * parts
    whole = block.ravel()[np.minimum(at, len(block) - 1)] * parts + place % parts
    return np.where(told, whole, new + ids), size, new + len(ids)


def _parsed(text: str) -> Search:
    """A search written as ``key=value,...``; a part that belongs to a rule (``step=uniform:low=9,high=99``) stays."""
    keys = {f.name: f for f in fields(Search)}
    parts: list[str] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        if parts and ":" in parts[-1] and part.partition("=")[0].strip() not in keys:
            parts[-1] += f",{part}"
        else:
            parts.append(part)
    found: dict[str, float | str] = {}
    for part in parts:
        key, equals, given = (x.strip() for x in part.partition("="))
        if not equals:
            raise TierwiseError(f"search {text!r}: found {part!r}; allowed: key=value")
        if key not in keys:
            raise UnknownName("argument of a search", key, keys, f"(it takes {', '.join(keys)})")
        found[key] = value(given)
    lacks = [k for k, f in keys.items() if f.default is MISSING and k not in found]
    if lacks:
        raise TierwiseError(f"search {text!r}: needs {', '.join(lacks)}, as in width=16,keep=4,depth=8,step=64")
    for key in ("width", "keep", "depth"):
        if not (isinstance(found[key], float) and float(found[key]).is_integer()):
            raise TierwiseError(f"search: {key}: found {found[key]!r}; allowed: a whole number of at least 1")
        found[key] = int(found[key])
    return Search(**found)  # type: ignore[arg-type]


def _check(questions: Trace, how: Search) -> None:
    for key in ("width", "keep", "depth"):
        if not 1 <= getattr(how, key) <= WIDEST:
            raise TierwiseError(f"search: {key}: found {getattr(how, key)}; allowed: a whole number of at least 1, and "
                                f"at most {WIDEST:,}")  # fmt: skip
    if (nodes := len(questions) * how.width * how.depth) > MOST:
        raise TierwiseError(f"search: {len(questions):,} questions of {how.width:,} times {how.depth:,} nodes are "
                            f"{nodes:,} requests; allowed: at most {MOST:,}")  # fmt: skip
    if how.width % how.keep:
        allowed = ", ".join(str(k) for k in range(1, how.width + 1) if how.width % k == 0)
        raise TierwiseError(f"search: keep: found {how.keep}; allowed: a divisor of width, {how.width}: {allowed}")
    if questions.closed_loop:
        raise TierwiseError("a search needs questions that arrive by themselves: a closed loop sends its next request "
                            "whenever one ends, and the requests of a tree end many times; give a rate")  # fmt: skip
    for wrong, what in ((questions.after >= 0, "follow another one's answer"), (questions.samples != 1, "want several "
                        "samples (a search has its width)")):  # fmt: skip
        if wrong.any():
            raise TierwiseError(f"a search needs questions that stand alone: {int(wrong.sum()):,} of "
                                f"{len(questions):,} {what}")  # fmt: skip


def _text(how: Search) -> str:
    given = ((f.name, getattr(how, f.name)) for f in fields(Search))
    return ",".join(f"{k}={v:g}" if isinstance(v, int | float) else f"{k}={v}" for k, v in given)


__all__ = ["Search", "searching"]
