"""How techniques are made: change the plan, the cache or the model, and leave one's name with what was touched."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from typing import Any, TypeAlias

import numpy as np

from tierwise.core.errors import BadField, TierwiseError
from tierwise.core.num import Num
from tierwise.models.facts import POLICIES, BlockFacts, blocks, facts_of
from tierwise.models.step import Step, formatted
from tierwise.models.types import Block, Model, Stack
from tierwise.models.wrapper import OpPass, adapt
from tierwise.program.types import Op
from tierwise.scenario.types import KV, Applied, Plan, Resolved, Scenario

Technique: TypeAlias = Callable[[Scenario], Scenario]
Matched: TypeAlias = tuple[tuple[str, float], ...]

_CACHES = {"keys": "caches of keys and values", "latent": "latent caches", "entries": "compressed caches",
           "rebuilt": "caches with rebuilt keys", "shared": "readers of another layer's cache",
           "cross": "caches of an encoder"}  # fmt: skip


MANY = 1e9  # of tokens, and of whatever else is counted: a thousand times what anything has


class NothingMatched(TierwiseError):
    """A technique found nothing it could change.

    Args:
        name: of the technique.
        where: the model or machine it looked at.
        why: what it looked for, and what is there instead.
    """

    def __init__(self, name: str, where: str, why: str) -> None:
        super().__init__(f"{name}: nothing to change in {where}: {why}")


def within(technique: str, least: float, most: float, **values: Num) -> None:
    """Refuse an argument, or an element of one, that does not lie between two bounds.

    Raises:
        BadField: names the technique and the argument.
    """
    for name, value in values.items():
        found = np.asarray(value, dtype=float)
        if not np.all((found >= least) & (found <= most)):
            raise BadField(technique, name, value, f"{least:g} to {most:,g}")


def on_plan(name: str, change: Callable[[Plan], Plan], touches: Callable[[Resolved], Matched] | None = None,
            needs: str = "") -> Technique:  # fmt: skip
    """A technique that changes the plan.

    Args:
        touches: (what, how many) it acts on in a scenario; those counted zero are left out. By default the plan.
        needs: what there must be for it to act on.
    """

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        plan = s.plan if s.plan is not None else r.plan
        matched = (("plan", 1.0),) if touches is None else touches(r)
        return applied(replace(s, plan=change(plan)), name, matched, r.model.name, needs)

    return technique


def on_kv(name: str, policy: str, change: Callable[[KV], KV]) -> Technique:
    """A technique that changes how the KV cache is stored or read, wherever there is one that can follow.

    Args:
        policy: a name of :data:`tierwise.models.facts.POLICIES`.
        change: adds it to the policies there are.
    """

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        plan = s.plan if s.plan is not None else r.plan
        matched = following(name, r.model, policy)
        return applied(replace(s, plan=replace(plan, kv=change(plan.kv))), name, matched)

    return technique


def on_caches(name: str, policy: str, value: Any, where: Callable[[Stack, int], bool] | None = None) -> Technique:
    """A technique that changes the caches of layers, wherever their blocks can follow.

    Args:
        policy, value: as a block's ``adapted`` takes them.
        where: picks kinds of layers (a stack, and an index into its ``kinds``).
    """

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        matched = following(name, r.model, policy, where)

        def change(block: Block) -> Block:
            cache = facts_of(block).cache
            return block if cache is None or policy in cache.refuses else adapt(block, policy, value)

        return changed(s, name, r, map_layers(r.model, change, where), matched)

    return technique


def on_model(name: str, change: Callable[[Model], Model], matched: Matched | None = None, needs: str = "") -> Technique:
    """A technique that changes the model.

    Args:
        matched: what it touches, where it knows; by default what differs between the models is counted: blocks that
            are not the same object, layers removed, stored formats.
        needs: what there must be for it to act on.
    """

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        new = change(r.model)
        return changed(s, name, r, new, differences(r.model, new) if matched is None else matched, needs)

    return technique


def on_ops(name: str, picks: Callable[[Op], bool], change: Callable[[Op], Op], needs: str = "") -> Technique:
    """A technique that changes some ops of every block, and nothing else of it.

    Args:
        picks: which ops; those of a pass are counted, with the plan's sharding.
        change: an op to what takes its place.
    """

    def technique(s: Scenario) -> Scenario:
        r = s.resolved()
        matched = (("ops", ops_of(r, picks)),)
        return changed(s, name, r, r.model.map_blocks(lambda b: OpPass(b, picks, change)), matched, needs)

    return technique


def changed(s: Scenario, name: str, r: Resolved, model: Model, matched: Matched, needs: str = "") -> Scenario:
    """The scenario with another model, on which every policy of the plan's cache still holds.

    Raises:
        NothingMatched: it differs in nothing.
        TierwiseError: blocks were changed to some that cannot follow a policy they did follow.
    """
    out = applied(replace(s, model=model, plan=s.plan), name, matched, r.model.name, needs)
    for policy in sorted(r.plan.kv.policies()):
        before, after = (dict(_refusals(m, policy)) for m in (r.model, model))
        if sum(after.values()) > sum(before.values()):
            why = next(w for w in after if after[w] > before.get(w, 0.0))
            raise TierwiseError(f"{name}: cannot be combined with {POLICIES[policy]} in the KV cache: {why}")
    return out


def applied(s: Scenario, name: str, matched: Matched, where: str = "", needs: str = "") -> Scenario:
    """The scenario with one more name, and what it touched.

    Raises:
        NothingMatched: it touched nothing.
    """
    found = tuple((what, float(n)) for what, n in matched if n)
    if not found:
        raise NothingMatched(name, where or "the scenario", needs or "it leaves everything as it is")
    return replace(s, techniques=(*s.techniques, name), applied=(*s.applied, Applied(name, found)))


def following(name: str, model: Model, policy: str, where: Callable[[Stack, int], bool] | None = None) -> Matched:
    """How many layers of each kind of cache can follow a policy.

    Raises:
        NothingMatched: none can, and why.
    """
    out: dict[str, float] = {}
    for facts, n in _caches(model, where):
        if facts.cache is not None and policy not in facts.cache.refuses:
            what = _CACHES[facts.cache.layout]
            out[what] = out.get(what, 0.0) + n
    if not out:
        raise NothingMatched(name, model.name, _why_none(model, policy))
    return tuple(out.items())


def _why_none(model: Model, policy: str) -> str:
    refusals = _refusals(model, policy)
    if refusals:
        return "; ".join(f"in {n:g} layers {why}" for why, n in refusals)
    states = sum(float(n) for s in running(model) for b, n in blocks(s) if facts_of(b).state)
    attends = any(facts_of(b).scores for s in running(model) for b, _ in blocks(s))
    if states:
        return f"its {states:g} recurrent blocks keep a state of fixed size, and nothing keeps past tokens"
    if attends:
        return "its attention sees all tokens at once, and nothing keeps past ones"
    return "nothing in it keeps past tokens"


def _refusals(model: Model, policy: str) -> list[tuple[str, float]]:
    """(why, layers) of every cache that cannot follow a policy."""
    out: dict[str, float] = {}
    for facts, n in _caches(model):
        if facts.cache is not None and (why := facts.cache.refuses.get(policy)) is not None:
            out[why] = out.get(why, 0.0) + n
    return list(out.items())


def _caches(model: Model, where: Callable[[Stack, int], bool] | None = None) -> Iterator[tuple[BlockFacts, float]]:
    for stack in running(model):
        for i, kind in enumerate(stack.kinds):
            n = float(stack.pattern.count(i))
            if n and (where is None or where(stack, i)):
                yield from ((facts, n) for b in kind.blocks if (facts := facts_of(b)).cache is not None)


def prompts_are_encoded(model: Model) -> bool:
    """Prompts go to an encoder, so that the stack that decodes starts from nothing."""
    found = (facts_of(b).cache for stack in running(model) for b, _ in blocks(stack))
    return any(cache is not None and cache.layout == "cross" for cache in found)


def running(model: Model) -> list[Stack]:
    """The stacks that run by default."""
    return [s for s in model.stacks if s.active]


def map_layers(model: Model, change: Callable[[Block], Block], where: Callable[[Stack, int], bool] | None) -> Model:
    """The model with the blocks of some kinds of layers changed."""
    if where is None:
        return model.map_blocks(change)
    stacks = []
    for s in model.stacks:
        kinds = tuple(
            replace(k, blocks=tuple(change(b) for b in k.blocks)) if where(s, i) else k for i, k in enumerate(s.kinds)
        )
        stacks.append(replace(s, kinds=kinds))
    return replace(model, stacks=tuple(stacks))


def differences(old: Model, new: Model) -> Matched:
    """What a change to a model touched: blocks, layers, stored formats, by identity (an equal copy counts)."""
    layers, ends, depth = 0.0, 0.0, 0.0
    for a, b in zip(old.stacks, new.stacks, strict=False):
        depth += abs(a.depth - b.depth)
        if a.depth == b.depth:
            pairs = zip(_executed(a), _executed(b), strict=True)
            layers += sum(not _same(x.blocks, y.blocks) or x.copies is not y.copies for x, y in pairs)
        ends += not (_same(a.before, b.before) and _same(a.after, b.after))
    roles = {role for role in {*old.formats, *new.formats} if old.formats.get(role) is not new.formats.get(role)}
    return (
        ("layers changed", layers),
        ("layers removed", depth),
        ("ends changed", ends),
        ("weight roles", float(len(roles))),
        ("stacks removed", float(abs(len(old.stacks) - len(new.stacks)))),
    )


def _executed(stack: Stack) -> Iterator[Any]:
    return (stack.kinds[i] for i in stack.pattern)


def _same(a: tuple[Block, ...], b: tuple[Block, ...]) -> bool:
    return len(a) == len(b) and all(x is y for x, y in zip(a, b, strict=True))


def shown(x: Num) -> str:
    """A number for a name: itself, or where an array of them lies."""
    return f"{x:g}" if np.ndim(x) == 0 else f"{np.min(x):g} to {np.max(x):g}"


def weights_of(model: Model, roles: Iterable[str] | None = None) -> Matched:
    """Weight tensors by role, those that a plan's format holds for by default."""
    wanted = formatted(model) if roles is None else frozenset(roles)
    out: dict[str, float] = {}
    for stack in running(model):
        for block, n in blocks(stack):
            for w in block.weights():
                if w.role in wanted:
                    out[f"{w.role} weights"] = out.get(f"{w.role} weights", 0.0) + float(n)
    return tuple(out.items())


def ops_of(r: Resolved, test: Callable[[Op], bool]) -> float:
    """Ops of the running layers that a test picks, in a pass that decodes (or encodes, where nothing decodes)."""
    total = 0.0
    for stack in running(r.model):
        phase = "decode" if stack.stream == "text" else "encode"
        tokens: Num = 1.0 if stack.stream == "text" else 16.0
        step = Step(r.model, r.plan, 1.0, tokens, 1024.0 if phase == "decode" else 0.0, phase, encoder=16.0)
        total += sum(float(n) * sum(map(test, block.ops(step))) for block, n in blocks(stack))
    return total


def collectives(r: Resolved) -> Matched:
    """Collectives of a pass, the hand-over between pipeline stages aside."""
    return (("collectives", ops_of(r, lambda op: op.kind == "collective" and bool(np.any(np.asarray(
        op.dims["group"]) > 1)))),)  # fmt: skip
