"""What a user asks about training, as a layout and a framework; and ``tierwise explain --train``."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from tierwise.cli._flags import Flags, refuse
from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.units import whole
from tierwise.scenario.fields import FIELDS

if TYPE_CHECKING:
    from tierwise.machines.types import System
    from tierwise.models.types import Model
    from tierwise.training import Layout, TrainingFramework
    from tierwise.training.goodput import Reliability
    from tierwise.training.pipeline import Played

# Flags that give a field of a layout, and its name.
DEGREES = {
    **{name: name for name in ("tp", "pp", "dp", "cp", "ep", "interleave", "micro_batch", "zero", "sequence_parallel")},
    "first_layers": "first", "last_layers": "last", "vocabulary_parallel": "vocabulary", "tp_overlap": "asynchronous",
    "grad_overlap": "overlap", "ulysses": "heads",
    **{name: name for name in ("offload_activations", "offload_disk", "offload_share", "early_update", "device_update",
                               "imbalance", "capacity", "straggler", "islands", "local_steps", "late", "shard")},
}  # fmt: skip
# What only counts where there are experts.
_EXPERTS = ("moe_token_dispatcher_type", "overlap_moe_expert_parallel_comm", "use_transformer_engine_op_fuser")
# What only counts where devices fail.
_FAILURES = ("restart", "storage", "background", "spares", "repair")
# What a table of layouts leaves out: it is the same for all of them, or a picture.
_APART = ("pipeline", "made_by", "schema")


def things(asked: Flags) -> tuple[Model, System, TrainingFramework]:
    """The model, the machine (the first of several kinds) and the framework.

    Raises:
        TierwiseError: no machine, or a name that does not exist.
    """
    from tierwise.models.facts import experts
    from tierwise.models.load import load_model
    from tierwise.training import framework
    from tierwise.training.optimizers import asked_for
    from tierwise.training.recipe import compression, method
    from tierwise.training.work import decoder

    if not asked.machine:
        raise TierwiseError("--on: which machine, and how many? For example --on 64xh100-sxm")
    model = load_model(asked.model)
    decoder(model)
    if experts(model) is None:
        refuse(asked, ["imbalance", "capacity", *_EXPERTS, *(["ep"] if (asked.ep or 1) > 1 else [])],
               f"nothing: {model.name} has no routed experts")  # fmt: skip
    if asked.imbalance is None:
        refuse(asked, ["capacity"], "nothing without --imbalance: no rank has more than the others")
    how = framework(asked.trainer)
    recipe = method(asked.method, how.recipe)
    if asked.optimizer is not None:
        name, rank = asked_for(asked.optimizer)
        recipe = replace(recipe, optimizer=name, projection=rank)
    if asked.precision not in ("bf16", "fp16", "fp8"):
        raise BadField("--precision", "value", asked.precision, "bf16, fp16 or fp8")
    how = replace(how, recipe=replace(recipe, precision=asked.precision, **_launched(asked, model)))
    machine = kinds(asked.machine)[0]
    if math.isfinite(machine.power_cap):
        raise BadField("--power-cap", "value", f"{machine.power_cap:g} W", "nothing for training, whose steps know no "
                       "energy; --clock holds a machine back")  # fmt: skip
    return model, machine, replace(how, compress=compression(asked.compress or "none"))


def _launched(asked: Flags, model: Model) -> dict[str, Any]:
    """Fields of a recipe that flags of Megatron's own names give."""
    out: dict[str, Any] = {}
    if (how := asked.moe_token_dispatcher_type) is not None:
        if how not in (ways := ("alltoall", "flex")):
            raise UnknownName("dispatcher", how, ways, f"(there are {', '.join(ways)})")
        out["dispatch"] = float(how == "flex")
    if (scope := asked.cuda_graph_scope) is not None:
        graphs = {"none": "none", "moe_router": "router", "attn": "layers", "full_iteration": "step"}
        if scope not in graphs:
            raise UnknownName("scope of graphs", scope, tuple(graphs), f"(there are {', '.join(graphs)})")
        out["graphs"] = graphs[scope]
    if asked.mtp_num_layers is not None:
        if all(s.active or s.stream != "text" for s in model.stacks):
            refuse(asked, ["mtp_num_layers"], f"nothing: {model.name} has no module that predicts further ahead")
        out["ahead"] = float(asked.mtp_num_layers)
    switches = {"overlap_moe_expert_parallel_comm": "aside", "use_transformer_engine_op_fuser": "grouped"}
    return out | {to: float(value) for flag, to in switches.items() if (value := getattr(asked, flag)) is not None}


