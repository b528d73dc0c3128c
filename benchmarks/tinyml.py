"""Networks on microcontrollers: predicted latency, SRAM and flash beside recorded ones, and how rates were fitted.

python benchmarks/tinyml.py ROWS.parquet [--fit]

Rows of kind ``tinyml`` on cores whose clock is known, int8, of networks whose layers are published (MLPerf Tiny's four,
MobileNetV2, ProxylessNAS), SRAM and flash by the rules of the runtime where there are any. ``--fit``: cycles a
multiply-add of each core by least squares of logarithms over the runtimes that vendors tune, how many times as many
their kernels took until 2022, on all cores alike, and the error on whole devices left out. Needs
``pip install 'tierwise[onnx,fit,serve]'``.
"""

from __future__ import annotations

import argparse
import re
import sys
import tempfile
from collections import defaultdict
from pathlib import Path

import numpy as np

from tierwise.memory.tensors import model_ops
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.search.mcu import on_chip

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "examples"))

# What part of a recorded device's name says which chip it is: machine, hertz.
CHIPS = {"F746": ("stm32f746", 216e6), "H7A3": ("stm32h7a3", 280e6), "H743": ("stm32h743", 480e6),
         "L4R5": ("stm32l4r5", 120e6), "062": ("psoc-62", 150e6), "U575": ("stm32u575", 160e6),
         "U585": ("stm32u575", 160e6), "U385": ("stm32u385", 96e6), "NRF5340": ("nrf5340", 128e6),
         "RA6M4": ("ra6m4", 200e6)}  # fmt: skip
CORES = {"stm32f746": "cortex-m7", "stm32h7a3": "cortex-m7", "stm32h743": "cortex-m7", "stm32l4r5": "cortex-m4",
         "psoc-62": "cortex-m4"}  # fmt: skip
NETWORKS = {"IC ": "image-classification", "KWS": "keyword-spotting", "VWW": "visual-wake-words",
            "AD ": "anomaly-detection", "mbv2-w0.3-r64": "mobilenetv2-0.3-64", "proxyless-w0.3-r64": "proxyless-0.3-64",
            "proxyless-w0.3-r176": "proxyless-0.3-176", "mcunet-in1": "mcunet-in1",
            "mcunet-in2": "mcunet-in2"}  # fmt: skip
# Runtimes whose rules are known; of the others tensors and weights alone are said.
RULES = {"TinyEngine": "tinyengine", "TF-Lite Micro": "tflite-micro", "CMSIS-NN": "cmsis-nn"}
TUNED = ("x-cube-ai", "plumerai", "bosch")
# Rules of tuned kernels as they were (memory/arenas).
OLDER = "tuned-2022"
CORE_NAMES = ("cortex-m7", "cortex-m4", "cortex-m33")
# Straying of the logarithm of what is shared by cores that is worth an error of a row.
TIE = 0.02


def runtime(device: str, engine: str) -> str:
    """Whose kernels a row ran: as the row says, or as the submitter's name does."""
    name = device.lower()
    for word, who in (("tvm", "microtvm"), ("skymizer", "skymizer"), ("renesas", "renesas"), ("plumerai", "plumerai"),
                      ("bosch", "bosch")):  # fmt: skip
        if word in name:
            return who
    return "x-cube-ai" if not engine or engine.startswith("X-CUBE") else engine


def newer(who: str, device: str, source: str) -> bool:
    """Whether a row of a tuned runtime ran kernels as they are now: MLPerf Tiny's submissions by Plumerai and by
    STMicroelectronics since v1.1. X-CUBE-AI to 8.0 (which others submitted under its number), Plumerai's of v1.0 and
    Bosch's are older."""
    found = re.search(r"MLPerf Tiny v(\d+\.\d+)", source)
    late = found is not None and float(found[1]) >= 1.1
    return late and (who == "plumerai" or device.startswith("STMicroelectronics"))


