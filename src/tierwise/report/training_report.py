"""The report on a training step or plan: how long, what takes the time and the memory, what else there was."""

from __future__ import annotations

import math
from typing import Any

from tierwise.core.units import dollars, gb, in_words, seconds, si
from tierwise.report.layout import Cell, Column, Report, ReportSection, Sentences, Table
from tierwise.report.numbers import count, percent, rate

Json = dict[str, Any]

# What the parts of a step are, for people.
CAUSES = {
    "matmul": "matrix products",
    "attention": "attention",
    "memory": "norms, activations and other kernels",
    "routed": "sorting tokens by expert",
    "link": "collectives inside layers",
    "sent": "tokens on their way to experts",
    "host": "waiting for the host",
    "ends": "embedding, head and loss",
    "parameters on the wire": "gathering sharded parameters",
    "slowest stage": "work of the slowest stage",
    "bubble": "pipeline bubble",
    "hand-overs": "hand-overs between stages",
    "gradients on the wire": "averaging gradients",
    "update": "optimizer update",
    "stragglers": "waiting for the slowest device",
    "copies to the host": "copies to and from the host",
}
# What schedules of pipelines are called.
PIPELINES = {
    "zero_bubble": "zero bubble (ZB-H1)",
    "zero_bubble_v": "zero bubble in a V (ZB-V)",
    "v_half": "half of the activations in a V (V-Half)",
    "v_min": "a third of the activations in a V (V-Min)",
    "dual_pipe": "DualPipe",
    "gpipe": "GPipe",
}


_MODULES = {"again_norm": "norms", "again_act": "activation functions", "again_mlp": "feed-forward layers",
            "again_up": "maps up from latents"}


def described(d: Json) -> Report:
    """One layout."""
    x, place = d["layout"], _place(d)
    sections = {"time": _time(d), "memory": _memory(d), **_goodput(d)}
    sections["rests"] = ReportSection("What this rests on", Sentences(_rests(d)), element="basis")
    fits = d["memory"]["fits"]
    return Report(
        title=f"Training {d['model']['name']} {place}",
        subject=f"Training {d['model']['name']}",
        place=place,
        subtitle=f"{_layout(x)}; a global batch of {count(x['global_batch'])} × {count(x['seq'])} tokens",
        headline=_headline(d) if fits else _too_large(d),
        state="fits" if fits else "too-large",
        alarm=not fits,
        why=_why(d),
        numbers=_numbers(d),
        sections=sections,
    )


def of_plan(d: Json) -> Report:
    """A plan: the best layout, and the others."""
    rows, s = d["candidates"], d["searched"]
    place = _place(d)
    looked = (
        f"{count(s['legal'])} legal layouts, {count(s['fitting'])} of them fit; searched in {seconds(s['seconds'])}"
    )
    if not rows:
        t = {**d, **d["tightest"]}
        return Report(
            title=f"Training {d['model']['name']}",
            subject=f"Training {d['model']['name']}",
            place=place,
            subtitle=looked,
            headline=f"No layout fits: the one that needs least memory ({_layout(t['layout'])}) needs "
            f"{gb(t['memory']['peak'])} a device and has {gb(t['memory']['capacity'])}.",
            state="too-large",
            alarm=True,
            why=[_ways(t)],
            numbers=(),
            sections={"memory": _memory(t)},
        )
    best = {**d, **rows[0]}
    sections = {
        **_counts(d),
        "layouts": ReportSection("Layouts", _table(rows), f"the {'least in memory' if _lean(d) else 'fastest'} of each "
                                 "combination of degrees", element="layouts"),
        "time": _time(best),
        "memory": _memory(best),
        **_goodput(best),
        "rests": ReportSection(
            "What this rests on", Sentences([*_rests(best), looked + "."]), element="basis"
        ),
    }
    return Report(
        title=f"Training {d['model']['name']} {place}",
        subject=f"Training {d['model']['name']}",
        place=place,
        subtitle=f"a global batch of {count(best['layout']['global_batch'])} × {count(best['layout']['seq'])} tokens",
        headline=f"{_layout(best['layout'])}: {_headline(best)}",
        state="fits",
        alarm=False,
        why=[*_why(best), *_bound(d, best), *_more(d, best)],
        numbers=_numbers(best),
        sections=sections,
    )


def _lean(d: Json) -> bool:
    """Whether layouts are ranked by what their fullest device holds."""
    return d.get("objective") == "memory"


