"""Measure this computer: which probes there are, running them (and resuming), and the machine file they make."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from types import ModuleType
from typing import Any

from tierwise.measure import engines
from tierwise.measure.engines import MeasureSettings

Results = dict[str, Any]


@dataclass(frozen=True)
class Probe:
    """One measurement. ``work`` is given the results so far and returns what JSON can hold."""

    key: str
    label: str
    work: Callable[[Results], Any]


def probes(bench: MeasureSettings, modules: Sequence[ModuleType], disk: Path | None) -> Iterator[Probe]:
    """Every measurement of this computer, in order: memory, disk, then each engine."""
    from tierwise.measure import bench_device, bench_disk, bench_memory

    host = bench.device == "cpu"
    caches = bench_memory.cache_sizes() if host else {"l2": bench_device.describe(bench.device).cache or 32e6}
    sets = bench_memory.working_sets(caches, bench.quick)
    for size in sets if host else ():
        yield Probe(f"copy.{size:.0f}", "memory bandwidth",
                    lambda _, s=size: bench_memory.copy_bandwidth(s, bench.threads, bench.timer))  # type: ignore[misc]  # fmt: skip
    for name, size in [*((k, v / 2) for k, v in caches.items()), ("dram", sets[-1])] if host else ():
        yield Probe(f"latency.{name}", f"latency of {name}", lambda _, s=size: bench_memory.latency(s, bench.timer))  # type: ignore[misc]
    if not host and bench_device.describe(bench.device).siblings > 1:
        for size in (1.0, 64.0 * 2**20):
            yield Probe(f"peer.{size:.0f}", "link between devices", lambda _, s=size: bench_device.peer(s, bench.timer))  # type: ignore[misc]
    for module in modules:
        name = module.NAME
        if hasattr(module, "copy_bandwidth"):
            for size in sets:
                yield Probe(f"{name}/copy.{size:.0f}", f"{name}: elementwise",
                            lambda _, m=module, s=size: m.copy_bandwidth(bench, s))  # type: ignore[misc]  # fmt: skip
        for key, work in module.product_probes(bench):
            yield Probe(f"{name}/{key}", f"{name}: matrix products",
                        lambda seen, m=module, w=work: w(_part(seen, m.NAME)))  # type: ignore[misc]  # fmt: skip
    # Twice, a while apart: of two disturbed measurements of one run the quieter counts.
    for again in ("", "again/"):
        if disk is not None:
            size = (64 if bench.quick else 256) * 2**20
            yield Probe(f"{again}disk", "disk", lambda _, n=size: vars(bench_disk.measure_disk(disk, n)))  # type: ignore[misc]
        for module in modules if disk is not None else ():
            if hasattr(module, "mapped"):
                yield Probe(f"{again}{module.NAME}/mapped", f"{module.NAME}: weights in a mapped file",
                            lambda _, m=module: m.mapped(bench, disk))  # type: ignore[misc]  # fmt: skip
        for module in modules:
            pieces = module.pieces(bench) if hasattr(module, "pieces") else ()
            for run in (*pieces, *module.runs("calibrate", bench)):
                yield Probe(f"{again}{module.NAME}/run/{run.name}", f"{module.NAME}: {run.name}",
                            lambda _, r=run: bench.timer(r.prepare()).median)  # type: ignore[misc]  # fmt: skip


def run(
    todo: Iterable[Probe], state: Path | None, setup: Mapping[str, Any], step: Callable[[Probe], None]
) -> tuple[Results, dict[str, str]]:
    """(results by key, what failed and why). What an earlier, interrupted call finished is not measured again.

    Args:
        todo: the probes.
        state: file of finished probes; None keeps none. It is only used for the same ``setup``.
        setup: processor, threads, versions: what results depend on.
        step: called before each probe.
    """
    results = _resume(state, setup)
    failed: dict[str, str] = {}
    for probe in todo:
        step(probe)
        if probe.key in results:
            continue
        try:
            results[probe.key] = probe.work(results)
        except (OSError, RuntimeError, MemoryError, ValueError, KeyError) as error:
            failed[probe.key] = f"{type(error).__name__}: {error}"
            continue
        if state is not None:
            _save(state, {"setup": dict(setup), "results": results})
    return results, failed


def _resume(state: Path | None, setup: Mapping[str, Any]) -> Results:
    if state is None or not state.is_file():
        return {}
    try:
        found = json.loads(state.read_text())
        return dict(found["results"]) if found["setup"] == dict(setup) else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _save(state: Path, data: Mapping[str, Any]) -> None:
    beside = state.with_name(state.name + ".new")
    beside.write_text(json.dumps(data))
    os.replace(beside, state)


def _part(results: Results, engine: str) -> dict[str, float]:
    """The results of one engine, by their own names; of a run measured twice, the quieter."""
    found = {k.split("/", 1)[1]: v for k, v in results.items() if k.startswith(engine + "/")}
    return {k: min(v, results.get(f"again/{engine}/{k}", v)) for k, v in found.items()}


def setup(bench: MeasureSettings, clock: str, modules: Iterable[ModuleType]) -> dict[str, Any]:
    """What the results of probes depend on."""
    found = {m.NAME: engines.versions(m) for m in modules}
    return {"processor": processor(), "threads": bench.threads, "clock": clock, "quick": bench.quick,
            "device": bench.device, "engines": found, "limits": list(bench.limits)}  # fmt: skip


def processor() -> str:
    """What the system calls its processor."""
    try:
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith(("model name", "Model", "Hardware")):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor() or platform.machine() or "unknown processor"


# ---------------------------------------------------------------- the machine file


def machine(results: Results, bench: MeasureSettings, clock: str, modules: Iterable[ModuleType]) -> dict[str, Any]:
    """The mapping of a machine file, as :mod:`tierwise.machines.schema` checks it."""
    present = [m for m in modules if any(k.startswith(f"{m.NAME}/") and k.endswith(".rate") for k in results)]
    about = _about(present, bench, clock)
    device = _host(results, bench, about) if bench.device == "cpu" else _accelerator(results, bench, about)
    device["calibration"] = [p for m in _ordered(present) if (p := _profile(m, results, bench, device, about))]
    return device


def _about(modules: Iterable[ModuleType], bench: MeasureSettings, clock: str) -> str:
    what = "; ".join([*(engines.versions(m) for m in modules), *bench.limits])
    ticks = "processor time of one thread" if clock == "cpu" else "wall time"
    where = "" if bench.device == "cpu" else f", device {bench.device}"
    when = date.today().isoformat()
    return f"measured by tierwise calibrate on {when}, {processor()}, {what}, {bench.threads} thread(s), {ticks}{where}"


def _ordered(modules: Iterable[ModuleType]) -> list[ModuleType]:
    """The engine most people start with first: a machine's first profile is its usual one."""
    usual = ["torch", "llama.cpp", "onnxruntime", "numpy"]
    return sorted(modules, key=lambda m: usual.index(m.NAME) if m.NAME in usual else -1)