def usual_length(asked: Flags, model: Model) -> Flags:
    """The flags, sequences being no longer than the model was made for where nobody says how long they are."""
    return replace(asked, defaults={**asked.defaults, "seq": min(float(FIELDS["seq"].default), model.max_context)})


def kinds(text: str) -> tuple[System, ...]:
    """Machines of several kinds that train together, joined by ``+``; or one.

    Raises:
        TierwiseError: a name that does not exist.
    """
    from tierwise.machines.load import system

    named = [part.strip() for part in text.split(" + ")]
    if len(named) < 2:
        return (system(text),)
    try:
        found = tuple(map(system, named))
    except TierwiseError:
        return (system(text),)  # a computer from its parts
    parts = {machine.device.kind for machine in found}
    # A processor or disks beside other devices are the computer those are in.
    return (system(text),) if "storage" in parts or ("cpu" in parts and len(parts) > 1) else found


def uneven(asked: Flags) -> bool:
    """Whether stages may differ: machines of several kinds, or layers given for each stage."""
    return asked.stage_layers is not None or len(kinds(asked.machine or "")) > 1


def fixed(asked: Flags) -> dict[str, float]:
    """The fields of a layout that flags give."""
    from tierwise.training.offload import OFFLOAD

    if asked.micro_batch == "max":
        raise BadField("--micro-batch", "value", "max", "a number here: a plan tries all that fit, and stages that "
                       "differ take one")  # fmt: skip
    out = {to: float(getattr(asked, flag)) for flag, to in DEGREES.items() if getattr(asked, flag) is not None}
    if asked.lengths is not None:
        out |= _documents(asked.lengths, asked.seq, bool(asked.padded))
    else:
        refuse(asked, ["padded"], "nothing without --lengths: sequences are full")
    if asked.offload is not None:
        if asked.offload not in OFFLOAD:
            raise UnknownName("offload", asked.offload, OFFLOAD, f"(there are {', '.join(OFFLOAD)})")
        out["offload"] = float(OFFLOAD.index(asked.offload))
    if asked.schedule is not None:
        out |= _schedule(asked.schedule)
    if asked.averaging is not None:
        out |= _averaging(asked.averaging)
    if out.get("islands", 1.0) <= 1 and ("averaging" in out or out.get("late")):
        raise BadField("--islands", "value", asked.islands, "2 or more: islands are what averages, or comes late")
    if out.get("islands", 1.0) <= 1:
        refuse(asked, ["local_steps"], "nothing without --islands, which average every so many steps")
    if asked.recompute is not None:
        out |= _recompute(asked.recompute)
    return out


def _averaging(text: str) -> dict[str, float]:
    """How islands average their weights."""
    from tierwise.training.layout import AVERAGING

    name, _, peers = text.partition(":")
    if name not in AVERAGING:
        raise UnknownName("way to average", name, AVERAGING)
    if peers and (name != "gossip" or not whole(peers)):
        raise BadField("--averaging", name, peers, "how many each tells, at least 1: gossip:2" if name == "gossip"
                       else "nothing after it")  # fmt: skip
    return {"averaging": float(AVERAGING.index(name)), **({"peers": float(peers)} if peers else {})}


def _recompute(text: str) -> dict[str, float]:
    """What is computed again: none, selective or full, or modules of a layer by name: attention,norm,act,mlp,up."""
    from tierwise.training.kept import MODULES
    from tierwise.training.layout import RECOMPUTE

    if text in RECOMPUTE:
        return {"recompute": float(RECOMPUTE.index(text))}
    out = {"recompute": 0.0}
    for name in text.split(","):
        if name == "attention":
            out["recompute"] = float(RECOMPUTE.index("selective"))
        elif name in MODULES:
            out[f"again_{name}"] = 1.0
        else:
            raise UnknownName("recomputation", name, (*RECOMPUTE, "attention", *MODULES))
    return out


def _schedule(text: str) -> dict[str, float]:
    """A pipeline's schedule: 1f1b, interleaved:PARTS, or the name of a file."""
    from tierwise.training.layout import pipelines

    name, _, parts = text.replace("-", "_").partition(":")
    if name in ("interleaved", "1f1b_interleaved"):
        if not whole(parts):
            raise BadField("--schedule", "interleaved", parts, "its parts a stage: interleaved:2")
        return {"schedule": 0.0, "interleave": float(parts)}
    found = "one_f_one_b" if name == "1f1b" else name
    if found not in pipelines():
        known = ("1f1b", "interleaved", *pipelines())
        raise UnknownName("schedule of a pipeline", name, known, f"(there are {', '.join(known)})")
    return {"schedule": float(pipelines().index(found))}


