"""What is in the catalogs: models and machines, as lists and one by one."""

from __future__ import annotations

import json as jsonlib
import math
from typing import Any

from tierwise.core.num import num
from tierwise.core.units import dollars, gb, seconds, si
from tierwise.machines.types import Device, System
from tierwise.models.step import Step
from tierwise.models.types import Model, Stack
from tierwise.scenario.types import Plan


def show_models(as_json: bool) -> None:
    """Every catalog model with its parameters."""
    from tierwise.models.load import load_model, model_names

    rows = [model_row(load_model(name)) for name in model_names()]
    if as_json:
        print(jsonlib.dumps(rows, indent=2))
        return
    table = _table("model", "family", "parameters", "active", "layers", "KV per token", "context", left=2)
    for r in rows:
        table.add_row(r["name"], r["family"], si(r["parameters"]), si(r["active_parameters"]), str(r["layers"]),
                      gb(r["kv_bytes_per_token"]) if r["kv_bytes_per_token"] else "–",
                      f"{r['max_context']:,.0f}" if r["max_context"] else "–")  # fmt: skip
    _print(table, f"{len(rows)} models. Also: a config.json, GGUF, safetensors or ONNX file, or hf:org/name.")


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


def show_model(name: str, as_json: bool) -> None:
    """One model: stacks, layers, weights by role, formats."""
    from tierwise.models.load import load_model

    model = load_model(name)
    row = model_row(model)
    row["stacks"] = [_stack(model, s) for s in model.stacks]
    row["formats"] = {role: str(form) for role, form in model.formats.items()}
    row["notes"] = list(model.notes)
    if as_json:
        print(jsonlib.dumps(row, indent=2))
        return
    from tierwise.report.console import console

    out = console()
    out.print(f"[bold]{model.name}[/]  {model.family}, {si(row['parameters'])} parameters, "
              f"{si(row['active_parameters'])} active per token", highlight=False)  # fmt: skip
    table = _table("stack", "layers", "what", "parameters each", left=1)
    for stack in row["stacks"]:
        for kind in stack["kinds"]:
            table.add_row(stack["name"], str(kind["count"]), kind["name"], si(kind["parameters"]))
    out.print(table)
    formats = ", ".join(f"{role} {form}" for role, form in row["formats"].items())
    out.print(f"stored as {formats}; KV cache {gb(row['kv_bytes_per_token'])} per token", highlight=False)
    for line in (*model.notes, f"source: {model.source}" if model.source else ""):
        if line:
            out.print(line, markup=False, highlight=False)


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


def show_machines(as_json: bool) -> None:
    """Every device and system of the catalog."""
    from tierwise.machines import device, device_names, system, system_names

    devices = [device_row(device(n)) for n in device_names()]
    systems = [system_row(system(n)) for n in system_names()]
    if as_json:
        print(jsonlib.dumps({"devices": devices, "systems": systems}, indent=2))
        return
    table = _table("device", "kind", "memory", "bandwidth", "best rate", "power", "rent", left=2)
    for r in devices:
        table.add_row(r["name"], r["kind"], gb(r["memory"]) if r["memory"] else "–",
                      gb(r["bandwidth"]) + "/s" if r["bandwidth"] else "–",
                      f"{si(r['rate'], 'FLOP/s')} {r['rate_dtype']}" if r["rate"] else "–", f"{r['power']:.4g} W",
                      f"${r['rent_per_hour']:.2f}/h" if r["rent_per_hour"] else "–")  # fmt: skip
    _print(table, f"{len(devices)} devices; put a count before one (8xh100-sxm) or write your own YAML.")
    table = _table("system", "devices", "made of", left=1)
    for r in systems:
        table.add_row(r["name"], str(r["count"]), f"{r['device']}, {r['per_node']} a node")
    _print(table, f"{len(systems)} systems.")


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
    return {"name": s.name, "device": s.device.name, "count": s.count, "per_node": s.per_node, "source": s.source}


def show_machine(name: str, as_json: bool) -> None:
    """One machine: every number with its source."""
    from tierwise.machines import system

    found = system(name)
    rows = machine_rows(found)
    if as_json:
        print(jsonlib.dumps({**device_row(found.device), "system": system_row(found), "numbers": rows}, indent=2))
        return
    from tierwise.report.console import console

    out = console()
    d = found.device
    count = f"{found.count} × " if found.count > 1 else ""
    out.print(f"[bold]{found.name}[/]  {count}{d.title}, {d.kind}, released {d.released}", highlight=False)
    table = _table("what", "numbers", "source", left=3)
    for r in rows:
        table.add_row(r["what"], r["numbers"], r["source"])
    out.print(table)
    if d.notes:
        out.print(d.notes, markup=False, highlight=False)


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


def _table(*columns: str, left: int = 1) -> Any:
    from rich.table import Table

    table = Table(show_edge=False, pad_edge=False)
    for i, name in enumerate(columns):
        side: Any = "left" if i < left else "right"
        table.add_column(name, justify=side, overflow="fold", no_wrap=i == 0 or name == "family")
    return table


def _print(table: Any, remark: str) -> None:
    from tierwise.report.console import console

    out = console()
    out.print(table)
    out.print(remark, highlight=False)