def _counts(d: Json) -> dict[str, ReportSection]:
    """What a step takes on fewer devices, where the cheapest number was looked for."""
    rows = d.get("counts")
    if not rows:
        return {}
    costs = [r["device_seconds"] if r["usd"] is None else r["usd"] for r in rows]
    cells = [(count(r["devices"]), seconds(r["seconds"]), seconds(r["device_seconds"]),
              f"{cost / min(costs):.2f}×") for r, cost in zip(rows, costs, strict=True)]  # fmt: skip
    columns = (Column("devices"), Column("step"), Column("device time a step"), Column("cost"))
    return {"counts": ReportSection("Devices", Table(columns, cells), "what a step costs on so many", element="counts")}


def _bound(d: Json, best: Json) -> list[str]:
    """What binds: memory, or nothing but the arithmetic, the links and the pipeline."""
    free = d["without_limit"]
    if free is None or free["seconds"] > best["seconds"] * 0.995:
        return ["Memory does not bind: no layout that needs more of it is faster."]
    gain = best["seconds"] / free["seconds"] - 1.0
    return [f"Memory binds: {_layout(free['layout'])} would be {percent(gain)} faster and needs "
            f"{gb(free['memory']['peak'])} a device."]  # fmt: skip


def _more(d: Json, best: Json) -> list[str]:
    """What one more trick would give, the largest first."""
    said = [f"{TRICKS.get(t['what'], t['what'])} {percent(t['gain'])}" + ("" if t["fits"] else " (does not fit)")
            for t in d["tricks"][:3]]  # fmt: skip
    return ["One more trick, faster by: " + ", ".join(said) + "."] if said else []


# What a plan has not used, by the names of the search.
TRICKS = {
    "zero_bubble": "the zero-bubble schedule (--schedule zero_bubble)",
    "zero_bubble_v": "the V-shaped zero-bubble schedule (--schedule zero_bubble_v)",
    "v_half": "V-Half (--schedule v_half)",
    "v_min": "V-Min (--schedule v_min)",
    "dual_pipe": "DualPipe (--schedule dual_pipe)",
    "gpipe": "GPipe (--schedule gpipe)",
    "vocabulary": "dividing the vocabulary over the stages (--vocabulary-parallel)",
    "asynchronous": "TP collectives beside products (--tp-overlap)",
    "recompute": "no recomputation (--recompute none)",
    "fp8": "products in fp8 (--precision fp8)",
}


def _place(d: Json) -> str:
    machine = d["machine"]
    return "on " + (machine["title"] if d.get("stages") else f"{machine['devices']:.0f} × {machine['title']}")


def _layout(x: Json) -> str:
    """TP 4 x PP 8 x DP 2, micro-batch 1, …"""
    degrees = [("TP", "tp"), ("PP", "pp"), ("CP", "cp"), ("EP", "ep"), ("DP", "dp")]
    out = " × ".join(f"{name} {x[key]:.0f}" for name, key in degrees if x[key] > 1) or "one device"
    out += f", micro-batch {x['micro_batch']:.0f}"
    if x["interleave"] > 1:
        out += f", {x['interleave']:.0f} parts a stage"
    if x["schedule"] != "one_f_one_b":
        out += f", {PIPELINES.get(x['schedule'], x['schedule'])}"
    if x["first"] or x["last"]:
        ends = [f"{x[k]:.0f} layers on the {k} stage" for k in ("first", "last") if x[k]]
        out += ", " + " and ".join(ends)
    if x["vocabulary"]:
        out += ", divided vocabulary"
    if x["heads"] and x["cp"] > 1:
        out += ", heads exchanged for tokens"
    if x["asynchronous"]:
        out += ", TP collectives beside products"
    if x["offload"] != "none":
        out += f", {x['offload']} {'on disks' if x['offload_disk'] else 'in host memory'}"
        out += f", {percent(x['offload_share'])} of the states" if x["offload_share"] < 1 else ""
        out += ", updated beside the backward pass" if x["early_update"] else ""
        out += f", {percent(x['device_update'])} of them updated by the device" if x["device_update"] else ""
    if x["offload_activations"]:
        out += ", activations in host memory"
    if x["islands"] > 1:
        way = ("", f" with {x['peers']:.0f} others", " through a server")[int(x["averaging"])]
        out += f", {x['islands']:.0f} islands that average{way} every {count(x['local_steps'])} steps"
        out += ", one round late" if x["late"] else ""
    if not x["overlap"]:
        out += ", gradients averaged at the end"
    if x["zero"]:
        out += f", ZeRO-{x['zero']:.0f}"
        out += f" over {x['shard']:.0f} each" if x.get("shard", math.inf) < x["dp"] * x["cp"] else ""
    if x["recompute"] != "none":
        out += f", {x['recompute']} recomputation"
    again = [name for key, name in _MODULES.items() if x[key]]
    if again:
        out += f", {' and '.join(again)} computed again"
    return out


