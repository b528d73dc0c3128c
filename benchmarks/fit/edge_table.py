"""The ops of every recorded row as flat columns, so that a trial of coefficients is a few array operations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.cost import ondevice
from tierwise.cost.kits import Kit
from tierwise.measure.edge import Work
from tierwise.measure.edge_cards import by_rows, exchange, pipelined

Array = NDArray[np.float64]
CLASSES = ("f16", "q8", "q5", "q4", "k", "iq")


@dataclass(frozen=True)
class Columns:
    """Columns of one kind of op (each of one length), with ``row`` and ``repeat``."""

    data: Mapping[str, Array]

    def __getitem__(self, name: str) -> Array:
        return self.data[name]

    def __len__(self) -> int:
        return len(self.data["row"])


@dataclass(frozen=True)
class Flat:
    """Rows of several groups with all of their ops.

    Attributes:
        products, decoding, reading, scans, others: ops by how they are priced.
        times, tokens, measured: by row. ``build``, ``device``, ``phase``, ``family``: likewise; ``cards``: that layers
            are dealt to.
    """

    products: Columns
    decoding: Columns
    reading: Columns
    scans: Columns
    others: Columns
    times: Array
    tokens: Array
    measured: Array
    build: Array
    device: NDArray[np.str_]
    phase: NDArray[np.str_]
    cards: Array
    family: NDArray[np.str_]


def flat(ws: Sequence[Work], counts: Mapping[str, float]) -> Flat:
    """The groups as columns.

    Args:
        counts: kernels of an op by its kind or name.
    """
    parts: dict[str, list[dict[str, Any]]] = {k: [] for k in ("products", "decoding", "reading", "scans", "others")}
    start = 0
    rows: list[tuple[Any, ...]] = []
    for w in ws:
        n = len(w.measured)
        place = np.arange(start, start + n, dtype=float)
        start += n
        for repeat, op in w.ops:
            kind, values = _op(w, op, counts)
            columns = {"row": place, "repeat": repeat, **values}
            if kind == "products":
                columns |= _cut(w, op, values)
            parts[kind].append({k: np.broadcast_to(np.asarray(v, float), (n,)) for k, v in columns.items()})
        rows.append((np.broadcast_to(np.asarray(w.times, float), (n,)), w.tokens, w.measured,
                     w.group.build, base(w.group.machine.device.name), w.group.phase,
                     1.0 if by_rows(w.group.build) or w.group.phase == "decode" else float(w.group.machine.count),
                     w.group.machine.device.family))  # fmt: skip
    none = {"row": np.zeros(0)}
    joined = {k: Columns({name: np.concatenate([c[name] for c in found]) for name in found[0]} if found else none)
              for k, found in parts.items()}  # fmt: skip
    sizes = [len(r[2]) for r in rows]
    return Flat(
        **joined, times=np.concatenate([r[0] for r in rows]), tokens=np.concatenate([r[1] for r in rows]),
        measured=np.concatenate([r[2] for r in rows]), build=np.repeat([r[3] for r in rows], sizes),
        device=np.repeat([r[4] for r in rows], sizes), phase=np.repeat([r[5] for r in rows], sizes),
        cards=np.repeat([r[6] for r in rows], sizes), family=np.repeat([r[7] for r in rows], sizes),
    )  # fmt: skip


def _cut(w: Work, op: Any, values: Mapping[str, Any]) -> dict[str, Any]:
    """A product's part on one card where products are cut, and what is handed around."""
    cards = float(w.group.machine.count)
    if cards == 1 or not by_rows(w.group.build) or op.kind != "matmul" or values["weights"] is op.bytes:
        return {"waits": 0.0, "handed": 0.0}
    unit = {"sync": 1.0, "link": np.inf}
    waits = exchange(op, w.on, unit, cards)
    handed = exchange(op, w.on, {"sync": 0.0, "link": 1.0}, cards)
    return {
        "waits": waits,
        "handed": handed,
        "elements": values["elements"] / cards,
        "weights": values["weights"] / cards,
    }


def base(device: str) -> str:
    """The chip, whatever memory or number of cores it is sold with."""
    return re.sub(r"(-\d+c)?(-\d+gb)?$", "", device) if device.startswith("apple") else re.sub(r"-\d+gb$", "", device)


