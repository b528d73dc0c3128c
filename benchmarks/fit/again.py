"""Fit one engine's classes of one op anew, from where they stand.

``python -m benchmarks.fit.again OP ENGINE [SYSTEM…]``; ``OP`` is ``attention_prefill``, ``attention_decode``,
``mla_prefill``, ``mla_decode`` or ``moe``; one kernel of an engine is ``ENGINE:KERNEL``. Classes of attention start
from where they are and keep their structure. What a change of a kernel's description or of a recording's touches is
fitted again, all other classes stay as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import yaml
from benchmarks.fit import attention, mla, moe
from benchmarks.fit.classes import _typical, row
from benchmarks.fit.common import CALIBRATION, home, write
from benchmarks.fit.spec import Part, Spec, parts_of


def main() -> None:
    op, engine, *systems = sys.argv[1:]
    name, _, phase = op.partition("_")
    spec = {"attention": attention.kinds, "mla": mla.spec, "moe": lambda _: moe.SPEC}[name](phase)
    engine, _, kernel = engine.partition(":")
    every = [p for p in parts_of(spec) if p.engine != engine or kernel in ("", p.kernel)]
    for system in systems or sorted({p.system for p in every if p.engine == engine}):
        again(spec, [p for p in every if p.system == system], engine)


def again(spec: Spec, own: Sequence[Part], engine: str) -> None:
    """Rewrite the classes of an engine in the file of the parts' device."""
    folder = home(own[0].target.device, spec.op)
    data = yaml.safe_load((CALIBRATION / folder / f"{spec.op}.yaml").read_text())
    out = [refitted(spec, own, engine, held) for held in data["classes"]]
    for i, held in enumerate(data["classes"]):
        if held["engine"] == "*" and held["dtype"] != "*":
            # The same engine stands for all as before.
            same = [(x, r) for x, r in zip(data["classes"], out, strict=True)
                    if x["dtype"] == held["dtype"] and x["engine"] != "*" and ":" not in x["engine"]]  # fmt: skip
            found = {r["engine"]: r["coefficients"] for x, r in same if x["coefficients"] == held["coefficients"]}
            common = {r["engine"]: rows_of(spec, own, r) for _, r in same}
            out[i] = {**held, **_typical(spec, str(held["dtype"]), common, found)}
    plain = next(r for r in out if r["engine"] == "*" and r["dtype"] in ("bf16", "bf16-bf16"))
    out = [{**{k: plain[k] for k in r}, "dtype": "*", "interval": [x**2 for x in plain["interval"]]}
           if r["dtype"] == "*" else r for r in out]  # fmt: skip
    write(folder, spec.op, {**data, "classes": out})


def rows_of(spec: Spec, own: Sequence[Part], held: dict[str, Any]) -> list[Part]:
    """The parts whose rows a class is fitted to."""
    engine = str(held["engine"]).partition(":")[0]
    return [p for p in own if p.dtype == held["dtype"] and p.engine == engine
            and (not spec.kernels or p.kernel == held.get("kernel"))]  # fmt: skip


def refitted(spec: Spec, own: Sequence[Part], engine: str, held: dict[str, Any]) -> dict[str, Any]:
    """A class fitted to its rows again, starting from its coefficients; as it is where it is another engine's."""
    mine = rows_of(spec, own, held)
    if held["engine"].partition(":")[0] != engine or not mine:
        return held
    start = [(str(held["dtype"]), held["coefficients"])] if spec.op.startswith("attention") else []
    made = row(replace(spec, donors=start), mine, held["engine"])
    print(own[0].system, held["dtype"], held["engine"], held["errors"], "->", made["errors"], flush=True)
    return {**held, **made}


if __name__ == "__main__":
    main()