def _headline(d: Json) -> str:
    said = f"{seconds(d['seconds'])} a step, {rate(d['tokens_per_s'])} tokens/s in all, {percent(d['mfu'])} of the "
    said += "arithmetic there is (MFU)"
    run = d.get("run")
    if run:
        said += f"; {in_words(run['tokens'])} tokens take {seconds(run['seconds'])}"
        if run["usd"] is not None:
            said += f" and {dollars(run['usd'])}"
    return said + "."


def _too_large(d: Json) -> str:
    m = d["memory"]
    where = f"a device of stage {m['stage']:.0f}" if d["layout"]["pp"] > 1 else "each device"
    return (
        f"Does not fit: {where} needs {gb(m['peak'])} and has {gb(m['capacity'])} "
        f"({gb(m['peak'] - m['capacity'])} too much). It would take {seconds(d['seconds'])} a step."
    )


def _why(d: Json) -> list[str]:
    parts = sorted(((v, k) for k, v in d["parts"].items() if v > 0), reverse=True)
    named = [f"{CAUSES[k]} {percent(v / d['seconds'])}" for v, k in parts[:4]]
    return ["Of a step: " + ", ".join(named) + ".", *(_fragments(d) if d["memory"]["fits"] else [_ways(d)])]


def _fragments(d: Json) -> list[str]:
    """That a step fits by its tensors and not by what the allocator holds for them."""
    m = d["memory"]
    if (m.get("reserved") or 0.0) <= m["capacity"]:
        return []
    return [f"Its tensors fit; what PyTorch's allocator holds for them would be {gb(m['reserved'])} of "
            f"{gb(m['capacity'])}: without segments that grow (PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True) it "
            "gives some back and asks again, which takes time, or runs out."]  # fmt: skip


def _ways(d: Json) -> str:
    x = d["layout"]
    largest = max(d["memory"]["parts"], key=d["memory"]["parts"].__getitem__)

    def unless(on: bool, way: str) -> list[str]:
        return [] if on else [way]

    # What the layout does already is no advice.
    ways = {
        "activations": [
            *unless(x["recompute"] == "full", "recomputation (--recompute full)"),
            *unless(x["micro_batch"] <= 1, "a smaller micro-batch"),
            "context or tensor parallelism",
        ],
        "optimizer states": [
            *unless(x["zero"] >= 1, "sharding them (--zero 1)"),
            "an 8-bit optimizer, more devices, adapters (--method lora:r=16)",
        ],
        "gradients": [*unless(x["zero"] >= 2, "sharding them (--zero 2)"), "more pipeline stages"],
        "parameters": [
            *unless(x["zero"] >= 3, "sharding them (--zero 3)"),
            "more tensor or pipeline parallelism, quantized frozen weights (--method qlora:r=16)",
        ],
    }
    return f"Most of it is {largest}: what would help is {', '.join(ways.get(largest, ['more devices']))}."


def _numbers(d: Json) -> list[tuple[str, str, str]]:
    low, high = d["interval"]
    x, m = d["layout"], d["memory"]
    out = [
        ("Step", seconds(d["seconds"]), f"80 %: {seconds(low)} to {seconds(high)}"),
        (
            "Tokens",
            f"{rate(d['tokens_per_s'])} tokens/s",
            f"{rate(d['tokens_per_s'] / d['machine']['devices'])} a device",
        ),
        ("MFU", percent(d["mfu"]), "useful arithmetic over the peak"),
        ("Memory", gb(m["peak"]), f"of {gb(m['capacity'])} {_fullest(d)}"),
        (
            "Micro-batches",
            count(x["micro_batches"]),
            f"of {x['micro_batch']:.0f} × {count(x['seq'])} tokens a pipeline",
        ),
    ]
    if m.get("reserved"):
        said = "that PyTorch's allocator takes, with what lies between tensors"
        out.insert(4, ("Reserved", gb(m["reserved"]), said))
    if m["host"] > 0:
        out.append(("Host memory", gb(m["host"]), "that a device's share takes"))
    if m["disk"] > 0:
        out.append(("Disks", gb(m["disk"]), "that a device's share takes"))
    run = d.get("run")
    if run:
        out.append(
            (
                "Run",
                seconds(run["seconds"]),
                f"{in_words(run['tokens'])} tokens, {count(round(run['device_hours']))} device hours",
            )
        )
        if run["usd"] is not None:
            out.append(("Rent", dollars(run["usd"]), "of the whole run, at the machine's rent"))
        out.append(("Energy", si(run["joules_at_rated_power"] / 3600.0, "Wh"), "of the devices, at rated power"))
    return out