def _accelerator(results: Results, bench: MeasureSettings, about: str) -> dict[str, Any]:
    """A device that PyTorch drives, as its driver and the probes describe it."""
    from tierwise.measure import bench_device

    says = bench_device.describe(bench.device)
    copy = curve(results, "torch/copy")
    tiers = [{"name": "memory", "kind": "memory", "capacity": says.memory, "bandwidth": copy["value"][-1],
              "latency": 0.0, "source": "measured (latency is part of a call)"}]  # fmt: skip
    if says.cache:
        near = {"name": "l2", "kind": "cache", "capacity": says.cache, "bandwidth": max(copy["value"]), "latency": 0.0}
        tiers.insert(0, {**near, "source": "measured (capacity as the driver says)"})
    rates = {f: results[k] for f in ("fp32", "bf16", "fp16") if (k := f"torch/{f}.rate") in results}
    call = results.get("torch/fp32.call", 1e-5)
    device: dict[str, Any] = {
        "title": f"{says.name}, as measured",
        "vendor": says.vendor,
        "kind": "gpu",
        "family": "measured",
        "released": date.today().isoformat(),
        "sources": {"measured": about},
        "tiers": tiers,
        "engines": [{"name": "cores", "kind": "matrix", "units": says.units, "rates": rates, "source": "measured"}],
        "dispatch": {"eager": call, "graph": call, "source": "measured"},
    }
    link = curve(results, "peer")
    if len(link["at"]) > 1:
        small, large = link["value"][0], link["value"][-1]
        device["links"] = [{"name": "peer", "kind": "scale-up", "bandwidth": link["at"][-1] / max(large - small, 1e-9),
                            "latency": small, "domain": says.siblings, "source": "measured"}]  # fmt: skip
    return device


