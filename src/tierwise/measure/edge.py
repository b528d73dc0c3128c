"""Predictions beside recorded tokens per second of language models on one's own machine, and the power they draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tierwise.core.num import Num, maximum, minimum
from tierwise.cost import Target, efficiency
from tierwise.cost.constants import constant
from tierwise.cost.energy import actions
from tierwise.cost.kits import Kit, kit
from tierwise.measure.columns import Table
from tierwise.measure.edge_cards import by_rows, pipelined, step_by_rows
from tierwise.measure.edge_rows import GENERATED, RESIDENT, EdgeGroup, RefusedRows, asked, groups, key_value, stored
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.types import Op
from tierwise.scenario.types import KV, Plan
from tierwise.steps.price import EngineOn, engine_on, price_step
from tierwise.steps.state import Chunk, StepState

Array = NDArray[np.float64]
# Factors on the predicted power that 80 % of measurements lie between, models left out.
POWER_INTERVAL = (constant("edge.power.low"), constant("edge.power.high"))
# A mean power is of the whole run, which first loads the model: at so many bytes a second and so many watts, then five
# repetitions after one to warm up (llama-bench's defaults).
_LOAD, _LOADING = constant("edge.power.load"), constant("edge.power.loading")
_REPETITIONS = constant("edge.power.repetitions")


@dataclass(frozen=True)
class EdgeAnswers:
    """Every row asked, with its prediction.

    Attributes:
        rows: places in the table of the rows asked, in order; the arrays that follow have one element for each.
        measured, predicted: tokens per second; ``nan`` where refused.
        low, high: factors on the predicted *time* that 80 % of measurements should lie between.
        watts: predicted mean power of the device over the step.
        machine, engine, phase: by row; ``""`` where refused.
        refused: which rows were not answered, and why.
    """

    rows: NDArray[np.intp]
    measured: Array
    predicted: Array
    low: Array
    high: Array
    watts: Array
    machine: NDArray[np.str_]
    engine: NDArray[np.str_]
    phase: NDArray[np.str_]
    refused: tuple[RefusedRows, ...]

    @property
    def error(self) -> Array:
        """Relative error of each row, unsigned; 1 where refused."""
        return np.where(np.isfinite(self.predicted), np.abs(self.predicted / self.measured - 1.0), 1.0)

    @property
    def inside(self) -> NDArray[np.bool_]:
        """Whether each measured time lies in its interval; refused rows do not."""
        with np.errstate(invalid="ignore"):
            ratio = self.predicted / self.measured  # measured time over predicted time
            return np.asarray((ratio >= self.low) & (ratio <= self.high))


def check(table: Table, kind: str = RESIDENT) -> EdgeAnswers:
    """Predictions of every row of a kind in which a model decoded or read a prompt."""
    rows = asked(table, kind)
    found, refused = groups(table, rows)
    place = {int(r): i for i, r in enumerate(rows)}
    predicted, low, high, watts = (np.full(len(rows), np.nan) for _ in range(4))
    machine, engine = (np.full(len(rows), "", dtype="<U60") for _ in range(2))
    phase = np.where(np.asarray(table["phase"], str)[rows] == "prefill", "prefill", "decode")
    for g in found:
        at = np.asarray([place[int(r)] for r in g.rows])
        predicted[at], low[at], high[at], watts[at] = answer(g, table)
        machine[at], engine[at] = g.machine.device.name, g.engine.partition("@")[0]
    measured = rates(table, rows)
    return EdgeAnswers(rows, measured, predicted, low, high, watts, machine, engine, phase, tuple(refused))


def rates(table: Table, rows: NDArray[np.intp]) -> Array:
    """Tokens per second that rows state, or follow from the milliseconds of a prompt."""
    values = np.asarray(table["value"], float)[rows]
    if "unit" not in table or "prompt" not in table:
        return values
    prompt = np.asarray(table["prompt"], float)[rows]
    with np.errstate(invalid="ignore"):
        return np.where(np.asarray(table["unit"], str)[rows] == "ms", 1e3 * prompt / values, values)


def answer(g: EdgeGroup, table: Table) -> tuple[Array, Array, Array, Array]:
    """(tokens per second, low, high, watts) of a group's rows."""
    on, state, times, tokens = work(g, table)
    step = price_step(on, state)
    seconds = times * step.time
    if g.machine.count > 1:
        seconds = on_cards(g, on, state, times, seconds)
    low, high = on.fixes.interval_of(state)
    joules = sum(step.joules(actions(on.target.device), step.time).values(), 0.0)
    shape = np.shape(g.rows)
    return tuple(np.broadcast_to(np.asarray(x, float), shape) for x in
                 (tokens / seconds, low, high, joules / step.time))  # type: ignore[return-value]  # fmt: skip


def on_cards(g: EdgeGroup, on: EngineOn, state: StepState, times: Num, seconds: Num) -> Num:
    """Seconds of the same on several cards."""
    k = kit(g.engine, g.machine.device)
    assert k is not None
    cards = float(g.machine.count)
    if by_rows(g.build):
        return times * step_by_rows(_ops(on.model, on.plan, state), on.target, k, cards)
    return seconds / pipelined(k.values, times, cards) if state.chunks else seconds


