"""Reports of simulations: all forms say the same, at any width, with any names, in bounded size."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
from rich.console import Console

from tests.serving.runs import interrupted, poisson, run
from tierwise.report.numbers import percent
from tierwise.report.page import asset
from tierwise.report.serving_data import BINS, SHARES, to_dict
from tierwise.report.serving_report import SCRIPTS, compare_runs, page, show
from tierwise.report.serving_words import scenario, subtitle
from tierwise.serving.metrics import metrics
from tierwise.serving.outcome import SimulatedRun
from tierwise.serving.traffic.trace import trace

from .cases import HOSTILE
from .test_html import Page


def _tenants(k: int) -> dict[str, object]:
    return {"tenant": np.arange(400) % k, "tenants": tuple(f"tenant {i}" for i in range(k))}


def _equal(**other: object) -> SimulatedRun:
    return run(trace(np.zeros(200), np.full(200, 100), np.full(200, 50), **other), 8)


def _empty() -> SimulatedRun:
    r = run(poisson(3, 1.0))
    none = np.zeros(0)
    series = replace(r.series, **dict.fromkeys(vars(r.series), none))
    requests = replace(r.requests, **{name: x[:0] for name, x in vars(r.requests).items()})
    return replace(r, trace=trace([], [], []), series=series, requests=requests, totals={"end": 0.0},
                   itl_counts=0 * r.itl_counts)  # fmt: skip


KINDS: dict[str, Callable[[], SimulatedRun]] = {
    "calm": lambda: replace(run(poisson(400, 2.0)), basis="calibrated", interval=(0.9, 1.2)),
    "saturated": lambda: run(poisson(400, 40.0)),
    "closed": lambda: _equal(closed_loop=8),
    "at once": _equal,
    "tenants": lambda: run(poisson(400, 10.0, **_tenants(3)), preemptions=7.0, recomputed_tokens=12345.0),
    "many tenants": lambda: run(poisson(400, 10.0, **_tenants(80))),
    "rejected": lambda: run(poisson(400, 2.0), too_long=150),
    "all rejected": lambda: run(poisson(40, 2.0), too_long=1),
    "interrupted": lambda: interrupted(run(poisson(400, 40.0)), 10.0),
    "one": lambda: run(trace([0.0], [5], [1])),
    "empty": _empty,
    "hostile": lambda: run(replace(poisson(400, 2.0, **_tenants(2)), tenants=(HOSTILE, "[bold]b[/bold]"),
                                   source=HOSTILE, notices=(HOSTILE,))),
}  # fmt: skip


@cache
def made(kind: str) -> SimulatedRun:
    return KINDS[kind]()


def shown(kind: str, width: int = 100, *, color: bool = False, encoding: str = "utf-8", **targets: float) -> str:
    out = io.TextIOWrapper(io.BytesIO(), encoding=encoding, errors="replace")
    show(
        made(kind), Console(file=out, width=width, force_terminal=color, no_color=not color, highlight=False), **targets
    )
    out.seek(0)
    return out.read()


@pytest.mark.parametrize("kind", KINDS)
def test_the_json_form_is_json(kind: str) -> None:
    d = to_dict(made(kind), 1.0, 0.02)
    assert json.loads(json.dumps(d, allow_nan=False)) == d
    assert d["schema"] == "tierwise.simulation/1"
    assert all(len(v) == len(d["series"]["time"]) <= BINS for v in d["series"].values())
    for name, values in d["cdf"].items():
        if values is not None:
            assert len(values) == len(SHARES) and values == sorted(values), name


def test_the_json_form_agrees_with_the_metrics() -> None:
    r = made("tenants")
    d, m = to_dict(r, 1.0, 0.02), metrics(r, 1.0, 0.02)
    assert d["metrics"]["goodput_per_s"] == m.goodput and d["times"]["ttft_s"]["p99"] == m.ttft.p99
    assert d["cdf"]["ttft_s"][np.flatnonzero(SHARES == 0.99)[0]] == pytest.approx(m.ttft.p99, rel=1e-4)
    assert sum(t["requests"] for t in d["tenants"]) == m.requests == 400
    assert d["peaks"]["running"] == m.batch_max


def test_shortened_series_keep_their_totals() -> None:
    r = run(poisson(400, 2.0), bins=1237)
    d = to_dict(r)["series"]
    width = np.diff([0.0, *d["time"]])
    assert len(width) <= BINS and d["time"][-1] == pytest.approx(r.totals["end"])
    for name in ("running", "waiting", "output_tokens"):
        assert float(np.dot(d[name], width)) == pytest.approx(
            getattr(r.series, name).mean() * r.totals["end"], rel=1e-4
        )
    for name in ("arriving", "finishing"):
        assert float(np.dot(d[name], width)) == pytest.approx(400, rel=1e-3)


HEADLINES = {
    "calm": r"^tiny-llm on 1 × Test chip 40GB keeps up with \S+ requests/s: p99 TTFT .* meets 1.00 s, p99 TPOT",
    "saturated": r"is saturated: \S+ requests/s are offered and it sustains about \S+/s; p99 TTFT \S+ s misses",
    "closed": r"serves \S+ requests/s and \S+ tokens/s with 8 requests in flight",
    "at once": r"serves 200 requests sent at once in \S+ s, \S+ tokens/s",
    "all rejected": r"none of 40 requests finished: 40 longer than the 1 tokens",
    "interrupted": r"^Interrupted after \S+ s: .* is saturated",
    "empty": r"no request arrived",
}


@pytest.mark.parametrize("kind", HEADLINES)
def test_one_sentence_says_it(kind: str) -> None:
    said = to_dict(made(kind), 1.0, 0.02)["text"]["headline"]
    assert re.search(HEADLINES[kind], said), said
    assert said.endswith(".") and said.count("nan") == 0


def test_a_drawn_rate_is_told_beside_the_one_asked_for() -> None:
    """Few requests come at another pace than they were drawn at, which alone reads as if the system had slowed."""
    r = made("calm")
    pace = to_dict(r)["load"]["offered"]
    far, near = (to_dict(replace(r, trace=replace(r.trace, rate=pace * x)))["text"]["headline"] for x in (1.2, 1.01))
    assert f"(400 requests drawn at {pace * 1.2:.3g}/s; more come nearer to it)" in far
    assert "drawn" not in near and "drawn" not in to_dict(r)["text"]["headline"]


def test_reasons_follow_the_run() -> None:
    why = " ".join(to_dict(made("saturated"), 1.0, 0.02)["text"]["why"])
    assert (
        "queue grew by" in why
        and "a place in the batch is what they waited for" in why
        and "TTFT within 1.00 s for" in why
    )
    assert "7 preemptions" in (again := " ".join(to_dict(made("tenants"))["text"]["why"])) and "12,345 tokens" in again
    assert "longer than the 150 tokens" in " ".join(to_dict(made("rejected"))["text"]["why"])
    assert "had not finished" in " ".join(to_dict(made("interrupted"))["text"]["why"])
    assert to_dict(made("calm"))["text"]["why"] == []


SHARES_SHOWN = [(1.0, "100 %"), (0.99999, ">99.99 %"), (0.9962, "99.62 %"), (0.5, "50 %"), (0.012, "1.2 %"),
                (1e-5, "<0.1 %"), (0.0, "0 %"), (None, "–")]  # fmt: skip


@pytest.mark.parametrize(("share", "text"), SHARES_SHOWN)
def test_nearly_all_is_not_all(share: float | None, text: str) -> None:
    assert percent(share) == text


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_no_line_of_the_terminal_is_too_long(kind: str, width: int) -> None:
    text = shown(kind, width, ttft=1.0, tpot=0.02)
    assert max(len(line) for line in text.splitlines()) <= width
    assert "\x1b" not in text and "\ue000" not in text and not re.search(r"\b(nan|None)\b", text)


@pytest.mark.parametrize("kind", ["calm", "saturated", "tenants", "interrupted"])
@pytest.mark.parametrize("width", [80, 100])
def test_numbers_are_whole_at_usual_widths(kind: str, width: int) -> None:
    assert "…" not in shown(kind, width, ttft=1.0, tpot=0.02)


def test_a_plain_terminal_gets_plain_letters_in_its_bars() -> None:
    text = shown("saturated", encoding="ascii")
    line = next(x for x in text.splitlines() if x.startswith("  waiting"))
    assert re.search(r"[_.=+*#%-]{20}", line)


def test_markup_in_names_is_text() -> None:
    text = shown("hostile", 160)
    assert "[bold]b[/bold]" in text and "<img src=x" in text.replace("\n", "")


def test_runs_side_by_side() -> None:
    table = compare_runs(["calm [x]", "saturated"], [made("calm"), made("saturated")], 1.0, 0.02)
    out = io.StringIO()
    Console(file=out, width=120, highlight=False).print(table)
    rows = {line.split("┃")[0].split("│")[0].strip(): line for line in out.getvalue().splitlines()}
    assert "calm [x]" in out.getvalue() and "yes" in rows["keeps up"] and "no, about" in rows["keeps up"]
    m = metrics(made("calm"), 1.0, 0.02)
    assert percent(m.good_share) in rows["within the targets"]
    assert "fairness (Jain)" not in rows
    with pytest.raises(ValueError, match="1 names for 2 runs"):
        compare_runs(["a"], [made("calm"), made("saturated")])


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_parses_and_loads_nothing(kind: str) -> None:
    text = page(made(kind), 1.0, 0.02)
    parsed = Page(text)
    assert parsed.open == [] and len(parsed.scripts) == 2
    loading = {"src", "href", "srcset", "action", "poster", "data", "background"}
    inside = [a for a in parsed.attributes if a[2].startswith("#")]  # an anchor of the page itself
    assert [a for a in parsed.attributes if a not in inside and (a[1] in loading or a[1].startswith("on"))] == []
    assert not re.search(r"https?://|@import|url\((?!#)", text)
    assert "default-src 'none'" in next(v for _, name, v in parsed.attributes if name == "content" and "default" in v)
    assert "<img" not in text and ("{{" in parsed.text) == (kind == "hostile")


def test_the_page_says_what_the_json_says() -> None:
    d = to_dict(made("tenants"), 1.0, 0.02)
    parsed = Page(page(made("tenants"), 1.0, 0.02))
    said, data = parsed.text.replace("\xa0", " "), json.loads(parsed.scripts[0])
    assert d["text"]["headline"] in said and all(reason in said for reason in d["text"]["why"])
    assert {k: v for k, v in data.items() if k != "tenants_left_out"} == d
    for wanted in ("tenant 2", "By tenant", "Jain's index", "TPOT", "What was simulated", "chunked scheduler"):
        assert wanted in said
    assert "rest on coefficients fitted to recorded serving on this device" in Page(page(made("calm"))).text


def test_the_page_marks_its_state() -> None:
    assert '<body class="saturated">' in page(made("saturated"))
    assert '<body class="empty">' in page(made("all rejected"))
    assert '<body class="fits">' in page(made("calm"))


def test_the_page_stays_small() -> None:
    n = 4000
    t = replace(poisson(n, 50.0), tenant=np.arange(n) % 1000, tenants=tuple(f"tenant {i}" for i in range(1000)))
    text = page(run(t, 64, bins=3000))
    assert len(text) < 150_000 and "950 more tenants" in text


def test_scripts_never_write_markup_or_reach_out() -> None:
    source = "\n".join(asset(name) for name in SCRIPTS)
    for word in ("innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "fetch(", "XMLHttpRequest",
                 "import(", "</script"):  # fmt: skip
        assert word not in source


def test_a_cluster_is_named_by_its_parts() -> None:
    r = made("calm")
    one = r.deployment.groups[0]
    groups = (replace(one, role="prefill", count=3), replace(one, role="decode"))
    d = to_dict(replace(r, deployment=replace(r.deployment, groups=groups, autoscaler="queue", pooled=True,
                                              failures=((1.0, 0, 5.0),))))  # fmt: skip
    assert "on up to 3 prefill replicas of 1 × Test chip 40GB and 1 decode replica of" in d["text"]["headline"]
    told = dict(scenario(d))
    assert "1 failure" in told["Cluster"] and "queue autoscaler" in told["Cluster"] and "Engine, decode" in told
    assert subtitle(d).endswith("round_robin router · queue autoscaler")


@pytest.mark.parametrize(("source", "shown"), [("a/b/azure.csv", "azure.csv"), ("400 requests, poisson, rate 3/s",
                                               "poisson, rate 3/s"), ("", None)])  # fmt: skip
def test_the_source_of_the_traffic_is_named_once(source: str, shown: str | None) -> None:
    d = to_dict(replace(made("calm"), trace=replace(made("calm").trace, source=source)))
    first = subtitle(d).split(" · ")[0]
    assert first == ("400 requests" if shown is None else f"400 requests ({shown})")