def _host(results: Results, bench: MeasureSettings, about: str) -> dict[str, Any]:
    from tierwise.measure import bench_memory

    copy = curve(results, "copy")
    makers = ("AMD", "Intel", "Apple", "Ampere", "ARM")
    vendor = next((v for v in makers if v.lower() in processor().lower()), "unknown")
    tiers = []
    for name, size in bench_memory.cache_sizes().items():
        groups = max(bench.threads // max(bench_memory.cache_sharing(name), 1), 1)
        tiers.append({"name": name, "kind": "cache", "capacity": size * groups,
                      "bandwidth": _at(copy, size * groups / 2),
                      "latency": results.get(f"latency.{name}", 0.0), "source": "measured"})  # fmt: skip
    tiers.append({"name": "dram", "kind": "memory", "capacity": bench_memory.memory_bytes(),
                  "bandwidth": copy["value"][-1], "latency": results.get("latency.dram", 1e-7),
                  "source": "measured"})  # fmt: skip
    if disk := _quieter(results):
        how = "direct" if disk["direct"] else "through the page cache"
        scattered = ", ".join(f"{int(k) // 1024} KiB at {v / 1e6:.0f} MB/s" for k, v in disk["random"].items())
        deep = disk["deep"]
        at_once = "".join(f", {k} blocks at once {v / 1e6:.0f} MB/s" for k, v in deep.items())
        tiers.append({"name": "disk", "kind": "storage", "capacity": disk["capacity"],
                      "bandwidth": max(disk["read"], *deep.values(), 0.0), "write_bandwidth": disk["write"],
                      "latency": disk["latency"], "source": f"measured (blocks of 1 MiB, {how}{at_once}; random reads "
                      f"of {scattered})"})  # fmt: skip
        # An engine that maps its files knows best what that is worth here.
        mapped = max((v for k, v in results.items() if k.endswith("/mapped")), default=disk["mapped"])
        if mapped:
            tiers[-1]["mapped_bandwidth"] = min(mapped, tiers[-1]["bandwidth"])
    for i in range(len(tiers) - 2, -1, -1):  # a nearer tier is at least as fast, whatever noise says
        tiers[i]["bandwidth"] = max(tiers[i]["bandwidth"], tiers[i + 1]["bandwidth"])
        tiers[i]["latency"] = min(tiers[i]["latency"], tiers[i + 1]["latency"])
    rates = {k.split("/")[1].split(".")[0]: 0.0 for k in results if k.endswith((".rate",)) and "/run/" not in k}
    for key, value in results.items():
        form = key.split("/")[-1].split(".")[0]
        if key.endswith(".rate") and form in rates:
            rates[form] = max(rates[form], value)
    known = {k: v for k, v in rates.items() if k in ("fp64", "fp32", "fp16", "bf16", "int8")}
    call = min((v for k, v in results.items() if k.endswith(".call")), default=1e-6)
    return {
        "title": f"{processor()}, {bench.threads} thread(s), as measured",
        "vendor": vendor,
        "kind": "cpu",
        "family": platform.machine().lower().replace("_", "-") or "cpu",
        "released": date.today().isoformat(),
        "sources": {"measured": about},
        "tiers": tiers,
        "engines": [{"name": "cores", "kind": "vector", "units": bench.threads, "rates": known, "source": "measured"}],
        "dispatch": {"eager": results.get("torch/fp32.call", call), "graph": call, "source": "measured"},
    }


def _quieter(results: Results) -> dict[str, Any]:
    """The disk at its best of two measurements; nothing where none was made."""
    found = [_numbered(results[name]) for name in ("disk", "again/disk") if name in results]
    if len(found) < 2:
        return dict(found[0]) if found else {}
    one, two = found
    best = {k: max(one[k], two[k]) for k in ("read", "write", "mapped")}
    curves = {k: {n: max(v, two[k][n]) for n, v in one[k].items()} for k in ("random", "deep")}
    return {**one, **best, **curves, "latency": min(one["latency"], two["latency"])}


def _numbered(disk: Mapping[str, Any]) -> dict[str, Any]:
    """The same with sizes and depths as numbers: what was resumed from a file has them as text."""
    return {k: {int(n): v for n, v in x.items()} if isinstance(x, dict) else x for k, x in disk.items()}


def _profile(
    module: ModuleType, results: Results, bench: MeasureSettings, device: Mapping[str, Any], about: str
) -> dict[str, Any] | None:
    """One engine's section: products as measured, op classes from its small models."""
    import numpy as np

    from tierwise.machines.profile import Class, Curve
    from tierwise.measure.bench_fit import Expected, Observation, fit_classes

    seen = _part(results, module.NAME)
    products = module.products(seen)
    if not products:
        return None
    shape = curve(results, f"{module.NAME}/copy" if any(k.startswith("copy.") for k in seen) else "copy")
    copy = Curve(tuple(shape["at"]), tuple(shape["value"]))
    first = next(iter(products.values()))
    system = bare(device)
    groups: dict[str, list[Observation]] = {}
    for piece in module.pieces(bench) if hasattr(module, "pieces") else ():
        if (time := seen.get(f"run/{piece.name}")) is not None:
            form = str(piece.ops[0].writes[0].format)
            groups.setdefault(form, []).append(Observation(piece.name, piece.graph, 0.0, time))
    for r in module.runs("calibrate", bench):
        if (time := seen.get(f"run/{r.name}")) is not None:
            form = str(r.plan.activations)
            graph = r.on(system).program
            working = float(graph.bytes_of("weight"))
            groups.setdefault(form, []).append(Observation(r.name, graph, working, time))
    classes: dict[str, Class] = {"*": Class(call=module.CALLS["*"] * first.call, passes=module.PASSES["*"])}
    ratios: list[float] = []
    cold: float | None = None
    for form, rows in groups.items():
        usual = products.get(form, first)
        expected = Expected(first.call, usual.rate, module.CALLS, module.PASSES)
        solution = fit_classes(rows, copy, products, expected, cold)
        plain = form == next(iter(groups))
        classes.update({k if plain else f"{k}:{form}": v for k, v in solution.classes.items()})
        ratios += solution.ratios.values()
        cold = solution.cold if cold is None else cold
    over = 1.0 / np.array(ratios) if ratios else np.array([0.5, 2.0])
    low, high = (float(q) for q in np.quantile(over, [0.1, 0.9]))
    return {
        "engine": module.NAME,
        "source": f"{about}; {_fitted(ratios)}",
        "interval": [min(round(low, 3), 1.0), max(round(high, 3), 1.0)],
        "cold": round(cold or 0.0, 3),
        "copy": shape,
        "products": {k: {"call": p.call, "rate": p.rate, "one": _plain(p.one), "many": _plain(p.many)}
                     for k, p in products.items()},
        "classes": {k: {n: v for n, v in vars(c).items() if v} for k, c in classes.items()},
    }  # fmt: skip


def _fitted(ratios: list[float]) -> str:
    """What the op classes rest on."""
    if not ratios:
        return "op classes other than products are guesses from one call and two passes"
    errors = sorted(abs(r - 1.0) for r in ratios)
    return f"{len(ratios)} runs of small models, median error {errors[len(errors) // 2]:.1%}"


def bare(device: Mapping[str, Any]) -> Any:
    """The machine without its calibration, to count work on; its prices mean nothing."""
    from dataclasses import replace

    from tierwise.machines.build import build_device
    from tierwise.machines.profile import Curve, Products, Profile
    from tierwise.machines.types import System

    made, _ = build_device("measured", {k: v for k, v in device.items() if k != "calibration"}, "measured", {})
    one = Curve((1.0,), (1.0,))
    blank = Profile("none", one, {"fp32": Products(0.0, 1.0, one, one)}, {}, (1.0, 1.0), "nothing")
    return System("measured", replace(made, measured={"none": blank}), 1, 1, None, None)


def curve(results: Results, prefix: str) -> dict[str, list[float]]:
    """The results named ``<prefix>.<bytes>``, rising."""
    points = sorted((float(k.rsplit(".", 1)[1]), v) for k, v in results.items() if k.rsplit(".", 1)[0] == prefix)
    return {"at": [p[0] for p in points], "value": [p[1] for p in points]}


def _plain(c: Any) -> dict[str, list[float]]:
    return {"at": list(c.at), "value": list(c.value)}


def _at(c: Mapping[str, list[float]], size: float) -> float:
    """The value of a curve at the point nearest to a size."""
    return min(zip(c["at"], c["value"], strict=True), key=lambda p: abs(p[0] - size))[1]


def to_yaml(device: Mapping[str, Any]) -> str:
    """The text of a machine file: four digits, one line a part."""
    import yaml

    class Dumper(yaml.SafeDumper):
        pass

    Dumper.add_representer(float, lambda d, x: d.represent_scalar("tag:yaml.org,2002:float", _digits(x)))
    style: Any = {"sort_keys": False, "width": 110, "default_flow_style": None, "allow_unicode": True}
    text: str = yaml.dump(dict(device), Dumper=Dumper, **style)
    return "# Written by `tierwise calibrate`: this machine, as measured. Give it as --on.\n" + text


def _digits(x: float) -> str:
    text = f"{x:.4g}"
    if "e" in text:
        mantissa, exponent = text.split("e")
        return f"{mantissa if '.' in mantissa else mantissa + '.0'}e{exponent}"
    return text if "." in text else text + ".0"
