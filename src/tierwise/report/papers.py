"""The table of papers and of their claims."""

from __future__ import annotations

import json as jsonlib
import math
from collections import Counter
from collections.abc import Sequence

from tierwise.papers.types import Claim, Outcome, Paper, paper_state

_STYLE = {"reproduced": "green", "off": "red", "needs-setup": "yellow", "needs-feature": "yellow"}
Rows = Sequence[tuple[Paper, list[Outcome]]]


def as_dict(found: Rows) -> dict[str, object]:
    """JSON form, ``tierwise.papers/1``."""
    return {
        "schema": "tierwise.papers/1",
        "papers": [
            {
                "slug": p.slug,
                "title": p.title,
                "state": paper_state(outcomes),
                "source": p.source,
                "mechanism": p.mechanism,
                "assumptions": list(p.assumptions),
                "claims": [
                    {
                        "what": o.claim.what,
                        "published": o.claim.published,
                        "unit": o.claim.unit,
                        "kind": o.claim.kind,
                        "source": o.claim.source,
                        "extra": o.claim.extra,
                        "value": o.value if math.isfinite(o.value) else None,
                        "deviation": o.deviation if math.isfinite(o.deviation) else None,
                        "state": o.state,
                        "why": o.claim.why,
                    }
                    for o in outcomes
                ],
            }
            for p, outcomes in found
        ],
    }


def show_states(found: Rows, as_json: bool) -> None:
    """One row a paper: its state and how many of its claims stand behind it."""
    if as_json:
        print(jsonlib.dumps(as_dict(found), indent=2))
        return
    from rich.table import Table

    from tierwise.report.console import console

    out = console()
    table = Table(show_edge=False, pad_edge=False)
    for name in ("paper", "state", "claims reproduced", "off", "needs-setup", "needs-feature"):
        table.add_column(name, justify="left" if name in ("paper", "state") else "right")
    states: Counter[str] = Counter()
    for paper, outcomes in found:
        count = Counter(o.state for o in outcomes)
        state = paper_state(outcomes)
        states[state] += 1
        table.add_row(paper.slug, f"[{_STYLE[state]}]{state}[/]", f"{count['reproduced']} of {len(outcomes)}",
                      *(str(count[s] or "") for s in ("off", "needs-setup", "needs-feature")))  # fmt: skip
    out.print(table)
    out.print(f"{len(found)} papers: " + ", ".join(f"{n} {s}" for s, n in states.most_common()))
    out.print("The claims of the abstract decide, further results only where it has none: off when a computed one is "
              "off, reproduced when one is and none is off.")  # fmt: skip


def show_claims(found: Rows, as_json: bool) -> None:
    """Every claim with the published and the computed value."""
    if as_json:
        print(jsonlib.dumps(as_dict(found), indent=2))
        return
    from rich.table import Table

    from tierwise.report.console import console

    out = console()
    for paper, outcomes in found:
        state = paper_state(outcomes)
        out.print(f"[bold]{paper.slug}[/]  [{_STYLE[state]}]{state}[/]  {paper.title}", highlight=False)
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
            shown = f"[{_STYLE[o.state]}]{o.state}[/]"
            table.add_row(o.claim.what + mark, published(o.claim), engine, deviation, shown)
        out.print(table)
        for o in outcomes:
            if o.state != "reproduced" and (o.error or o.claim.why):
                out.print(f"  {o.claim.what}: {o.error or o.claim.why}", markup=False, highlight=False)
        for text in paper.assumptions:
            out.print(f"  - {text}", markup=False, highlight=False)
        out.print()


def published(claim: Claim) -> str:
    """The published value with its unit and kind: "< 160 GB", "up to 4 x", "2.35–3.47 x"."""
    value = claim.published
    text = f"{value[0]:g}–{value[1]:g}" if isinstance(value, tuple) else f"{value:g}"
    prefix = {"at-most": "≤ ", "at-least": "≥ ", "up-to": "up to "}.get(claim.kind, "")
    return f"{prefix}{text} {claim.unit}".strip()