def main() -> None:
    p = argparse.ArgumentParser()
    p.add_argument("rows", type=Path)
    p.add_argument("--fit", action="store_true")
    a = p.parse_args()
    import pyarrow.parquet as pq
    from make_tiny_onnx import write

    rows = []
    for r in pq.read_table(a.rows).to_pylist():
        chip = next((c for word, c in CHIPS.items() if word.lower() in r["device"].lower()), None)
        network = NETWORKS.get(r["model"]) or NETWORKS.get(r["model"][:3])
        if r["kind"] == "tinyml" and chip and network and "float" not in r["device"]:
            who = runtime(r["device"], r["engine"])
            older = OLDER if who in TUNED and not newer(who, r["device"], r["source"]) else ""
            rules = RULES.get(who, "") or (older if r["metric"] == "latency" else "")
            rows.append((*chip, network, who, r["metric"], r["value"], rules))
    with tempfile.TemporaryDirectory() as at:
        write(Path(at))
        if a.fit:
            return fitted(Path(at), [r for r in rows if r[4] == "latency" and r[3] in TUNED])
        asked = {(r[0], r[2], r[6]) for r in rows}
        answers = {k: on_chip(str(Path(at) / f"{k[1]}.onnx"), k[0], runtime=k[2]) for k in asked}
    errors = defaultdict(list)
    for machine, _, network, who, metric, value, rules in rows:
        found = answers[machine, network, rules]
        said = {"latency": 1e3 * found.time, "sram": found.arena / 1e3, "flash": found.flash / 1e3}.get(metric)
        if said is not None:
            core = CORES.get(machine, "cortex-m33")
            errors[metric, core, who].append(said / value - 1.0)
            if who in TUNED:
                errors[metric, core, "tuned runtimes"].append(said / value - 1.0)
    limits = {"latency": 0.2, "sram": 0.1, "flash": 0.1}
    for (metric, core, who), e in sorted(errors.items()):
        size = np.abs(e)
        middle, within = np.median(size), np.mean(size <= limits[metric])
        print(f"{metric:8} {core:11} {who:15} n {len(e):3}  median {middle:6.1%}  signed {np.median(e):+6.1%}  "
              f"within {limits[metric]:.0%}: {within:4.0%}")  # fmt: skip


def fitted(folder: Path, rows: list[tuple]) -> None:
    work = {}
    for network in NETWORKS.values():
        of = np.zeros(3)
        for op in model_ops(load_model(str(folder / f"{network}.onnx")), Plan()):
            if op.kind in ("conv", "matmul"):
                apart = op.kind == "conv" and float(op.dims["groups"]) > 1.0
                of[2 if op.kind == "matmul" else 1 if apart else 0] += float(op.flops) / 2.0
        work[network] = of
    x = cycles(rows, work)
    print(f"kernels until 2022 took so many times the cycles: {np.round(np.exp(x[-3:]), 3)}")
    for at, core in enumerate(CORE_NAMES):
        own = [r for r in rows if core_of(r) == core]
        ratios = []
        for machine in sorted({r[0] for r in own}):
            left = cycles([r for r in rows if r[0] != machine], work)
            ratios += [taken(left, r, work) / (r[5] * 1e-3 * r[1]) for r in own if r[0] == machine]
        errors = np.abs(np.asarray(ratios) - 1.0)
        per = np.exp(x[3 * at : 3 * at + 3])
        low, high = np.percentile(1.0 / np.asarray(ratios), [10, 90])
        print(f"{core}: cycles a multiply-add {np.round(per, 3)} (convolution, depthwise, fully connected)")
        print(f"  as fractions of two a cycle {np.round(0.5 / per, 3)}; left out: n {len(errors)}, median "
              f"{np.median(errors):.1%}, within 20 %: {np.mean(errors <= 0.2):.0%}, measured/predicted {low:.2f} to "
              f"{high:.2f}")  # fmt: skip


def core_of(row: tuple) -> str:
    return CORES.get(row[0], "cortex-m33")


def taken(x: np.ndarray, row: tuple, work: dict[str, np.ndarray]) -> float:
    """Cycles of a row's network: by its core's, times what older kernels took where it ran those."""
    at = 3 * CORE_NAMES.index(core_of(row))
    return float(work[row[2]] @ np.exp(x[at : at + 3] + (x[-3:] if row[6] == OLDER else 0.0)))


def cycles(rows: list[tuple], work: dict[str, np.ndarray]) -> np.ndarray:
    """Logarithms of the cycles of a multiply-add by core and class, then of what older kernels took of them."""
    from scipy.optimize import least_squares

    y = np.log([r[5] * 1e-3 * r[1] for r in rows])

    def off(x: np.ndarray) -> np.ndarray:
        return np.append(np.log([taken(x, r, work) for r in rows]) - y, TIE * x[-3:])

    return least_squares(off, np.zeros(3 * len(CORE_NAMES) + 3)).x


if __name__ == "__main__":
    main()
