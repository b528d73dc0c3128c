"""The table of papers, of their claims, and of the wrong engines they notice."""

from __future__ import annotations

import json as jsonlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from tierwise.core.errors import BadField
from tierwise.papers.mutations import Noticed, blind, broken_rules, mutations
from tierwise.papers.types import NEEDS_FEATURE, NEEDS_SETUP, REPRODUCED, Claim, Outcome, Paper, standing

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


def show_states(found: Rows, as_json: bool) -> None:
    """One row a paper: where it stands and how many of its claims stand behind it."""
    if as_json:
        print(jsonlib.dumps(as_dict(found), indent=2))
        return
    from rich.table import Table

    from tierwise.report.console import console

    out = console()
    table = Table(show_edge=False, pad_edge=False)
    names = ("paper", "state", "claims reproduced", "off", "blind", "unread", "identity", NEEDS_SETUP, NEEDS_FEATURE)
    for name in names:
        table.add_column(name, justify="left" if name in names[:2] else "right")
    for paper, outcomes in found:
        count = Counter(o.state for o in outcomes)
        table.add_row(paper.slug, _colored(outcomes), f"{count[REPRODUCED]} of {len(outcomes)}",
                      *(str(count[s] or "") for s in names[3:]))  # fmt: skip
    out.print(table)
    out.print(_tally(found))
    out.print(
        "Reproduced: every claim of the abstract that the engine can express came out and no further result of the "
        "same metric is off. Partly: n of the m claims that count. What follows from stated inputs alone (identity) "
        "never counts; what comes out on wrong engines as well (blind) reproduces nothing, nor does a number "
        "written down from memory until it is compared with its paper (unread)."
    )


def _tally(found: Rows) -> str:
    states = Counter(standing(outcomes).state for _, outcomes in found)
    return f"{len(found)} papers: " + ", ".join(f"{n} {s}" for s, n in states.most_common())


def _colored(outcomes: list[Outcome]) -> str:
    stands = standing(outcomes)
    remark = "" if stands.abstract else f" ({NO_NUMBER})"
    return f"[{_STYLE.get(stands.state, 'yellow')}]{stands}[/]{remark}"


def show_claims(found: Rows, as_json: bool) -> None:
    """Every claim with the published and the computed value."""
    if as_json:
        print(jsonlib.dumps(as_dict(found), indent=2))
        return
    from rich.table import Table

    from tierwise.report.console import console

    out = console()
    for paper, outcomes in found:
        out.print(f"[bold]{paper.slug}[/]  {_colored(outcomes)}  {paper.title}", highlight=False)
        out.print(paper.mechanism, markup=False, highlight=False)
        table = Table(show_edge=False, pad_edge=False)
        for name in ("claim", "published", "engine", "deviation", "state"):
            table.add_column(name, justify="left" if name in ("claim", "state") else "right")
        for o in outcomes:
            engine = f"{o.value:,.4g}" if math.isfinite(o.value) else "–"
            if not math.isfinite(o.deviation):
                deviation = "–"
            elif o.claim.kind == "exponent":
                deviation = f"{o.deviation:+.3f}"
            else:
                deviation = f"{o.deviation:+.1%}"
            mark = " (further result)" if o.claim.extra else ""
            shown = f"[{_STYLE.get(o.state, 'yellow')}]{o.state}[/]"
            table.add_row(o.claim.what + mark, published(o.claim), engine, deviation, shown)
        out.print(table)
        for o in outcomes:
            if o.state != REPRODUCED and (o.error or o.claim.why):
                out.print(f"  {o.claim.what}: {o.error or o.claim.why}", markup=False, highlight=False)
        for text in paper.assumptions:
            out.print(f"  - {text}", markup=False, highlight=False)
        out.print()


def show_mutations(found: Sequence[Noticed], as_json: bool) -> None:
    """Which wrong engines each paper notices, how many papers notice each, and what should not be."""
    by = {m.name: [n.paper.slug for n in found if m.name in n.by] for m in mutations()}
    broken = broken_rules(list(found))
    if as_json:
        papers = [
            {"slug": n.paper.slug, "state": str(standing(n.outcomes)), "notices": list(n.by),
             "claims": {what: list(names) for what, names in n.claims.items()}, "blind": blind(n)}
            for n in found
        ]  # fmt: skip
        print(jsonlib.dumps({"schema": "tierwise.mutations/1", "papers": papers, "noticed_by": by,
                             "broken": broken}, indent=2))  # fmt: skip
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
    return "\n".join([*lines, "", _tally(found) + "."])


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