def _documents(rule: str, seq: float, padded: bool) -> dict[str, float]:
    """What documents of many lengths change: those longer than a sequence are cut to it."""
    import numpy as np

    from tierwise.serving.traffic.synthetic import draw

    found = np.clip(draw(rule, 1 << 16, np.random.default_rng(0), "lengths", 1.0), 1.0, seq)
    if padded:
        return {"filled": float(found.mean() / seq)}
    return {"attended": float((found**2).mean() / (found.mean() * seq))}


def form(asked: Flags, x: Layout) -> dict[str, Any]:
    """The canonical form of a training run with this layout: ``explain`` takes it apart, ``plan train`` asks again."""
    from tierwise.cli._flags import TRAINING
    from tierwise.scenario.schema import version
    from tierwise.training.kept import MODULES
    from tierwise.training.layout import AVERAGING, RECOMPUTE, pipelines
    from tierwise.training.offload import OFFLOAD

    settled: dict[str, Any] = {flag: float(getattr(x, to)) for flag, to in DEGREES.items()}
    settled |= {flag: bool(settled[flag]) for flag in ("sequence_parallel", "vocabulary_parallel", "tp_overlap",
                                                       "ulysses", "grad_overlap", "offload_activations", "offload_disk",
                                                       "early_update", "late")}  # fmt: skip
    settled = {k: v for k, v in settled.items() if k not in ("first_layers", "last_layers") or v}
    for name in ("capacity", "shard"):  # as said: without a limit unless there is one
        settled.pop(name)
    plan = {name: settled.pop(name) for name in ("tp", "pp", "dp", "ep")}
    plan["schedule"] = pipelines()[int(float(x.schedule))]
    said = {name: value for name in TRAINING if (value := getattr(asked, name)) is not None}
    how = AVERAGING[int(float(x.averaging))]
    settled["averaging"] = f"{how}:{float(x.peers):.0f}" if how == "gossip" else how
    if float(x.islands) <= 1:  # nothing averages, or comes late
        settled = {k: v for k, v in settled.items() if k not in ("averaging", "late")}
    settled["offload"] = OFFLOAD[int(float(x.offload))]
    again = [m for m in MODULES if float(getattr(x, f"again_{m}"))]
    plain = RECOMPUTE[int(float(x.recompute))]
    settled["recompute"] = ",".join([*["attention"] * (plain == "selective"), *again]) if again else plain
    return {"schema": version(), "model": asked.model, "machine": asked.machine, "plan": plan,
            "training": {**said, **settled, "train": True}}  # fmt: skip


def layout_of(asked: Flags, model: Model, system: System) -> Layout:
    """One layout: what flags leave open is one, and ``dp`` all that is left.

    Raises:
        BadField: a layout that cannot be.
    """
    import numpy as np

    from tierwise.models.facts import experts
    from tierwise.training import Layout
    from tierwise.training.layout import check, nearest
    from tierwise.training.work import decoder

    given = {"zero": 1.0, **fixed(asked)}
    if given.get("cp", 1.0) <= 1:
        refuse(asked, ["ulysses"], "nothing without --cp: no ranks divide a sequence")
    used = 1.0
    for name in ("tp", "pp", "cp"):
        used *= given.get(name, 1.0)
    if "dp" not in given:
        if system.count % used:
            raise BadField("layout", "tp x pp x cp", round(used), f"a divisor of the {system.count:.0f} devices; "
                           f"{nearest(used, system.count)}")  # fmt: skip
        given["dp"] = system.count / used
    given.setdefault("sequence_parallel", float(given.get("tp", 1.0) > 1))
    x = Layout(global_batch=asked.global_batch, seq=asked.seq, **given)
    text = decoder(model)
    heads = [float(b.facts().heads) for k in text.kinds for b in k.blocks if b.facts().heads is not None]  # type: ignore[arg-type]
    check(x, float(text.depth) + (asked.mtp_num_layers or 0), min(heads, default=1.0), float(system.count),
          float(np.max(experts(model) or 0.0)))  # fmt: skip
    return x


def explain(asked: Flags) -> None:
    """One layout: its time by cause, its memory by role, and its pipeline."""
    from tierwise.cli._files import check as writable
    from tierwise.report.tables import ENDINGS
    from tierwise.report.training_report import described

    writable(asked, "html", "trace_out", "json", "save", table=ENDINGS)
    model, system, how = things(asked)
    if uneven(asked):
        return _explain_uneven(usual_length(asked, model), model, how)
    asked, layout, found, run = answered(asked, (model, system, how))
    told_of(asked, found, described(found), run, layout)