def work(g: EdgeGroup, table: Table) -> tuple[EngineOn, StepState, Num, Num]:
    """(the engine on its machine, the state of a step, how many steps, tokens they make)."""
    form = key_value(g.kv)
    plan = Plan(flash=g.flash, weights=g.weights, kv=KV(key=form, value=form))
    on = engine_on(stored(g.model, g.weights), plan, g.machine, g.engine)
    state, times, tokens = lengths(g, table)
    return on, state, times, tokens


def lengths(g: EdgeGroup, table: Table) -> tuple[StepState, Num, Num]:
    """(state of a step, how many such steps a row took, tokens it reports)."""

    def column(name: str, default: float) -> Array:
        if name not in table:
            return np.full(len(g.rows), default)
        values = np.asarray(table[name], float)[g.rows]
        return np.where(np.isfinite(values), values, default)

    depth, batch = column("depth", 0.0), maximum(column("batch", 1.0), 1.0)
    if g.phase == "decode":
        made = maximum(column("gen", GENERATED), 1.0)
        made = np.where(made > 1.0, made, GENERATED)
        return StepState.decoding(batch, depth + made / 2.0), 1.0, batch
    prompt = maximum(column("prompt", g.ubatch), 1.0)
    new = minimum(prompt, g.ubatch)
    past = depth + (prompt - new) / 2.0
    # Sequences that are read together share a micro-batch, as many as it holds.
    together = minimum(batch, maximum(g.ubatch / new, 1.0))
    return StepState(chunks=(Chunk(new, past, together),)), prompt / new * batch / together, batch * prompt


@dataclass(frozen=True)
class PowerError:
    """Rows with a mean power, answered: watts predicted over measured, whether the interval holds them; ``unpriced``:
    rows of other kinds with an energy of their own, which nothing prices."""

    ratio: Array
    phase: NDArray[np.str_]
    low: float
    high: float
    unpriced: int

    @property
    def error(self) -> Array:
        return np.abs(self.ratio - 1.0)

    @property
    def inside(self) -> NDArray[np.bool_]:
        return np.asarray((self.ratio >= 1.0 / self.high) & (self.ratio <= 1.0 / self.low))


def power(a: EdgeAnswers, table: Table) -> PowerError:
    """Mean power of the rows that state it: a chip's own where its name says unified memory, else the whole board's;
    over a run that loads the model first where its size is known."""
    known = _column(table, "power_w", a.rows)
    pick = np.isfinite(known) & np.isfinite(a.watts)
    watts = a.watts[pick]
    size, prompt, made = (_column(table, name, a.rows)[pick] for name in ("model_gib", "prompt", "gen"))
    tokens = np.where(a.phase[pick] == "prefill", prompt, made)
    runs = np.isfinite(size) & (tokens > 0.0)
    load = np.where(runs, size * 2.0**30 / _LOAD, 0.0)
    work = np.where(runs, _REPETITIONS * tokens / a.predicted[pick], 1.0)
    mean = (load * np.minimum(_LOADING, watts) + work * watts) / (load + work)
    units = np.asarray(table["unit"], str) if "unit" in table else np.zeros(0)
    return PowerError(mean / known[pick], a.phase[pick], *POWER_INTERVAL, int(np.sum(units == "uJ")))


def _column(table: Table, name: str, rows: NDArray[np.intp]) -> Array:
    return np.asarray(table[name], float)[rows] if name in table else np.full(len(rows), np.nan)


@dataclass(frozen=True)
class GroupWork:
    """A group's ops, for a fit that prices them again and again."""

    group: EdgeGroup
    on: Target
    ops: tuple[tuple[Num, Op], ...]
    times: Num
    tokens: Array
    measured: Array
    kit: Kit


def works(
    table: Table, keep: Callable[[EdgeGroup], bool] = lambda g: True, kind: str = RESIDENT
) -> list[GroupWork]:  # fmt: skip
    """Every group of a table, lowered."""
    out = []
    for g in groups(table, asked(table, kind))[0]:
        if not keep(g):
            continue
        on, state, times, tokens = work(g, table)
        ops = _ops(on.model, on.plan, state)
        found = kit(g.engine, g.machine.device)
        assert found is not None
        target = Target(g.machine, efficiency(g.machine.device, g.engine))
        measured = rates(table, g.rows)
        out.append(
            GroupWork(
                g, target, ops, times, np.broadcast_to(np.asarray(tokens, float), measured.shape), measured, found
            )
        )
    return out


def _ops(model: Model, plan: Plan, state: StepState) -> tuple[tuple[Num, Op], ...]:
    if state.chunks:
        c = state.chunks[0]
        step = Step(model, plan, c.count, c.new, c.past, "prefill")
    else:
        step = Step(model, plan, state.decodes, 1.0, state.mean_context, "decode")
    return tuple((s.repeat, op) for s, op in lower(step).walk())


def summary(a: EdgeAnswers, mask: NDArray[np.bool_] | None = None) -> dict[str, float]:
    """Rows, how many were answered, median error, bias and coverage of some of the rows."""
    pick = np.full(len(a.rows), True) if mask is None else mask
    known = np.isfinite(a.predicted[pick])
    ratio = (a.predicted / a.measured)[pick][known]
    return {
        "rows": float(pick.sum()), "answered": float(known.sum()), "median": float(np.median(a.error[pick])),
        "bias": float(np.median(ratio)) if known.any() else float("nan"),
        "coverage": float(np.mean(a.inside[pick][known])) if known.any() else float("nan"),
    }  # fmt: skip


__all__: Sequence[str] = ["EdgeAnswers", "GroupWork", "PowerError", "answer", "check", "power", "summary", "works"]
