"""Fit fp32 kernels of older GPUs: ``python -m benchmarks.fit.pixels_fp32`` rewrites ``calibration/*/pixels.yaml`` of
Pascal, Volta and Turing.

Single operations of PyTorch 2.1 in fp32 on a P100, a V100 and a T4. What was not measured there (convolutions in
groups, pooling, layouts, tensor cores) is taken from the newer GPUs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
import yaml
from benchmarks.fit.common import CALIBRATION, SHARED, Array, errors, solve, write
from benchmarks.fit.pixels import FREE, spread
from numpy.typing import NDArray

from tierwise.core.numerics import fmt
from tierwise.cost import efficiency
from tierwise.cost.library import price
from tierwise.cost.types import Fit, Target
from tierwise.machines import system
from tierwise.measure.ops import Table, read
from tierwise.program.types import Op, Operand

# Device of the data: machine of the catalog.
MACHINES = {"Tesla P100-PCIE-16GB": "p100-sxm", "Tesla V100-PCIE-32GB": "v100-sxm-32gb", "Tesla T4": "t4"}
FITTED = ("conv", "conv_columns", "conv_depth", "linear", "linear_columns", "linear_depth", "product_bytes", "point",
          "wide")  # fmt: skip
OPS = ("conv", "linear", "bmm", "add", "mul", "div", "relu", "gelu", "tanh", "ln", "softmax")
SOURCE = (
    "NeuSight one-op timings @ 6945927d9afc (MIT), PyTorch 2.1, fp32; least squares on log ratios, 2026-11-30; errors "
    "on the other half of the rows; coefficients of what is not among them, and the interval of int8, from "
    "nvidia-gpu/pixels.yaml"
)
Predict = Callable[[Mapping[str, float]], Array]
_ROWS = 1000  # of each op, the same every time
# A timing this close to the host's floor measures the host: the data's README.
_FLOORS = 2.0


def main() -> None:
    table = read(SHARED / "data/pixels/ops_fp32_dev.parquet")
    classes = yaml.safe_load((CALIBRATION / "nvidia-gpu/pixels.yaml").read_text())["classes"]
    newer, eight = classes[0]["coefficients"], classes[1]["interval"]
    free = {n: replace(FREE[n], low=0.05) for n in FITTED}
    for device, machine in MACHINES.items():
        on = Target(system(machine), efficiency(system(machine).device, ""))
        parts = [(operation(table, rows, op), np.asarray(table["latency_ms"], dtype=float)[rows] * 1e-3)
                 for op in OPS if (rows := chosen(table, op, device)).size]  # fmt: skip
        measured = np.concatenate([seconds for _, seconds in parts])
        fold = np.random.default_rng(1).integers(0, 2, measured.size)

        def predict(k: Mapping[str, float], on: Target = on, parts: list[tuple[Op, Array]] = parts) -> Array:
            fits = {("pixels", "*", "*"): Fit("pixels", "*", "*", {**newer, **k}, "calibrated", (1.0, 1.0), "")}
            target = replace(on, efficiency=replace(on.efficiency, fits=fits))
            return np.concatenate([np.broadcast_to(price(op, target).time, t.shape) for op, t in parts])  # type: ignore[union-attr]

        halves = [solve(_on(predict, fold == side), measured[fold == side], free, steps=20) for side in (0, 1)]
        values = solve(predict, measured, free, steps=20)
        held = np.where(fold == 0, predict(halves[1]), predict(halves[0]))
        print(device, "before", errors(predict({}), measured), "held out", errors(held, measured))
        every = {**newer, **values}
        # Memory is no faster for 16 bits; products on tensor cores are as on newer GPUs.
        narrow = {**newer, **{n: values[n] for n in ("point", "wide")}}
        family = on.device.family
        data = {"source": SOURCE, "devices": [machine]}
        told = errors(held, measured) | {"rows": measured.size}
        wide = spread(held, measured)
        rows = [{"dtype": d, "engine": "*", "coefficients": k, "errors": told, "interval": wide} for d, k in
                (("fp32", every), ("*", narrow))]  # fmt: skip
        rows.append({"dtype": "int8", "engine": "*", "coefficients": narrow, "interval": eight})
        write(family, "pixels", data | {"classes": rows})


def _on(predict: Predict, mask: NDArray[np.bool_]) -> Predict:
    return lambda k: predict(k)[mask]


def chosen(table: Table, op: str, device: str) -> NDArray[np.intp]:
    """Rows of an op on a device that measure the device and not its host."""
    mine = np.asarray(table["device"], dtype=str) == device
    time = np.asarray(table["latency_ms"], dtype=float)
    floor = np.quantile(time[mine], 0.01)
    found = np.flatnonzero(mine & (np.asarray(table["op"], dtype=str) == op) & (time > _FLOORS * floor))
    if found.size > _ROWS:
        found = np.sort(np.random.default_rng(0).choice(found, _ROWS, replace=False))
    return found


def operation(table: Table, rows: NDArray[np.intp], op: str) -> Op:
    """The rows' op with arrays of sizes."""
    form = fmt("fp32")

    def column(name: str) -> Array:
        return np.asarray(table[name], dtype=float)[rows]

    def made(kind: str, dims: dict[str, Array], flops: Array, reads: list[Array], write: Array, node: str = "") -> Op:
        act = tuple(Operand(f"x{i}", "act", n, form) for i, n in enumerate(reads))
        return Op(kind, op, "vision", dims, flops, act, (Operand("y", "act", write, form),), "fp32",
                  options={"node": node})  # fmt: skip

    if op == "conv":
        b, i, o, k, side = (column(c) for c in ("batch", "c_in", "c_out", "kernel", "input"))
        one = np.ones_like(b)
        dims = {"batch": b, "out_h": side, "out_w": side, "c_out": o, "c_in": i, "kh": k, "kw": k, "groups": one}
        return made("conv", dims, 2 * b * side**2 * i * o * k**2, [b * i * side**2, i * o * k**2], b * o * side**2)
    if op in ("linear", "bmm"):
        b, m, n, k = (column(c) for c in ("batch", "M", "N", "K"))
        weights = k * n * (b if op == "bmm" else 1.0)
        return made("matmul", {"batch": b, "m": m, "n": n, "k": k}, 2 * b * m * n * k, [b * m * k, weights], b * m * n)
    size = column("rows") * column("width")
    two = op in ("add", "mul", "div")
    norm = op in ("ln", "softmax")
    return made("norm" if norm else "elementwise", {"elements": size}, size, [size] * (2 if two else 1), size,
                "LayerNormalization" if norm else "")  # fmt: skip


if __name__ == "__main__":
    main()
