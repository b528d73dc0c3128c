"""The report on a network on a microcontroller: its arena, its flash, its patches, its time."""

from __future__ import annotations

from typing import Any

from tierwise.core.units import gb, seconds
from tierwise.report.layout import Report
from tierwise.report.numbers import count, percent
from tierwise.search.mcu import OnChip

Json = dict[str, Any]


def to_dict(x: OnChip, machine: str) -> Json:
    """Everything as plain data; bytes and seconds."""
    split = x.split
    return {
        "status": "fits" if x.fits else "too-large",
        "machine": machine,
        "runtime": x.runtime or None,
        "operators": x.operators,
        "arena": x.arena,
        "arena_whole": x.whole,
        "arena_beside_tensors": x.beside,
        "sram": x.sram,
        "flash": x.flash,
        "flash_room": x.flash_room,
        "time": x.time,
        "time_whole": x.whole_time,
        "work_over_whole": x.again,
        "patches": None
        if split is None
        else {
            "operators": list(x.names),
            "grid": split.grid,
            "arena_patched": split.patch_peak,
            "arena_behind": split.rest_peak,
        },
    }


def described(d: Json, name: str) -> Report:
    """The report of its JSON form."""
    patches, fits = d["patches"], d["status"] == "fits"
    short = []
    if d["arena"] > d["sram"]:
        short.append(f"the arena takes {gb(d['arena'])} of {gb(d['sram'])} SRAM")
    if d["flash"] > d["flash_room"]:
        short.append(f"the weights take {gb(d['flash'])} of {gb(d['flash_room'])} flash")
    how = "" if patches is None else f" in {patches['grid']}×{patches['grid']} patches"
    said = f"Runs{how} in {seconds(d['time'])}." if fits else f"Does not fit: {', and '.join(short)}."
    beside = f", {gb(d['arena_beside_tensors'])} of it beside tensors" if d["runtime"] else ""
    holds = f"weights, and code of {d['runtime']}" if d["runtime"] else "weights alone, without code"
    numbers = [
        ("Arena", gb(d["arena"]), f"of {gb(d['sram'])}; {gb(d['arena_whole'])} without patches{beside}"),
        ("Flash", gb(d["flash"]), f"of {gb(d['flash_room'])}: {holds}"),
        ("Time", seconds(d["time"]), f"{seconds(d['time_whole'])} without patches"),
    ]
    why: tuple[str, ...] = ()
    if patches is not None:
        more = d["work_over_whole"] - 1.0
        why = (
            f"The first {count(len(patches['operators']))} of {count(d['operators'])} operators run patch by patch, "
            f"with {percent(more)} more multiply-adds in all; {gb(patches['arena_patched'])} there, "
            f"{gb(patches['arena_behind'])} behind them.",
        )
    return Report(
        title=f"{name}: on {d['machine']}",
        subject=name,
        place=f"on {d['machine']}",
        subtitle="",
        headline=said,
        state="fits" if fits else "too-large",
        alarm=not fits,
        why=why,
        numbers=numbers,
        sections={},
    )