def answered(asked: Flags, of: tuple[Model, System, TrainingFramework]) -> tuple[Flags, Layout, dict[str, Any], Played]:
    """(the flags with what was chosen for them, the layout, the answer as data, its pipeline)."""
    from tierwise.report.training_data import to_dict
    from tierwise.training import train_step

    model, system, how = of
    asked = usual_length(asked, model)
    if asked.micro_batch == "max":
        largest = _largest(asked, model, system, how)
        asked = replace(asked, said={**asked.said, "micro_batch": largest})
    layout = layout_of(asked, model, system)
    step = train_step(model, system, layout, how)
    found, run = to_dict(step, model, system, asked.train_tokens, fails=reliability(asked), **pictured(asked))
    return asked, layout, found, run


def _largest(asked: Flags, model: Model, system: System, how: TrainingFramework) -> float:
    """Sequences of the largest micro-batch that is legal and fits; 1 where none does, which the answer then says."""
    from tierwise.training import train_step
    from tierwise.training.layout import divisors

    for size in reversed(divisors(int(asked.global_batch))):
        try:
            layout = layout_of(replace(asked, said={**asked.said, "micro_batch": float(size)}), model, system)
        except BadField:
            if size == 1:
                raise
            continue
        if bool(train_step(model, system, layout, how).memory.fits):
            return float(size)
    return 1.0


def pictured(asked: Flags) -> dict[str, bool]:
    """Whether anything shows the executions of a pipeline: all of them, or those of a picture."""
    return {"events": asked.trace_out is not None, "picture": asked.html is not None or asked.json is not None}


def _explain_uneven(asked: Flags, model: Model, how: TrainingFramework) -> None:
    """One layout whose stages differ."""
    from tierwise.report.uneven_data import uneven_data, uneven_report
    from tierwise.search.uneven import arranged
    from tierwise.training import Layout

    layout = Layout(global_batch=asked.global_batch, seq=asked.seq, **{"zero": 1.0, **fixed(asked)})
    step = arranged(model, kinds(asked.machine), layout, how, _layers(asked))
    told_uneven(asked, uneven_data(step, model, asked.train_tokens), uneven_report, step)


def told_uneven(asked: Flags, found: dict[str, Any], report: Any, step: Any) -> None:
    """Write and print what was found of stages that differ, which no launch file or saved form holds."""
    if asked.save is not None:
        raise BadField("--save", "value", asked.save, "nothing where stages differ")
    told_of(asked, found, report(found), step.run, None)


def _layers(asked: Flags) -> tuple[int, ...] | None:
    text = asked.stage_layers
    if text in (None, "auto"):
        return None
    try:
        return tuple(int(n) for n in text.split(","))
    except ValueError:
        raise BadField("--stage-layers", "value", text, "whole numbers, one a stage: 9,9,7,7; or auto") from None


def reliability(asked: Flags) -> Reliability | None:
    """What fails, where the user says so."""
    from tierwise.training.goodput import Reliability

    if asked.mtbf is None:
        refuse(asked, _FAILURES, "nothing without --mtbf: no device fails")
        return None
    if asked.storage is None:
        refuse(asked, ["background"], "nothing without --storage: writing a checkpoint takes no time")
    storage = float("inf") if asked.storage is None else asked.storage
    return Reliability(asked.mtbf, asked.restart, storage, bool(asked.background), asked.spares, asked.repair)


def told_of(asked: Flags, found: dict[str, Any], report: Any, run: Played | None, layout: Layout | None) -> None:
    """Write and print what was found."""
    from tierwise.scenario.files import write_form

    if asked.save is not None:
        if layout is None:
            raise TierwiseError(f"--save {asked.save}: no layout fits, so there is none to save")
        write_form(form(asked, layout), asked.save)
    from tierwise.cli._files import told, write_json
    from tierwise.core.files import write

    if asked.html is not None:
        from tierwise.report.page import page

        write(asked.html, page(report, "training", ("base.js", "training.js"), found))
    if asked.trace_out is not None and run is not None:
        from tierwise.report.training_trace import perfetto

        write_json(asked.trace_out, perfetto(run), indent=None)
    if asked.table is not None:
        from tierwise.report.tables import write_table

        rows = found.get("candidates", [found])
        write_table(asked.table, [{k: v for k, v in x.items() if k not in _APART} for x in rows])
    if asked.json is not None:
        write_json(asked.json, found)
    if "-" not in (asked.json, asked.save):
        from tierwise.report.console import console
        from tierwise.report.terminal import show

        show(report, console())
        told(asked, "html", "trace_out", "table", "json", "save")
