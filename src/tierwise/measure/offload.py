"""Predictions beside recorded tokens per second of models divided over a device and its host.

Rows of kinds ``moe_offload`` (experts on the host), ``partial_offload`` (layers on the host) and ``offload_batch``
(weights and caches stream to the device). Nothing here is fitted: kernels are those of the engine on either side, and
what goes between comes from the machine.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tierwise import engines
from tierwise.core.errors import TierwiseError
from tierwise.core.num import Num
from tierwise.core.numerics import Format, fmt
from tierwise.cost.kits import kit
from tierwise.evaluation import evaluate
from tierwise.machines import System, system
from tierwise.measure.columns import Table
from tierwise.measure.edge import lengths
from tierwise.measure.edge_rows import (
    EdgeGroup,
    RefusedRows,
    engine_of,
    key_value,
    machine_of,
    model_of,
    stored,
    weights_of,
)  # fmt: skip
from tierwise.memory.account import MemoryRules, account
from tierwise.models.facts import facts_of
from tierwise.models.marks import decoder, experts_of
from tierwise.models.step import Step
from tierwise.models.types import Block, Model
from tierwise.program.placement import Placement
from tierwise.scenario.types import KV, Batch, Plan, Scenario
from tierwise.steps.price import engine_on, price_step
from tierwise.techniques.kv_layers import concatenate_cache
from tierwise.techniques.tiers import partial_offload

KINDS = ("moe_offload", "partial_offload", "offload_batch")
COLUMNS = ("kind", "device", "engine", "model", "quant", "phase", "offload", "value")
Array = NDArray[np.float64]


@dataclass(frozen=True)
class OffloadAnswers:
    """Every row of the kinds, with its prediction: tokens per second measured and predicted (``nan`` where refused),
    by kind, device, engine, phase."""

    rows: NDArray[np.intp]
    measured: Array
    predicted: Array
    kind: NDArray[np.str_]
    device: NDArray[np.str_]
    engine: NDArray[np.str_]
    phase: NDArray[np.str_]
    refused: tuple[RefusedRows, ...]

    @property
    def error(self) -> Array:
        """Relative error of each row, unsigned; 1 where refused."""
        return np.where(np.isfinite(self.predicted), np.abs(self.predicted / self.measured - 1.0), 1.0)


def check(table: Table) -> OffloadAnswers:
    """Predictions of every row whose offloading is understood."""
    kinds = np.asarray(table["kind"], str)
    rows = np.flatnonzero(np.isin(kinds, KINDS) & np.isfinite(np.asarray(table["value"], float)))
    names = ("kind", "device", "ndev", "backend", "engine", "model", "tierwise_model", "quant", "bpw", "phase", "fa",
             "ubatch", "kv_type", "threads", "offload", "batch", "note")  # fmt: skip
    columns = {n: _column(table, n, rows) for n in names}
    keys: dict[tuple[str, ...], list[int]] = {}
    for i in range(len(rows)):
        keys.setdefault(tuple(columns[n][i] for n in names), []).append(i)
    predicted = np.full(len(rows), np.nan)
    refused: list[RefusedRows] = []
    for key, places in keys.items():
        row = dict(zip(names, key, strict=True))
        at = rows[places]
        try:
            predicted[places] = _batched(row, at, table) if row["kind"] == "offload_batch" else _hybrid(row, at, table)
        except TierwiseError as error:
            refused.append(RefusedRows(at, str(error).split(";")[0][:160]))
    measured = np.asarray(table["value"], float)[rows]
    device, name, phase = (np.asarray(columns[n], str) for n in ("device", "engine", "phase"))
    return OffloadAnswers(rows, measured, predicted, kinds[rows], device, name, phase, tuple(refused))


def _column(table: Table, name: str, rows: NDArray[np.intp]) -> list[str]:
    if name not in table:
        return [""] * len(rows)
    out = []
    for v in np.asarray(table[name], dtype=object)[rows]:
        missing = v is None or (isinstance(v, float) and np.isnan(v))
        out.append("" if missing else f"{v:g}" if isinstance(v, float) else str(v))
    return out


def _hybrid(row: Mapping[str, str], at: NDArray[np.intp], table: Table) -> Array:
    """Tokens per second of llama.cpp and its like: what lies on the host is computed there."""
    machine = computer(row["device"], 1 if "single socket" in row["offload"].lower() else 0)
    model = model_of(re.sub(r"(?i)-FP8$", "", row["model"]), row["tierwise_model"])
    layers, experts = moved(row["offload"], model)
    if used := re.search(r"\b(\d+) experts", row["offload"]):
        model = with_experts(model, float(used[1]))
    engine = engine_name(row["engine"], row["note"])
    if kit(engine, machine.device) is None and engines.load(engine).gpu_families is None:
        raise TierwiseError(f"{engine}: no kernels on file for {machine.device.name}")
    weights = _weights(row["quant"], row["bpw"])
    flash = row["fa"] not in ("0", "False", "off")
    form = key_value(row["kv_type"].split("/")[0])
    ranks = re.search(r"\btp(\d+)", row["engine"])
    plan = Plan(flash=flash, weights=weights, kv=KV(key=form, value=form), tp=float(ranks[1]) if ranks else 1.0)
    s = Scenario(stored(model, weights), machine, plan=plan, engine=engine)
    r = s.apply(partial_offload(layers=float(layers), experts=float(experts))).resolved()
    on = engine_on(r.model, r.plan, r.machine, engine)
    held = account(r.model, r.machine, r.plan, MemoryRules(), Step(r.model, r.plan, 1.0, 1.0, 511.0, "decode"))
    stated = re.search(r"\d ?GB", row["device"].partition("+")[2])
    if stated and any(float(held.elsewhere[n]) > float(room) for n, room in held.room_elsewhere.items()):
        raise TierwiseError("the host's memory is smaller than its part of the weights, and its disk is not stated")
    phase = "prefill" if row["phase"] == "prefill" else "decode"
    ubatch = float(row["ubatch"] or 512.0)
    g = EdgeGroup(at, machine, engine, r.model, weights, phase, flash, ubatch, row["kv_type"])
    state, times, tokens = lengths(g, table)
    found: Num = tokens / (times * price_step(on, state).time)
    return np.broadcast_to(np.asarray(found, float), (len(at),))


def with_experts(model: Model, count: float) -> Model:
    """The model whose tokens take so many experts each, as some runs set it."""

    def fewer(block: Block) -> Block:
        changed: Any = block
        return replace(changed, top_k=count) if facts_of(block).top_k and hasattr(block, "top_k") else block

    return model.map_blocks(fewer)


def engine_name(text: str, note: str = "") -> str:
    """The engine of a row: llama.cpp, its fork, or one that has kernels of theirs on the host."""
    low = text.lower()
    if "powerinfer" in low:
        raise TierwiseError(f"{text}: its kernels on the host are not on file")
    if "sglang" in low:
        return "sglang"
    if "ktransformers" in low:
        if "amx" in low:
            raise TierwiseError(f"{text}: its AMX kernels are not on file")
        return "ktransformers"
    return engine_of(text, "", note)


def moved(text: str, model: Model) -> tuple[int, int]:
    """(whole layers, layers whose experts) that the host holds.

    Raises:
        TierwiseError: what a row states is not understood, or divides what placements do not.
    """
    stack = decoder(model)
    assert stack is not None
    routed = len(experts_of(stack))
    low = text.lower()
    if m := re.search(r"(\d+)% of experts on gpu", low):
        # A share of the experts of every layer reads as many bytes a token as that share of the layers.
        return 0, round(routed * (1.0 - int(m[1]) / 100.0))
    if m := re.search(r"up,down experts and gate experts of layers 0-(\d+) on cpu", low):
        # So do parts of experts, which are three matrices of one size.
        gates = sum(i <= int(m[1]) for i in experts_of(stack))
        return 0, round((2 * routed + gates) / 3.0)
    if m := re.search(r"n-cpu-moe=(\d+)|(\d+) of \d+ expert layers|\((\d+) of \d+\) on cpu", low):
        return 0, min(int(next(x for x in m.groups() if x)), routed)
    if m := re.search(r"^ngl=(\d+) of (\d+)$", low):
        return max(stack.depth + 1 - int(m[1]), 0), 0
    if re.search(r"exps=cpu|ffn=cpu|experts? on cpu|socket, \d experts|^\d experts", low):
        return 0, routed
    raise TierwiseError(f"offload {text!r}: not understood")


def computer(text: str, used: int = 0) -> System:
    """The machine of a row, as a list of parts: ``RTX 4090 24GB + 2x Xeon Gold 6454S (16ch DDR5-4800)``.

    Args:
        used: sockets of it that a run keeps to; 0 for all.

    Raises:
        TierwiseError: no processor is named.
    """
    # Of cards that a source leaves open, the first: with experts on the host, that sets the pace.
    sides = [p.strip() for p in re.sub(r"\? or [^+]*", " ", text).split("+", 1)]
    if len(sides) < 2:
        raise TierwiseError(f"{text}: which card and which processor is not stated")
    sockets, card = (1 if not re.search(r"\b2x", sides[1]) else 2), machine_of(re.sub(r"^\d+x ", "", sides[0]))
    ours = used or sockets
    count = int(m[1]) if (m := re.match(r"(\d+)x ", sides[0])) else 1
    name = re.sub(r"\([^)]*\)|\b\d+GB\b|DDR\d(-\d+)?|\b2x\b|\bES\b", " ", sides[1])
    cpu = machine_of(" ".join(name.split()), "CPU").device.name
    size = re.search(r"(\d+) ?GB", sides[1])
    kind = re.search(r"(?i)(ddr\d)(?:-(\d+))?", sides[1])
    channels = re.search(r"(\d+)ch", sides[1])
    memory = ""
    if kind:
        rate = f"-{kind[2]}" if kind[2] else ""
        ways = f"{max(int(channels[1]) // sockets, 1)}x " if channels else ""
        memory = f" {f'{size[1]}GB ' if size else ''}{ways}{kind[1].lower()}{rate}"
    parts = f"{count}x{card.device.name} + {ours}x {cpu}{memory}" if memory else (
        f"{count}x{card.device.name} + {ours}x {cpu}")  # fmt: skip
    found = system(parts)
    if size and found.host is not None:
        found = replace(found, host=replace(found.host, memory=float(size[1]) * 1e9))
    return found


def _weights(quant: str, bpw: str) -> Format:
    """The format of most weights: of a mixture told in words, that of its experts."""
    plain = re.sub(r"(?i)^ud-|_r[48]$", "", quant.split(maxsplit=1)[0] if quant else quant)
    if plain.lower() == "fp8":
        return fmt("fp8")
    return weights_of(plain, bpw)


def _batched(row: Mapping[str, str], at: NDArray[np.intp], table: Table) -> Array:
    """Tokens per second of a batch whose weights, or caches, stream to the device."""
    machine, model = batch_machine(row["device"]), model_of(row["model"], row["tierwise_model"])
    tier = row["offload"].rpartition(" ")[2]
    low = row["engine"].lower()
    placement, schedule, weights, kv = Placement(), "", fmt("fp16"), KV()
    if tier == "cpu":
        # Accelerate copies weights from memory as it was allocated (hooks.py); the others pin theirs. DeepSpeed ran
        # without prefetching (stage3_prefetch_bucket_size 0: benchmark/hf_ds/hf_opt.py of the rows' source), and
        # gathers what it has copied (partition_parameters.py, _dist_allgather_fn).
        placement = replace(placement, pageable="accelerate" in low, gathered="deepspeed" in low)
        placement = placement.with_tensors("weights", {"host": 1.0})
        schedule = "prefetch:ahead=1" if "flexgen" in low else ""
    ours = "flexgen" in low
    if ours:
        # The policies that these rows were run with: benchmark/flexgen/bench_suite.py of their source. Weights lie in
        # pinned memory there, caches do not (pytorch_backend.py, init_cache_one_gpu_batch).
        four = "4-bit" in low
        narrow = fmt("int4-g64")
        kv = KV(narrow, narrow) if four else kv
        if tier == "cpu":  # all caches on the host; a fifth of plain weights on the card, and attention on the host
            placement = placement.with_tensors("kv", {"host": 1.0})
            if not four:
                placement = placement.with_tensors("weights", {"host": 0.8}).with_ops("attention.decode", "host")
            placement = replace(placement, pageable="kv")
        elif four:  # weights are compressed too
            weights = narrow
    # Both write the scores of attention to memory, as transformers did for this model then (modeling_opt.py, 4.26).
    plan = Plan(weights=weights, kv=kv, placement=placement, schedule=schedule, flash=False,
                framework="flexgen" if ours else "transformers")  # fmt: skip
    prompt, made = (float(np.asarray(table[n], float)[at[0]]) for n in ("prompt", "gen"))
    traffic = Batch(prompt, made, float(row["batch"] or 1.0))
    s = Scenario(model, machine, traffic, plan, engine="kernels")
    r = evaluate(s if ours else s.apply(concatenate_cache()))
    return np.full(len(at), float(r.output_tokens) / float(r.time))


def batch_machine(text: str) -> System:
    """``T4 16GB + 208GB DRAM + 1.5TB SSD (GCP)``: the card, the memory beside it, a disk.

    Raises:
        TierwiseError: another kind of machine.
    """
    m = re.match(r"(\S+) \d+GB \+ (\d+)GB DRAM \+ ([\d.]+)TB SSD", text)
    if m is None:
        raise TierwiseError(f"{text}: not understood")
    # Google's N1 machines with a T4 are Xeons of the Skylake or Cascade Lake generation; 32 vCPU are 16 cores.
    return system(f"{m[1].lower()} + xeon-6248 {m[2]}GB ddr4-2666 + {m[3]}TB nvme-gen3")