_BAR = Column(left=True, bar=24)


def _time(d: Json) -> ReportSection:
    total = d["seconds"]
    rows = [
        (CAUSES[k], seconds(v), percent(v / total), Cell(bar=v / total))
        for k, v in sorted(d["parts"].items(), key=lambda x: -x[1])
        if v > 0
    ]
    table = Table((Column("Where the time goes", left=True), Column("a step"), Column("share"), _BAR), rows)
    return ReportSection("Time", table, element="time")


def _memory(d: Json) -> ReportSection:
    m = d["memory"]
    parts = sorted(((k, v) for k, v in m["parts"].items() if v > 0), key=lambda x: -x[1])
    whole, tone = max(m["capacity"], m["peak"]), "" if m["fits"] else "bad"
    rows = [
        (name, gb(v), Cell(percent(v / m["capacity"]), tone), Cell(bar=v / whole, tone=tone))
        for name, v in (*parts, ("in all", m["peak"]))
    ]
    columns = (Column("What fills the fullest device", left=True), Column("bytes"), Column("of the device"), _BAR)
    return ReportSection("Memory", Table(columns, rows, faint=frozenset({len(rows) - 1})), element="memory")


def _goodput(d: Json) -> dict[str, ReportSection]:
    """What failures leave of a run."""
    g = d.get("goodput")
    if g is None:
        return {}
    said = [
        f"A failure every {seconds(g['between'])} ({count(round(g['failures']))} a month), "
        f"{seconds(g['restart'])} until training goes on.",
        f"A checkpoint has {gb(g['size'])}; training stands still for {seconds(g['write'])}"
        + ("." if g["written"] <= g["write"] else f", and it is safe after {seconds(g['written'])}."),
        f"Best is one every {seconds(g['interval'])} (Daly; Young's first-order answer: {seconds(g['young'])}).",
        f"{percent(g['share'])} of the time counts; a month loses "
        + ", ".join(f"{hours:.1f} h to {what}" for what, hours in g["lost"].items()) + ".",
    ]  # fmt: skip
    whole = g.get("consolidated")
    if whole is not None:
        said.append(
            f"Putting its weights together into one file of {gb(whole['size'])} takes {seconds(whole['seconds'])}."
        )
    return {"goodput": ReportSection("Failures", Sentences(said))}


def _table(rows: list[Json]) -> Table:
    columns = tuple(Column(n, left=n == "layout") for n in ("layout", "step", "tokens/s", "MFU", "memory", "bubble"))
    cells = [
        (
            _layout(r["layout"]),
            seconds(r["seconds"]),
            rate(r["tokens_per_s"]),
            percent(r["mfu"]),
            gb(r["memory"]["peak"]),
            percent(r["parts"]["bubble"] / r["seconds"]),
        )
        for r in rows
    ]
    return Table(columns, cells)


def _rests(d: Json) -> list[str]:
    how = d["framework"]
    said = [
        f"Framework {how['name']}: {how['source']}.",
        f"Products in {how['precision']}; optimizer {how['optimizer']}"
        + (f", adapters of rank {how['rank']:.0f} trained, weights frozen" if how["rank"] else "")
        + ".",
    ]
    off = abs(d["played_over_summed"] - 1.0)
    if d["layout"]["pp"] > 1:
        exact = "exact" if off < 1e-6 else f"off by {percent(off)}"
        said.append(f"The time is that of the pipeline played event by event; its closed form is {exact}.")
    longest, asked = d["model"].get("max_context"), d["layout"]["seq"]
    if longest is not None and asked > longest:
        said.append(f"The model was made for {count(longest)} tokens of context; sequences have {count(asked)}.")
    return said


def _fullest(d: Json) -> str:
    """Of which device the memory is."""
    return f"on the fullest device (stage {d['memory']['stage']:.0f})" if d["layout"]["pp"] > 1 else "on each device"
