"""Fit kernels of frameworks over images: ``python -m benchmarks.fit.pixels`` rewrites ``calibration/*/pixels.yaml``.

Whole networks were timed, on GPUs at large batches; a fit sees the kernels of each as the framework runs them
(:mod:`tierwise.program.kernels`) and brings their sum to what was measured. One set of fractions for all GPUs and
frameworks: what differs between them is which kernels run, and the datasheet.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from benchmarks.fit.common import SHARED, Array, Free, errors, interval, solve, write
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.core.numerics import fmt
from tierwise.cost.library import price
from tierwise.cost.types import Fit, Target
from tierwise.evaluation import evaluate
from tierwise.measure.ops import Table, read
from tierwise.measure.pixels import Case, cases, scenario, seconds
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.program.composites import node
from tierwise.program.kernels import as_kernels
from tierwise.program.types import Op, Operand
from tierwise.steps.price import engine_on

FREE = {
    "conv": Free(0.9, 0.3, 1.25), "conv_columns": Free(16.0, 0.5, 200.0), "conv_depth": Free(64.0, 1.0, 500.0),
    "grouped": Free(0.5, 0.02, 3.0), "linear": Free(0.9, 0.3, 1.25), "linear_columns": Free(16.0, 0.5, 200.0),
    "linear_depth": Free(64.0, 1.0, 500.0), "attention": Free(0.5, 0.05, 1.0), "depthwise": Free(0.3, 0.02, 1.0),
    "product_bytes": Free(0.85, 0.3, 1.0), "stem_bytes": Free(0.7, 0.2, 1.0), "depthwise_bytes": Free(0.7, 0.2, 1.0),
    "point": Free(0.9, 0.5, 1.0), "wide": Free(0.7, 0.2, 1.0), "wide_joined": Free(0.7, 0.3, 1.0),
    "reduce": Free(0.7, 0.2, 1.0), "pool": Free(0.5, 0.1, 1.0), "turn": Free(1.0, 0.2, 3.0),
}  # fmt: skip
SOURCE = (
    "timm results/benchmark-infer-amp-*.csv @ aa4b5850c154 (Apache-2.0), RTX 3090 and 4090, PyTorch 1.13 to 2.9, eager "
    "and compiled, rows whose model has a graph; least squares on log ratios, 2026-11-30; errors: models of a family "
    "left out, and in `devices_left_out` each GPU predicted from the other; int8: nothing fitted, its interval from "
    "ResNet-50 offline of MLPerf Inference v4.1 @ 198fc46799b3 (Apache-2.0) under TensorRT on six machines"
)


@dataclass(frozen=True)
class Rows:
    """Rows with the kernels behind them.

    Attributes:
        at: row numbers in the table; ``measured``: seconds. Below, ``columns``: what else the table says of them.
        run: which distinct run (model, size, batch, machine, engine) each row is of.
        kernels: (target, ops of one class with arrays of sizes, the run of each).
    """

    at: NDArray[np.intp]
    measured: Array
    run: NDArray[np.intp]
    columns: Mapping[str, NDArray[np.str_]]
    kernels: tuple[tuple[Target, Op, NDArray[np.intp]], ...]

    def predict(self, values: Mapping[str, float]) -> Array:
        """Seconds of every row with some coefficients."""
        total = np.zeros(int(self.run.max()) + 1)
        for target, op, runs in self.kernels:
            fits = {("pixels", "*", "*"): Fit("pixels", "*", "*", dict(values), "calibrated", (1.0, 1.0), "")}
            cost = price(op, replace(target, efficiency=replace(target.efficiency, fits=fits)))
            assert cost is not None
            time = cost.time
            total += np.bincount(runs, np.broadcast_to(np.asarray(time), runs.shape), total.size)
        return np.asarray(total[self.run])


def rows(table: Table, only: NDArray[np.bool_]) -> Rows:
    """The rows that are answered, as kernels."""
    at: list[int] = []
    run_of: list[int] = []
    found: dict[tuple[object, ...], list[tuple[Op, int]]] = defaultdict(list)
    targets: dict[tuple[object, ...], Target] = {}
    count = 0
    for case, found_at in cases(table, SHARED / "data/pixels/graphs").items():
        numbers = found_at[only[found_at]]
        for batch in np.unique(np.asarray(table["batch"], dtype=float)[numbers]):
            mine = numbers[np.asarray(table["batch"], dtype=float)[numbers] == batch]
            try:
                r = scenario(case, float(batch)).resolved()
            except TierwiseError:
                continue
            on = engine_on(r.model, r.plan, r.machine, r.engine, alone=True)
            rules = on.target.framework.rules if on.target.framework else None
            assert rules is not None
            stack = r.model.stacks[0]
            step = Step(r.model, r.plan, float(batch), stack.tokens_at(case.side), 0.0, "vision")
            for segment, op in as_kernels(lower(step), rules).walk():
                key = (case.machine, case.engine, *_class(op))
                targets.setdefault(key, on.target)
                found[key] += [(op, count)] * int(segment.repeat)
            at += mine.tolist()
            run_of += [count] * len(mine)
            count += 1
    order = np.asarray(at, dtype=np.intp)
    kernels = tuple((targets[k], _stacked([op for op, _ in v]), np.asarray([n for _, n in v]))
                    for k, v in found.items())  # fmt: skip
    said = ("model", "family", "machine", "compiler", "layout", "framework")
    columns = {c: np.asarray(table[c], dtype=str)[order] for c in said}
    return Rows(order, seconds(table)[order], np.asarray(run_of), columns, kernels)


def _class(op: Op) -> tuple[object, ...]:
    kind = node(op) if op.kind == "norm" or "Pool" in node(op) else ""
    return op.kind, str(op.arithmetic), kind, bool(op.options.get("reduces")), "joined" in op.options


def _stacked(ops: list[Op]) -> Op:
    """Ops of one class as one with arrays of sizes."""
    def size(role: str) -> Operand:
        return Operand(role, role, np.asarray([float(np.sum(op.bytes_of(role))) for op in ops]), fmt("int8"))

    dims = {d: np.asarray([float(op.dims[d]) for op in ops]) for d in ops[0].dims if all(d in op.dims for op in ops)}  # type: ignore[arg-type]
    roles = {o.role for op in ops for o in (*op.reads, *op.writes)}
    flops = np.asarray([float(op.flops) for op in ops])  # type: ignore[arg-type]
    return replace(ops[0], dims=dims, flops=flops, reads=tuple(size(r) for r in sorted(roles)), writes=())


def fit(data: Rows, mask: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """Coefficients from some rows (all unless given)."""
    kept = np.ones(data.run.shape, dtype=bool) if mask is None else mask
    return solve(lambda k: data.predict(k)[kept], data.measured[kept], FREE, steps=12)


def held_out(data: Rows, column: str) -> Array:
    """Predictions of every row from a fit without the rows that share its value of a column."""
    out = np.full(data.measured.shape, np.nan)
    values = data.columns[column]
    for value in np.unique(values):
        out[values == value] = data.predict(fit(data, values != value))[values == value]
    return out


def development() -> Rows:
    """The rows that are fitted on: inference on NVIDIA GPUs, of models with a graph."""
    table = read(SHARED / "data/pixels/vision_dev.parquet")
    source, machine = (np.asarray(table[c], dtype=str) for c in ("source", "machine"))
    return rows(table, (source == "timm") & np.char.startswith(machine, "rtx"))


def main() -> None:
    data = development()
    values = fit(data)
    family, device = held_out(data, "family"), held_out(data, "machine")
    now = errors(family, data.measured)
    apart = errors(device, data.measured)
    print("in the fit", errors(data.predict(values), data.measured))
    print("family left out", now, interval(family, data.measured))
    print("device left out", apart, interval(device, data.measured))
    print("int8", (eight := int8()))
    write("nvidia-gpu", "pixels", {
        "source": SOURCE, "devices": sorted({*data.columns["machine"].tolist()}),
        "classes": [{"dtype": "*", "engine": "*", "coefficients": values,
                     "errors": now | {"rows": len(data.measured), "devices_left_out": apart["median"]},
                     "interval": spread(family, data.measured), "transferred": spread(device, data.measured)},
                    {"dtype": "int8", "engine": "*", "coefficients": values, "interval": eight}],
    })  # fmt: skip


def int8() -> tuple[float, float]:
    """Factors on predictions in 8 bits that 80 % of machines lie between: ResNet-50 offline, MLPerf Inference v4.1,
    under TensorRT at a batch of 256, by the median of each machine. No coefficient is fitted to them: submissions name
    neither their batch nor their clocks."""
    table = read(SHARED / "data/pixels/vision_dev.parquet")
    rate, machine = np.asarray(table["throughput_per_s"], dtype=float), np.asarray(table["machine"], dtype=str)
    rate = rate / np.maximum(np.nan_to_num(np.asarray(table["n_devices"], dtype=float), nan=1.0), 1.0)
    notes, framework = (np.asarray(table[c], dtype=str) for c in ("notes", "framework"))
    offline = (np.char.find(notes, "scenario=Offline") >= 0) & (np.asarray(table["model"], dtype=str) == "resnet50")
    ratios = []
    for name in np.unique(machine[offline & (machine != "") & (np.char.find(framework, "TensorRT") >= 0)]):
        result = evaluate(scenario(Case("resnet-50", 224, str(name), "tensorrt", "int8"), 256.0))
        ratios.append(float(result.throughput) / float(np.median(rate[offline & (machine == name)])))  # type: ignore[arg-type]
    return float(np.quantile(ratios, 0.1)), float(np.quantile(ratios, 0.9))


def spread(predicted: Array, measured: Array) -> tuple[float, float]:
    """The interval of each class of ops that gives the sums of four classes, whose errors are taken as independent, the
    interval they were found to have: twice as wide, as a factor."""
    low, high = interval(predicted, measured)
    return min(low, 1.0) ** 1.7, max(high, 1.0) ** 1.7


if __name__ == "__main__":
    main()
