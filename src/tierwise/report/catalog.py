"""What is in the catalogs: models and machines, as lists and one by one."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from tierwise.core.num import num
from tierwise.core.units import dollars, gb, parameters, seconds, si
from tierwise.machines.types import Device, System
from tierwise.models.step import Step
from tierwise.models.types import Model, Stack
from tierwise.report.numbers import UNKNOWN
from tierwise.report.plain import put_json
from tierwise.scenario.types import Plan


def show_models(to: str | None) -> None:
    """Every catalog model with its parameters."""
    rows = model_rows()
    if put_json(to, rows):
        return
    columns = ("model", "family", "parameters", "active", "layers", "KV per token", "context")
    cells = [(r["name"], r["family"], parameters(r["parameters"]), parameters(r["active_parameters"]), str(r["layers"]),
              gb(r["kv_bytes_per_token"]) if r["kv_bytes_per_token"] else UNKNOWN,
              f"{r['max_context']:,.0f}" if r["max_context"] else UNKNOWN) for r in rows]  # fmt: skip
    _print(f"{len(rows)} models. Also: a config.json, GGUF, safetensors or ONNX file, or hf:org/name.",
           columns, cells, left=2, less=("layers", "active", "KV per token", "family"))  # fmt: skip


def model_rows() -> list[dict[str, Any]]:
    """Every catalog model as a row."""
    from tierwise.models.load import load_model, model_names

    return [model_row(load_model(name)) for name in model_names()]


def layer_rows(name: str) -> list[dict[str, Any]]:
    """One row a kind of layer of a model."""
    from tierwise.models.load import load_model

    model = load_model(name)
    return [{"model": model.name, "stack": s["name"], "stream": s["stream"], **kind}
            for s in (_stack(model, stack) for stack in model.stacks) for kind in s["kinds"]]  # fmt: skip


def model_row(model: Model) -> dict[str, Any]:
    """The facts of a model in one row, as plain JSON."""
    return {
        "name": model.name,
        "family": model.family,
        "parameters": float(num(model.parameters)),
        "active_parameters": float(num(model.active_parameters)),
        "layers": sum(s.depth for s in model.stacks if s.active and s.stream in ("text", "encode")) or
                  sum(s.depth for s in model.stacks),
        "kv_bytes_per_token": kv_per_token(model),
        "max_context": model.max_context if math.isfinite(model.max_context) else None,
        "source": model.source,
    }  # fmt: skip


def kv_per_token(model: Model) -> float:
    """Bytes of KV cache that one more token adds, all layers, far below any window."""
    from tierwise.models.lower import state_bytes

    sizes = []
    for past in (64.0, 65.0):
        step = Step(model, Plan(), 1.0, 1.0, past, "decode")
        sizes.append(float(num(state_bytes(step)[0])))
    return sizes[1] - sizes[0]


def show_model(name: str, to: str | None) -> None:
    """One model: stacks, layers, weights by role, formats."""
    from tierwise.models.load import load_model

    model = load_model(name)
    row = model_row(model)
    row["stacks"] = [_stack(model, s) for s in model.stacks]
    row["formats"] = {role: str(form) for role, form in model.formats.items()}
    row["notes"] = list(model.notes)
    if put_json(to, row):
        return
    cells = [(stack["name"], str(kind["count"]), kind["name"], parameters(kind["parameters"]))
             for stack in row["stacks"] for kind in stack["kinds"]]  # fmt: skip
    formats = ", ".join(f"{role} {form}" for role, form in row["formats"].items())
    told = [f"stored as {formats}; KV cache {gb(row['kv_bytes_per_token'])} per token", *model.notes]
    told += [f"source: {model.source}"] if model.source else []
    every, active = (parameters(row[name]) for name in ("parameters", "active_parameters"))
    about = f"{model.family}, {every} parameters, {active} active per token"
    _print("\n".join(told), ("stack", "layers", "what", "parameters each"), cells, (model.name, about))


def _stack(model: Model, stack: Stack) -> dict[str, Any]:
    return {
        "name": stack.name + ("" if stack.active else " (stored, not run)"),
        "stream": stack.stream,
        "kinds": [
            {"name": k.name, "count": int(n), "parameters": float(num(k.parameters)),
             "blocks": [type(b).__name__ for b in k.blocks]}
            for k, n in stack.runs()
        ],
    }  # fmt: skip


def show_machines(to: str | None) -> None:
    """Every device and system of the catalog."""
    from tierwise.machines import system, system_names

    devices = device_rows()
    systems = [system_row(system(n)) for n in system_names()]
    if put_json(to, {"devices": devices, "systems": systems}):
        return
    cells = [(r["name"], r["kind"], gb(r["memory"]) if r["memory"] else UNKNOWN,
              gb(r["bandwidth"]) + "/s" if r["bandwidth"] else UNKNOWN,
              f"{si(r['rate'], 'FLOP/s')} {r['rate_dtype']}" if r["rate"] else UNKNOWN, f"{r['power']:.4g} W",
              f"${r['rent_per_hour']:.2f}/h" if r["rent_per_hour"] else UNKNOWN) for r in devices]  # fmt: skip
    _print(f"{len(devices)} devices; put a count before one (8xh100-sxm) or write your own YAML.",
           ("device", "kind", "memory", "bandwidth", "best rate", "power", "rent"), cells, left=2,
           less=("power", "kind"))  # fmt: skip
    made = [(r["name"], str(r["count"]), f"{r['device']}, {r['per_node']} a node",
             f"{dollars(r['rent_per_hour'])}/h" if r["rent_per_hour"] else UNKNOWN) for r in systems]  # fmt: skip
    _print(f"{len(systems)} systems; the rent is that of the whole.", ("system", "devices", "made of", "rent"), made)


def device_rows() -> list[dict[str, Any]]:
    """Every device of the catalog as a row."""
    from tierwise.machines import device, device_names

    return [device_row(device(n)) for n in device_names()]


def device_row(d: Device) -> dict[str, Any]:
    """The facts of a device in one row, as plain JSON; absent numbers are null."""
    tiers = [t for t in d.tiers if t.kind in ("memory", "storage")]
    rates = [(r, name) for e in d.engines for name, r in e.rates.items() if name in ("bf16", "fp16", "fp32", "int8")]
    wide = [x for x in rates if x[1] in ("bf16", "fp16")] or rates
    best = max(wide, default=(None, None))
    return {
        "name": d.name, "title": d.title, "kind": d.kind, "family": d.family, "released": d.released,
        "memory": tiers[0].capacity if tiers else None, "bandwidth": tiers[0].bandwidth if tiers else None,
        "rate": best[0], "rate_dtype": best[1], "power": d.power.rated, "idle_power": d.power.idle,
        "rent_per_hour": d.price.rent * 3600 if math.isfinite(d.price.rent) else None,
        "list_price": d.price.list_price if math.isfinite(d.price.list_price) else None,
        "price_date": d.price.date,
    }  # fmt: skip


def system_row(s: System) -> dict[str, Any]:
    rent = float(num(s.rent(s.count))) * 3600.0
    return {"name": s.name, "device": s.device.name, "count": s.count, "per_node": s.per_node,
            "rent_per_hour": rent if math.isfinite(rent) else None, "source": s.source}  # fmt: skip


def show_machine(name: str, to: str | None) -> None:
    """One machine: every number with its source."""
    from tierwise.machines import system

    found = system(name)
    rows = machine_rows(found)
    if put_json(to, {**device_row(found.device), "system": system_row(found), "numbers": rows}):
        return
    d = found.device
    count = f"{found.count} × " if found.count > 1 else ""
    columns = ("what", "numbers", "source")
    _print(d.notes, columns, [[r[name] for name in columns] for r in rows],
           (found.name, f"{count}{d.title}, {d.kind}, released {d.released}"), left=3)  # fmt: skip


def machine_rows(found: System) -> list[dict[str, str]]:
    """Every section of a machine in words, with its source."""
    d = found.device
    rows = []
    for t in d.tiers:
        text = f"{gb(t.capacity)} at {gb(t.bandwidth)}/s, {seconds(t.latency)}"
        if math.isfinite(t.energy):
            text += f", {t.energy * 1e12 / 8:.3g} pJ/bit"
        rows.append({"what": f"{t.name} ({t.kind})", "numbers": text, "source": t.source})
    for e in d.engines:
        rates = ", ".join(f"{k} {si(v, 'FLOP/s')}" for k, v in e.rates.items())
        rows.append({"what": f"{e.name} ({e.kind})", "numbers": f"{e.units} units: {rates}", "source": e.source})
    for link in {x.name: x for x in (found.scale_up, found.scale_out, *d.links) if x is not None}.values():
        text = f"{gb(link.bandwidth)}/s each way, {seconds(link.latency)}, {link.domain} devices, {link.topology}"
        rows.append({"what": f"{link.name} ({link.kind})", "numbers": text, "source": link.source})
    rows.append({"what": "power", "numbers": f"{d.power.rated:g} W rated, {d.power.idle:g} W idle",
                 "source": d.power.source})  # fmt: skip
    if math.isfinite(d.price.rent) or math.isfinite(d.price.list_price):
        rent = f"${d.price.rent * 3600:.2f}/h" if math.isfinite(d.price.rent) else "no public rent"
        price = dollars(d.price.list_price) if math.isfinite(d.price.list_price) else "no list price"
        rows.append({"what": f"price ({d.price.date})", "numbers": f"{rent}, {price}", "source": d.price.source})
    rows.append({"what": "dispatch", "source": d.dispatch.source, "numbers":
                 f"{seconds(d.dispatch.eager)} launched, {seconds(d.dispatch.graph)} replayed"})  # fmt: skip
    return rows


def _print(
    remark: str, columns: Sequence[str], cells: Sequence[Sequence[str]], about: tuple[str, str] = ("", ""),
    left: int = 1, whole: int = 1, less: Sequence[str] = (),
) -> None:  # fmt: skip
    """A name and what it is, a table, and what is to be said below it; ``less``: columns that give way, first first."""
    from rich.text import Text

    from tierwise.report.console import console
    from tierwise.report.terminal import fitted, grid

    out = console()
    if any(about):
        out.print(Text.assemble((about[0], "bold"), "  ", about[1]))
    out.print(fitted(columns, cells, left, less) if less else grid(columns, cells, left, whole))
    if remark:
        out.print(remark, markup=False, highlight=False)
