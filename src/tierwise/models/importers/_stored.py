"""What a file stores, by weight role: exact bytes, average bits, and how it compares with the description."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from tierwise.core.numerics import Format
from tierwise.models.types import Model

NOT_WEIGHTS = "(none)"  # role of tensors a description does not count: rotary tables, token ids


@dataclass(frozen=True)
class Stored:
    """A tensor in a file.

    Attributes:
        name, role: role as in :class:`tierwise.models.types.Weight`, or :data:`NOT_WEIGHTS`.
        elements: parameters it holds, or None when it packs several into one element or holds the scales of
            another (the description then says how many there are).
        bytes: exact.
        format: of its elements.
    """

    name: str
    role: str
    elements: int | None
    bytes: int
    format: Format


def with_stored(model: Model, tensors: Iterable[Stored], tied: bool = False) -> Model:
    """The model with formats by role and ``stored_bytes`` as the file has them.

    A role's format has the average bits of its tensors, so that parameters times bits are the file's bytes.
    Where the file and the description disagree on a number of parameters, a note says so.

    Args:
        tied: the head reads the embedding's table.
    """
    tensors = list(tensors)
    groups: dict[str, list[Stored]] = defaultdict(list)
    for t in tensors:
        if t.role != NOT_WEIGHTS:
            groups[t.role].append(t)
    described = _held(model, groups)
    formats = {role: _average(ts, described.get(role), model.format_of(role)) for role, ts in groups.items()}
    if tied and "embed" in formats:
        formats["head"] = formats["embed"]
    everything = [t for ts in groups.values() for t in ts]
    if everything:
        formats["*"] = _average(everything, sum(described.values()), model.format_of("*"))
    return replace(
        model,
        formats=formats,
        stored_bytes=float(sum(t.bytes for t in tensors)),
        notes=(*model.notes, *_differences(groups, described)),
    )


def elements_by_role(model: Model, inactive: bool = True) -> dict[str, float]:
    """Parameters of every weight role, with the stacks that are not run by default or without."""
    out: dict[str, float] = defaultdict(float)
    for stack in model.stacks:
        if not (stack.active or inactive):
            continue
        blocks = [(b, 1.0) for b in (*stack.before, *stack.after)]
        blocks += [(b, float(n / k.copies)) for k, n in stack.runs() for b in k.blocks]
        for block, n in blocks:
            for w in block.weights():
                out[w.role] += n * float(w.elements)
    return dict(out)


def _average(tensors: list[Stored], described: float | None, declared: Format) -> Format:
    """One format for the tensors: average bits, the arithmetic of the most elements."""
    exact = {str(t.format): t.format for t in tensors}
    packed = any(t.elements is None for t in tensors)
    if len(exact) == 1 and not packed:
        return tensors[0].format
    n = described if packed and described else float(sum(t.elements or 0 for t in tensors))
    if not n:
        return tensors[0].format
    bits = 8.0 * sum(t.bytes for t in tensors) / n
    if packed:
        return replace(declared, bits=bits, meta=0.0)
    share: dict[str, float] = defaultdict(float)
    for t in tensors:
        share[str(t.format)] += (t.elements or 0) / n
    ranked = sorted(share, key=lambda name: -share[name])
    # Norms and biases in a wider format are always there; naming them would hide the format that matters.
    name = "+".join(r for r in ranked[:3] if share[r] >= 0.01)
    return Format(name, bits, 0.0, exact[ranked[0]].arithmetic)


def _held(model: Model, groups: Mapping[str, list[Stored]]) -> dict[str, float]:
    """Parameters by role, with the inactive stacks if the file seems to hold them (many checkpoints do not)."""
    counts = _counts(groups)

    def distance(described: Mapping[str, float]) -> float:
        return sum(abs(n - described.get(role, 0.0)) for role, n in counts.items())

    return min(elements_by_role(model), elements_by_role(model, inactive=False), key=distance)


def _counts(groups: Mapping[str, list[Stored]]) -> dict[str, int]:
    """Parameters of the roles whose tensors all say how many they hold."""
    exact = {role: [t.elements for t in tensors] for role, tensors in groups.items()}
    return {role: sum(n or 0 for n in ns) for role, ns in exact.items() if None not in ns}


def _differences(groups: Mapping[str, list[Stored]], described: Mapping[str, float]) -> list[str]:
    """A note when the file holds other numbers of parameters than the description."""
    counts = _counts(groups)
    total = sum(described.values())
    off = []
    for role in sorted({*counts, *(described.keys() - groups.keys())}):
        stored, said = counts.get(role, 0), described.get(role, 0.0)
        if abs(stored - said) > 1e-3 * total:
            off.append(f"{role} {stored} stored, {said:.0f} described")
    return ["the file and its description differ in parameters: " + "; ".join(off)] if off else []
