"""The table of papers, of their claims, and of the wrong engines they notice."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tierwise.core.errors import BadField
from tierwise.papers.mutations import Noticed, blind, broken_rules, mutations
from tierwise.papers.types import Claim, Outcome, Paper, standing
from tierwise.report.numbers import things
from tierwise.report.plain import put_json

_STYLE = {"reproduced": "green", "partly": "cyan", "off": "red", "identity": "dim", "blind": "dim", "unread": "dim"}
Rows = Sequence[tuple[Paper, list[Outcome]]]
NO_NUMBER = "no number in the abstract"
BEGIN = "<!-- papers: begin, written by `tierwise papers --mutate --update docs/papers.md` -->"
END = "<!-- papers: end -->"


def as_dict(found: Rows) -> dict[str, object]:
    """JSON form, ``tierwise.papers/2``."""
    return {"schema": "tierwise.papers/2", "papers": [_paper(p, outcomes) for p, outcomes in found]}


def claim_rows(found: Rows) -> list[dict[str, object]]:
    """One row a claim."""
    rows = []
    for p, outcomes in found:
        about = _paper(p, outcomes)
        for claim in about["claims"]:  # type: ignore[attr-defined]
            rows.append({"paper": p.slug, "paper_state": about["state"], **claim})
    return rows


def _paper(p: Paper, outcomes: list[Outcome]) -> dict[str, object]:
    stands = standing(outcomes)
    return {
        "slug": p.slug,
        "title": p.title,
        "state": stands.state,
        "inside": stands.inside,
        "counted": stands.of,
        "number_in_abstract": stands.abstract,
        "source": p.source,
        "mechanism": p.mechanism,
        "assumptions": list(p.assumptions),
        "claims": [
            {
                "what": o.claim.what,
                "published": o.claim.published,
                "unit": o.claim.unit,
                "kind": o.claim.kind,
                "metric": o.claim.metric,
                "source": o.claim.source,
                "extra": o.claim.extra,
                "identity": o.claim.identity,
                "blind": o.claim.blind,
                "unread": o.claim.unread,
                "value": o.value if math.isfinite(o.value) else None,
                "deviation": o.deviation if math.isfinite(o.deviation) else None,
                "state": o.state,
                "why": o.claim.why,
            }
            for o in outcomes
        ],
    }


def tally(found: Rows) -> str:
    """How many papers there are, and how many stand where."""
    states = Counter(standing(outcomes).state for _, outcomes in found)
    return f"{things(len(found), 'paper')}: " + ", ".join(f"{n} {s}" for s, n in states.most_common())


def _colored(outcomes: list[Outcome]) -> str:
    stands = standing(outcomes)
    remark = "" if stands.abstract else f" ({NO_NUMBER})"
    return f"[{_STYLE.get(stands.state, 'yellow')}]{stands}[/]{remark}"


def show_mutations(found: Sequence[Noticed], to: str | None) -> None:
    """Which wrong engines each paper notices, how many papers notice each, and what should not be."""
    by = {m.name: [n.paper.slug for n in found if m.name in n.by] for m in mutations()}
    broken = broken_rules(list(found))
    papers = [
        {"slug": n.paper.slug, "state": str(standing(n.outcomes)), "notices": list(n.by),
         "claims": {what: list(names) for what, names in n.claims.items()}, "blind": blind(n)}
        for n in found
    ]  # fmt: skip
    if put_json(to, {"schema": "tierwise.mutations/1", "papers": papers, "noticed_by": by, "broken": broken}):
        return
    from rich.table import Table

    from tierwise.report.console import console

    out = console()
    table = Table(show_edge=False, pad_edge=False)
    for name in ("paper", "state", "notices"):
        table.add_column(name)
    for n in found:
        table.add_row(n.paper.slug, _colored(n.outcomes), ", ".join(n.by) or "nothing")
    out.print(table)
    out.print()
    table = Table(show_edge=False, pad_edge=False)
    table.add_column("an engine wrong in")
    table.add_column("is noticed by", justify="right")
    for name, slugs in by.items():
        table.add_row(name, f"{len(slugs)} papers" if len(slugs) != 1 else "1 paper")
    out.print(table)
    for n in found:
        for what in blind(n):
            out.print(f"Notices no wrong time: {n.paper.slug}: {what}", markup=False, highlight=False)
    for text in broken:
        out.print(f"Should not be: {text}", markup=False, highlight=False)


def markdown(found: Rows, noticed: Sequence[Noticed]) -> str:
    """The table of papers in Markdown: where each stands, and the wrong engines it notices."""
    by: Mapping[str, tuple[str, ...]] = {n.paper.slug: n.by for n in noticed}
    lines = ["| paper | state | notices an engine wrong in |", "|---|---|---|"]
    for paper, outcomes in found:
        stands = standing(outcomes)
        remark = "" if stands.abstract else f" ({NO_NUMBER})"
        lines.append(f"| {paper.slug} | {stands}{remark} | {', '.join(by.get(paper.slug, ()))} |")
    return "\n".join([*lines, "", tally(found) + "."])


def update(path: Path, found: Rows, noticed: Sequence[Noticed]) -> None:
    """Write the Markdown table into a file, between its markers.

    Raises:
        BadField: the file has no markers.
    """
    text = path.read_text("utf-8")
    before, begin, rest = text.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise BadField(str(path), "markers", "none", f"{BEGIN} … {END}")
    path.write_text(f"{before}{BEGIN}\n{markdown(found, noticed)}\n{END}{after}", "utf-8")


def table_states(text: str) -> dict[str, str]:
    """Of a table written by :func:`update`: the state of each paper, without its remark."""
    rows = text.partition(BEGIN)[2].partition(END)[0].splitlines()
    cells = [[c.strip() for c in row.strip("|").split("|")] for row in rows if row.startswith("| ")]
    return {c[0]: c[1].partition(" (")[0] for c in cells[1:]}


def published(claim: Claim) -> str:
    """The published value with its unit and kind: "< 160 GB", "up to 4 x", "2.35–3.47 x"."""
    value = claim.published
    text = f"{value[0]:g}–{value[1]:g}" if isinstance(value, tuple) else f"{value:g}"
    prefix = {"at-most": "≤ ", "at-least": "≥ ", "up-to": "up to "}.get(claim.kind, "")
    return f"{prefix}{text} {claim.unit}".strip()