def _op(w: Work, op: Any, counts: Mapping[str, float]) -> tuple[str, dict[str, Any]]:
    on = w.on
    memory, issue = on.memory.bandwidth, ondevice.issue_rate(on)
    vector = on.rate("fp32", "vector")[0]
    requests = on.rate("fp32", "vector")[1].units / on.memory.latency
    near = ondevice.activations(op, on)
    size = op.bytes_of("act") * 2.0 / issue
    if op.kind in ("matmul", "moe"):
        weight = next((o.format for o in op.reads if o.role == "weight"), None)
        name = "f16" if weight is None else ondevice.class_of(weight)
        if op.kind == "matmul":
            d = op.dims
            rows, elements = d["m"], d["n"] * d["k"] * d.get("batch", 1.0)
            held = op.bytes_of("weight") + (op.bytes if weight is None else 0.0)
            kernels = counts["matmul"] * float(str(op.options.get("parts", 1)))
        else:
            rows, elements = ondevice.expert_work(op)
            held, kernels = op.bytes_of("weight"), counts["moe"]
        return "products", {
            "class": float(CLASSES.index(name)), "rows": rows, "elements": elements, "weights": held,
            "kernels": kernels,
            "experts": float(op.kind == "moe"), "near": near, "size": size,
            "memory": memory, "requests": requests, "issue": issue,
            "peak": on.rate(w.kit.peaks[name])[0],
        }  # fmt: skip
    if op.kind == "attention":
        fused = bool(op.options.get("flash", True))
        macs, scores = ondevice.attention_work(op)
        kernels = counts["flash" if fused else "attention"]
        same = {"fused": float(fused), "macs": macs, "kernels": kernels, "memory": memory}
        if op.options.get("phase") == "decode":
            return "decoding", {**same, "kv": op.bytes_of("kv"), "requests": requests, "issue": issue}
        return "reading", {**same, "scores": scores, "peak": on.rate("fp16")[0], "kv": op.bytes_of("kv"),
                           "queries": op.dims["q"]}  # fmt: skip
    if op.kind == "scan":
        return "scans", {"work": op.flops / vector, "moved": op.bytes_of("state") * 2.0 / memory, "near": near,
                         "size": size,
                         "kernels": counts["scan"]}  # fmt: skip
    kept = (op.bytes - op.bytes_of("act")) / memory
    return "others", {"near": near, "size": size, "kept": kept, "kernels": ondevice.kernels_of(op, counts)}


def rates(f: Flat, kits: Mapping[tuple[float, str], Kit]) -> Array:
    """Tokens per second of every row.

    Args:
        kits: the coefficients of each build and family of devices that occur.
    """
    n = len(f.measured)
    names = list(next(iter(kits.values())).values)
    value = {k: np.zeros(n) for k in names}
    fields = list(next(iter(next(iter(kits.values())).classes.values())))
    table = {k: np.zeros((n, len(CLASSES))) for k in fields}
    for (build, family), kit in kits.items():
        mine = (f.build == build) & (f.family == family)
        for k in names:
            value[k][mine] = kit.values[k]
        for k in fields:
            table[k][mine] = [kit.classes[c][k] for c in CLASSES]
    time = np.zeros(n)

    def add(c: Columns, seconds: Array) -> None:
        row = c["row"].astype(np.intp)
        seconds = seconds + c["kernels"] * value["gap"][row]
        time[:] += np.bincount(row, weights=c["repeat"] * seconds, minlength=n)

    if len(c := f.products):
        p = f.products
        row, kind = p["row"].astype(np.intp), p["class"].astype(np.intp)
        own = {k: table[k][row, kind] for k in fields}
        reach = ondevice.drawn(p["memory"], p["requests"], value["flight"][row])
        read, multiply = ondevice.product(
            own, reach, p["issue"], p["peak"], p["rows"], p["elements"], p["weights"]
        )
        more = np.where(p["experts"] > 0, value["experts"][row], 1.0)
        handed = p["waits"] * value["sync"][row] + p["handed"] / value["link"][row]
        add(
            p,
            np.maximum(
                (read + multiply) * more,
                ondevice.moving({k: value[k][row] for k in ("acts", "acts_work")}, p["near"], p["size"], 1.0),
            )
            + handed,
        )
    if len(c := f.decoding):
        row = c["row"].astype(np.intp)
        v = {k: value[k][row] for k in names}
        reach = ondevice.drawn(c["memory"], c["requests"], v["flight"])
        add(c, ondevice.decoding(v, reach, c["issue"], c["fused"] > 0, c["kv"], c["macs"]))
    if len(c := f.reading):
        row = c["row"].astype(np.intp)
        v = {k: value[k][row] for k in names}
        sizes_ = c["macs"], c["scores"], c["kv"], c["queries"]
        time_ = ondevice.reading(v, c["memory"], c["peak"], c["fused"] > 0, *sizes_)
        add(c, time_)
    if len(f.scans):
        row = f.scans["row"].astype(np.intp)
        add(f.scans, np.maximum(np.maximum(f.scans["work"] / value["scan"][row], f.scans["moved"]),
                                ondevice.moving({k: value[k][row] for k in ("acts", "acts_work")}, f.scans["near"],
                                                f.scans["size"], 1.0)))  # fmt: skip
    if len(f.others):
        row = f.others["row"].astype(np.intp)
        add(
            f.others,
            np.maximum(
                ondevice.moving(
                    {k: value[k][row] for k in ("acts", "acts_work")}, f.others["near"], f.others["size"], 1.0
                ),
                f.others["kept"],
            ),
        )
    faster = pipelined({"stages": value["stages"]}, f.times, f.cards)
    return f.tokens * faster / (f.times * (time + value["step"]))
