"""The ops of every recorded row as flat columns, so that a trial of coefficients is a few array operations."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise.cost import Target, ondevice
from tierwise.cost.kits import Kit
from tierwise.measure.edge import GroupWork
from tierwise.measure.edge_cards import by_rows, exchange, part, pipelined

Array = NDArray[np.float64]
CLASSES = ("f16", "bf16", "q8", "q5", "q4", "k", "iq")


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
        times, tokens, measured: by row. ``build``, ``device``, ``phase``, ``family``, ``model``, ``options`` (of the
            build): likewise; ``cards``: that layers are dealt to; ``own``: whether a row is of the table that errors
            are stated for; ``sound``: whether it is fitted to.
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
    options: NDArray[Any]
    model: NDArray[np.str_]
    own: NDArray[np.bool_]
    sound: NDArray[np.bool_]


def flat(
    own: Sequence[GroupWork], counts: Mapping[str, float], peaks: Mapping[str, str], beside: Sequence[GroupWork] = (),
    reads: Mapping[str, float] = {},
) -> Flat:
    """The groups as columns.

    Args:
        counts: kernels of an op by its kind or name. ``peaks``: what classes are counted against. ``beside``: groups of
            other tables. ``reads``: shares of the memory's bandwidth that a backend's own test reads, by family.
    """
    ws = [replace(w, on=ondevice.reading_at(w.on, reads.get(w.group.machine.device.family, 1.0)))
          for w in (*own, *beside)]  # fmt: skip
    parts: dict[str, list[dict[str, Any]]] = {k: [] for k in ("products", "decoding", "reading", "scans", "others")}
    start = 0
    rows: list[tuple[Any, ...]] = []
    for w in ws:
        n = len(w.measured)
        place = np.arange(start, start + n, dtype=float)
        start += n
        for repeat, op in w.ops:
            kind, values = _op(w, op, counts, peaks)
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
        model=np.repeat([w.group.model.name for w in ws], sizes),
        options=np.repeat(np.array([w.group.options for w in ws], dtype=object), sizes),
        own=np.repeat([i < len(own) for i in range(len(ws))], sizes), sound=np.repeat([sound(w) for w in ws], sizes),
    )  # fmt: skip


def sound(w: GroupWork) -> bool:
    """Whether a group says what kernels reach. AMD's cards on Raspberry Pis do not: the boards' PCIe is not coherent
    with their caches, AMD's driver runs there with patches that give that up, and the same card is 2 to 8 times as slow
    as in a computer."""
    return not (w.group.machine.device.vendor == "AMD" and re.match(r"Pi\b", w.group.host))


def _cut(w: GroupWork, op: Any, values: Mapping[str, Any]) -> dict[str, Any]:
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
        "spare": values["spare"] * cards,
        **_tiles(part(op, cards), w.on, CLASSES[int(values["class"])]),
    }


def _tiles(op: Any, on: Target, name: str) -> dict[str, Any]:
    """What tiles read again of a product, in either order; nothing of formats that a library multiplies."""
    (along, _), (across, _) = (ondevice.own_tiles(op, on, {"again": 1.0, "serial": 0.0, "streamed": x}, name)
                               for x in (1.0, 0.0))  # fmt: skip
    return {"along": along, "across": across}


def base(device: str) -> str:
    """The chip, whatever memory or number of cores it is sold with."""
    return re.sub(r"(-\d+c)?(-\d+gb)?$", "", device) if device.startswith("apple") else re.sub(r"-\d+gb$", "", device)


def _op(w: GroupWork, op: Any, counts: Mapping[str, float], peaks: Mapping[str, str]) -> tuple[str, dict[str, Any]]:
    on = w.on
    memory, issue = on.memory.bandwidth, ondevice.issue_rate(on)
    vector = on.rate("fp32", "vector")[0]
    requests = on.rate("fp32", "vector")[1].units / on.memory.latency
    near = ondevice.activations(op, on)
    size = op.bytes_of("act") * 2.0 / issue
    if op.kind in ("matmul", "moe"):
        weight = next((o.format for o in op.reads if o.role == "weight"), None)
        name = "f16" if weight is None else ondevice.class_of(weight)
        d = op.dims
        if op.kind == "matmul":
            rows, elements = d["m"], d["n"] * d["k"] * d.get("batch", 1.0)
            held = op.bytes_of("weight") + (op.bytes if weight is None else 0.0)
            kernels = counts["matmul"] * float(str(op.options.get("parts", 1)))
        else:
            rows, elements = ondevice.expert_work(op)
            held, kernels = op.bytes_of("weight"), counts["moe"]
        return "products", {
            "class": float(CLASSES.index(name)), "rows": rows, "elements": elements, "weights": held,
            "kernels": kernels, "fed": d["tokens"] if op.kind == "moe" else rows,
            "touched": d["touched"] if op.kind == "moe" else 0.0,
            "experts": float(op.kind == "moe"), "near": near, "size": size,
            "memory": memory, "requests": requests, "issue": issue, "converted": op.bytes_of("act") * 2.0,
            "peak": ondevice.peak(on, peaks[name]), "spare": ondevice.tiled(op, on), **_tiles(op, on, name),
        }  # fmt: skip
    if op.kind == "attention":
        fused = bool(op.options.get("flash", True))
        macs, scores = ondevice.attention_work(op)
        kernels = counts["flash" if fused else "attention"]
        same = {"fused": float(fused), "macs": macs, "kernels": kernels, "memory": memory}
        if op.options.get("phase") == "decode":
            return "decoding", {**same, "kv": op.bytes_of("kv"), "requests": requests, "issue": issue}
        return "reading", {**same, "scores": scores, "peak": on.rate("fp16")[0], "kv": op.bytes_of("kv"),
                           "queries": op.dims["q"], "head": op.dims["head_dim"]}  # fmt: skip
    if op.kind == "scan":
        return "scans", {"work": op.flops / vector, "moved": op.bytes_of("state") * 2.0 / memory, "near": near,
                         "size": size,
                         "kernels": counts["scan"]}  # fmt: skip
    kept = (op.bytes - op.bytes_of("act")) / memory
    return "others", {"near": near, "size": size, "kept": kept, "kernels": ondevice.kernels_of(op, counts)}


def flattened(kit: Kit) -> Array:
    """The coefficients of a kit in one row: all values, then each field of every class."""
    return np.asarray([*kit.values.values(), *(kit.classes[c][k] for k in kit.classes["f16"] for c in CLASSES)])


def rates(f: Flat, like: Kit, coefficients: Array, place: NDArray[np.intp]) -> Array:
    """Tokens per second of every row.

    Args:
        like: a kit with the names of the coefficients. ``coefficients``: rows as :func:`flattened` gives them;
            ``place``: which of them holds for each row of the table.
    """
    n = len(f.measured)
    names, fields = list(like.values), list(like.classes["f16"])
    own_ = coefficients[place]
    value = {k: own_[:, i] for i, k in enumerate(names)}
    width = len(CLASSES)
    table = {k: own_[:, len(names) + i * width : len(names) + (i + 1) * width] for i, k in enumerate(fields)}
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
        fed = np.where((p["experts"] > 0) & (value["apart"][row] > 0.0), p["rows"], p["fed"])
        read, multiply = ondevice.product(
            own, reach, p["issue"], p["peak"], p["rows"], p["elements"], p["weights"], fed,
            np.where(kind < 2, 0.0, value["library"][row]), p["converted"], value["fill"][row] * p["spare"],
            value["unpack"][row],
            value["again"][row] * (value["streamed"][row] * p["along"] + (1.0 - value["streamed"][row]) * p["across"]),
            np.where(kind < 2, 0.0, value["serial"][row]),
        )
        alone = ondevice.by_a_library(p["rows"], np.where(kind < 2, 0.0, value["library"][row]))
        many = np.where(alone, 1.0, value["grouped"][row])
        mixed = np.where(fed <= ondevice.FEW, value["experts"][row], many)
        more = np.where(p["experts"] > 0, mixed, 1.0)
        apart = (value[k][row] for k in ("library", "apart", "alone"))
        calls = p["touched"] * ondevice.started(p["fed"], p["rows"], *apart)
        c = Columns({**p.data, "kernels": p["kernels"] + calls})
        handed = p["waits"] * value["sync"][row] + p["handed"] / value["link"][row]
        add(
            c,
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
        sizes_ = c["macs"], c["scores"], c["kv"], c["queries"], c["head"]
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
