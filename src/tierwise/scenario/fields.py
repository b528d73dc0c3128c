"""Every setting a scenario's file and the command line share: one row each, named once, read in one way.

A command says which rows it takes (:mod:`tierwise.cli._flags`) and a saved scenario has each in its section. Values are
text with a unit where people write them (``40ms``, ``4/s``, ``2k``) or plain SI numbers; both are read here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from tierwise.core.errors import TierwiseError, nearest
from tierwise.core.units import RANGE, numeric, parse

# Tokens of a request where nobody says, whoever asks.
PROMPT, OUTPUT = 2048.0, 256.0
# The largest of whole numbers: doubles hold all up to it, and none beyond is meant.
MOST = 1 << 53
MOST_SIDE = 100_000  # pixels of an image's side: three times those of the largest sensors


@dataclass(frozen=True)
class Field:
    """One setting.

    Attributes:
        name: in a file and in Python; the flag has hyphens for underscores.
        section: of a saved scenario: ``""`` (top), ``traffic``, ``plan``, ``serving``, ``targets``; ``model`` and
            ``held`` are saved as part of the model's and the machine's name, ``search`` and ``files`` are asked anew
            each time and not saved.
        kind: ``text``, ``switch``, ``whole`` (a whole number), ``number``, ``count`` (tokens or requests, with 2k or
            1M), ``length`` (a count, or a rule such as lognormal:mean=1000,cv=1), ``batch`` (a count or max) or a
            quantity of :func:`tierwise.core.units.parse`.
        help: one plain sentence.
        default: what counts where nobody says; None for nothing.
        least, most: bounds, included. ``above``: the least is itself too small. ``below``: the most is too large.
        flag: where it is not the name's own.
        many: may be repeated wherever it is taken.
        metavar: what stands for the value in a help text, where the kind says too little.
    """

    name: str
    section: str
    kind: str
    help: str
    default: Any = None
    least: float | None = None
    most: float | None = None
    above: bool = False
    below: bool = False
    flag: str = ""
    many: bool = False
    metavar: str = ""

    @property
    def option(self) -> str:
        return self.flag or "--" + self.name.replace("_", "-")


_ROWS = (
    Field("machine", "", "text", "Machine and how many: h100-sxm, 8xh200-sxm, dgx-h100, or a YAML file.", flag="--on",
          metavar="MACHINE"),
    Field("clock", "held", "number", "Share of the clock that the machine is held at: 0.9.", least=0, most=1,
          above=True, metavar="SHARE"),
    Field("power_cap", "held", "power", "Watts that a device may draw: 500W."),
    Field("link_share", "held", "number", "Share of every link's bandwidth that others leave: 0.5.", least=0, most=1,
          above=True, metavar="SHARE"),
    Field("rent", "held", "text", "What a device costs you an hour, or a cloud's whole instance: 2.50/h.",
          metavar="DOLLARS/h"),
    Field("read_as", "model", "text", "Read the model's configuration as this model_type, or as generic (a decoder by "
          "its fields).", flag="--as", metavar="TYPE"),
    Field("engine", "", "text", "Software that runs the model: vllm, sglang, trtllm, typical (none in particular) or "
          "kernels (nothing around them); of graphs and images also torch, torch-compile, torch-channels-last, "
          "onnxruntime, tensorrt; by default the one that suits model and machine."),
    Field("technique", "", "text", "Technique to apply, NAME:ARGUMENT=VALUE,…, as quantize_kv:bits=2,group=32. "
          "Repeat for more; they are applied in order.", many=True, metavar="NAME:…"),
    # ------------------------------------------------------------ a batch
    Field("batch", "traffic", "batch", 'Requests at once, or "max" for as many as fit.', 1.0, 0),
    Field("prompt", "traffic", "length", "Tokens of a prompt; for made-up requests also a rule such "
          "as lognormal:mean=1000,cv=1.", PROMPT),
    Field("output", "traffic", "length", "Tokens generated for a request, likewise.", OUTPUT),
    Field("images", "traffic", "count", "Images of a request, for models that see.", 0.0),
    Field("image_size", "traffic", "count", "Side of an image in pixels (default: the model's own).",
          least=1, most=MOST_SIDE),
    Field("workload", "traffic", "text", "What is done with them, a file of workloads/ (default: what the model is "
          "made for)."),
    # ------------------------------------------------------------ requests over time
    Field("trace", "traffic", "text", "File of requests (CSV, JSON, JSON lines, packed or not; - reads a pipe) or a "
          "recorded run.", metavar="FILE"),
    Field("format", "traffic", "text", "The trace's format, where it is not recognized."),
    Field("rate_scale", "traffic", "number", "Play arrivals so many times as fast.", 1.0),
    Field("limit", "traffic", "whole", "The first so many requests of the trace only."),
    Field("rate", "traffic", "rate", "Requests that arrive, made up at this rate: 4/s (sessions, with --turns)."),
    Field("concurrency", "traffic", "whole", "Requests that clients keep in flight, instead of a rate.", least=1),
    Field("requests", "traffic", "whole", "How many requests to make up.", 1000, 1),
    Field("arrivals", "traffic", "text", "How made-up requests arrive: poisson, gamma:cv=2, bursty, diurnal, or your "
          "file.py; with rate=3 inside where no other flag gives it.", "poisson"),
    Field("turns", "traffic", "text", "Turns of a made-up session: a number or a rule, as for prompts.", "1"),
    Field("think", "traffic", "text", "Seconds from an answer to the next turn of a made-up session, likewise.", "0"),
    Field("shared", "traffic", "whole", "Tokens in front of every made-up prompt, shared by all.", 0, 0),
    Field("search", "traffic", "text", "Each request is a question answered by tree search: "
          "width=16,keep=4,depth=8,step=64."),
    Field("seed", "traffic", "whole", "Seed of all that is random.", 0, 0),
    # ------------------------------------------------------------ the plan
    Field("tp", "plan", "whole", "Tensor-parallel degree.", least=1),
    Field("pp", "plan", "whole", "Pipeline-parallel degree.", least=1),
    Field("dp", "plan", "whole", "Data-parallel degree (of attention, for mixtures of experts).", least=1),
    Field("ep", "plan", "whole", "Expert-parallel degree.", least=1),
    Field("weights", "plan", "text", "Format of linear weights: bf16, fp8, nvfp4, int4-g128, q4_k, … "
          "(default: the checkpoint's own).", metavar="FORMAT"),
    Field("activations", "plan", "text", "Format of activations: bf16, fp8, int8, … (default: the checkpoint's own).",
          metavar="FORMAT"),
    Field("kv", "plan", "text", "Format of the KV cache: fp8, int4-g64, int2-g32, … (default: the model's own).",
          metavar="FORMAT"),
    Field("chunk", "plan", "count", "Most prompt tokens in one pass (default: 8192).", least=1),
    Field("eager", "plan", "switch", "Kernels are launched one by one, not from a recorded graph (default: recorded)."),
    Field("unfused", "plan", "switch", "Attention writes its scores to memory (default: fused)."),
    Field("framework", "plan", "text", "Run the model's code line by line in it: transformers."),
    Field("schedule", "plan", "text", "In which order lanes issue the ops, with its options: prefetch:ahead=2, "
          "overlap_collectives, two_batches, staggered (default: one after the other); of a pipeline that trains 1f1b, "
          "interleaved:PARTS, gpipe, zero_bubble, zero_bubble_v, v_half, v_min, dual_pipe."),
    # ------------------------------------------------------------ training
    Field("train", "training", "switch", "One optimizer step of training, not inference.", False),
    Field("global_batch", "training", "count", "Sequences of an optimizer step, over all devices.", 512.0, 1, 1e9),
    Field("micro_batch", "training", "batch", 'Sequences of a micro-batch, or "max" for as many as fit (default: 1; a '
          "plan tries them).", least=1),
    Field("seq", "training", "count", "Tokens of a sequence.", 4096.0, 1, 1e9),
    Field("cp", "training", "whole", "Context-parallel degree.", least=1),
    Field("ulysses", "training", "switch", "Ranks of --cp exchange their part of a sequence for heads around "
          "attention, in place of a ring."),
    Field("interleave", "training", "whole", "Parts of the model on each pipeline stage.", least=1),
    Field("recompute", "training", "text", "What the backward pass computes again: none, selective (attention) or "
          "full; or modules: attention,norm,act,mlp,up."),
    Field("zero", "training", "whole", "What data-parallel ranks divide: 0 nothing, 1 optimizer states, 2 gradients "
          "too, 3 parameters too.", least=0, most=3),
    Field("shard", "training", "whole", "Replicas that --zero divides over, where that is not all of them (hybrid "
          "sharding).", least=1),
    Field("sequence_parallel", "training", "switch", "Divide along the sequence what tensor parallelism leaves whole "
          "(default: where tp is more than 1)."),
    Field("first_layers", "training", "whole", "Layers of the first pipeline stage (default: as many as others have).",
          least=1),
    Field("last_layers", "training", "whole", "Layers of the last pipeline stage, likewise.", least=1),
    Field("stage_layers", "training", "text", "Layers of every pipeline stage: 9,9,7,7, or auto, by time and memory "
          "(default: equal; auto where --on joins machines of different kinds by +).", metavar="LAYERS"),
    Field("vocabulary_parallel", "training", "switch", "Divide embedding and head over all pipeline stages."),
    Field("tp_overlap", "training", "switch", "Run collectives of tensor parallelism, in parts, beside the products "
          "next to them."),
    Field("grad_overlap", "training", "switch", "Average gradients beside the backward pass (default: yes)."),
    Field("offload", "training", "text", "What lies in the host's memory: none, optimizer, parameters (and the "
          "optimizer).", metavar="WHAT"),
    Field("offload_activations", "training", "switch", "Keep activations in the host's memory."),
    Field("offload_disk", "training", "switch", "What --offload moves lies on the host's disks, a part on each."),
    Field("offload_share", "training", "number", "Share of the optimizer states that --offload moves; the device keeps "
          "and updates the others (0 to 1, default: 1; Twin-Flow).", least=0),
    Field("early_update", "training", "switch", "The host updates a layer beside the backward pass of those before "
          "it."),
    Field("device_update", "training", "number", "Share of the states that --offload moves which the device updates, "
          "beside the host's updates (0 to 1).", least=0),
    Field("imbalance", "training", "number", "Load of the busiest rank of experts over the mean (default: 1).",
          least=1),
    Field("capacity", "training", "number", "What a rank of experts takes at most, over the mean; tokens beyond it are "
          "dropped.", least=1),
    Field("moe_token_dispatcher_type", "training", "text", "How tokens reach their experts: flex (once to each node: "
          "DeepEP, HybridEP) or alltoall (every copy, by the library; default: the trainer's).", metavar="HOW"),
    Field("overlap_moe_expert_parallel_comm", "training", "switch", "Tokens travel to experts beside another "
          "micro-batch's work."),
    Field("use_transformer_engine_op_fuser", "training", "switch", "A layer's experts are two kernels, with activation "
          "and casts in them."),
    Field("cuda_graph_scope", "training", "text", "What the host launches as a graph: none, moe_router, attn (all of a "
          "layer but what follows the choice of experts) or full_iteration.", metavar="WHAT"),
    Field("mtp_num_layers", "training", "whole", "Modules trained to predict tokens further ahead, where the model has "
          "any: 0 or 1.", least=0, most=1),
    Field("lengths", "training", "text", "Tokens of documents, packed into sequences: lognormal:mean=600,cv=1.2, "
          "empirical:file=FILE, or your file.py.", metavar="RULE"),
    Field("padded", "training", "switch", "Documents are padded to a sequence each, not packed."),
    Field("straggler", "training", "number", "Standard deviation of devices' speeds over the mean: 0.02."),
    Field("islands", "training", "whole", "Groups of replicas that average weights only every --local-steps steps.",
          least=1),
    Field("local_steps", "training", "whole", "Steps between averages of islands (local SGD, DiLoCo).", least=1),
    Field("averaging", "training", "text", "How islands average: all_reduce, gossip:PEERS, server (federated rounds).",
          metavar="HOW"),
    Field("late", "training", "switch", "Islands do not wait for an average: it arrives during the next round."),
    Field("compress", "training", "text", "How gradients are sent: int8, topk:SHARE, powersgd:RANK."),
    Field("mtbf", "training", "time", "Time between failures of one device: 50000h."),
    Field("restart", "training", "time", "From a failure to the first step again, with a spare at hand.", 600.0),
    Field("storage", "training", "bytes", "Bytes a second that checkpoints are written with: 500GB."),
    Field("background", "training", "switch", "Checkpoints are written while training goes on."),
    Field("spares", "training", "whole", "Devices that stand by.", 0, 0),
    Field("repair", "training", "time", "Until a failed device is back.", 86400.0),
    Field("optimizer", "training", "text", "adamw, adamw-8bit, adamw-bf16, adafactor, lion, muon, microadam, "
          "cosmos:r=RANK, galore:r=RANK, grass:r=RANK, frugal:density=SHARE, spam:density=SHARE, sgd or sgd-momentum."),
    Field("precision", "training", "text", "Format of matrix products: bf16, fp8.", "bf16"),
    Field("trainer", "training", "text", "Framework that trains: megatron, megatron-deepspeed, fsdp, nanotron.",
          "megatron"),
    Field("method", "training", "text", "How a model is fine-tuned: full, lora:r=16, qlora:r=16, dora:r=16, "
          "prefix:n=20, zeroth, sliced:o_proj=0.05.", "full"),
    Field("train_tokens", "training", "count", "Tokens of the whole run: 15T.", flag="--train-tokens"),
    # ------------------------------------------------------------ a deployment
    Field("replicas", "serving", "whole", "Engines (default: as many as the machine holds).", least=1),
    Field("prefill_replicas", "serving", "whole", "Engines that only prefill, before others that decode.", least=1),
    Field("decode_replicas", "serving", "whole", "Engines that only decode.", least=1),
    Field("prefill_plan", "serving", "text", "Degrees of those that only prefill, where they are others than those "
          "that decode have: tp=2,ep=2."),
    Field("scheduler", "serving", "text", "Policy by which an engine fills its steps, or your file.py.", "chunked"),
    Field("router", "serving", "text", "Policy by which requests find an engine, or your file.py.", "round_robin"),
    Field("kv_manager", "serving", "text", "Policy that hands out blocks of the KV cache, or your file.py.", "paged"),
    Field("autoscaler", "serving", "text", "Policy by which engines come and go, or your file.py (default: none)."),
    Field("startup", "serving", "text", "Until a new replica serves: 60s, or its weights from disk, host, peer.",
          "60s"),
    Field("max_seqs", "serving", "whole", "Sequences in one step.", 256, 1),
    Field("tokens", "serving", "whole", "Tokens in one step.", 8192, 1),
    Field("max_len", "serving", "whole", "Tokens one request may have; 0 for the model's own.", 0, 0),
    Field("block", "serving", "whole", "Tokens of one KV block.", 16, 1),
    Field("memory", "serving", "number", "Share of the devices' memory that the engine takes.", 0.9, 0, 1, above=True),
    Field("prefix_cache", "serving", "switch", "Reuse full blocks of earlier requests.", True),
    Field("host_cache", "serving", "bytes", "Host memory for blocks of earlier requests: 64GB.", 0.0),
    Field("disk_cache", "serving", "bytes", "Disk for them, likewise.", 0.0),
    Field("pooled", "serving", "switch", "Replicas share these tiers over the network.", False),
    Field("swap", "serving", "switch", "Preempted requests move to host memory.", False),
    Field("prefill_share", "serving", "number", "Share of the units for prefill beside decode; 0 for in turn.", 0.0,
          0, 1, below=True),
    Field("draft", "serving", "whole", "Draft tokens a step.", 0, 0),
    Field("accept", "serving", "number", "Probability that a draft token is right.", 0.7, 0, 1),
    Field("adapters", "serving", "whole", "LoRA adapters an engine holds at once (default: as many as the trace "
          "names).", 0, 0),
    Field("lora_rank", "serving", "whole", "Their largest rank.", 16, 1),
    Field("lora_modules", "serving", "text", "Matrices they change: all, attention, mlp, qkv, qv, or names such as "
          "q_proj+v_proj.", "all"),
    Field("fail", "serving", "text", "A replica that fails: SECONDS:REPLICA:SECONDS-DOWN. Repeat for more.",
          many=True),
    Field("calibration", "serving", "text", "What `tierwise calibrate --from-run` wrote about this machine.",
          metavar="FILE"),
    # ------------------------------------------------------------ targets
    Field("ttft", "targets", "time", "Target: time to first token at most, 600ms."),
    Field("tpot", "targets", "time", "Target: time per output token at most, 25ms."),
    Field("attainment", "targets", "number", "Share of the requests that must meet both targets.", 0.9, 0, 1,
          above=True),
    Field("statistic", "targets", "text", "Of the requests, what must meet the targets: mean, p50, p90, p95, p99.",
          "mean"),
    # ------------------------------------------------------------ what a plan may choose
    Field("any_gpu", "search", "switch", "Every GPU of the catalog that has a rent.", False),
    Field("budget", "search", "text", "Dollars at most: 40/h."),
    Field("objective", "search", "text", "What is best: cost, throughput or latency.", "cost"),
    Field("confidence", "search", "whole", "Probability in per cent with which targets must hold, by how well prices "
          "are known, and at which plans are ranked: 50 (as expected), 80 or 90.", 80),
    Field("mode", "search", "text", "aggregated, disaggregated (default: both are tried), or mixed: prefill on one of "
          "several machines or formats, decode on another.", many=True),
    Field("confirm", "search", "switch", "Simulate the finalists.", True),
    Field("sensitivity", "search", "switch", "Say how the answer moves with each input, each number of the machine and "
          "each fitted coefficient.", False),
    # ------------------------------------------------------------ files to write
    Field("html", "files", "text", "Write a self-contained HTML report.", metavar="FILE"),
    Field("trace_out", "files", "text", "Write a timeline for Perfetto (ui.perfetto.dev).", metavar="FILE"),
    Field("table", "files", "text", "Write the table, whole and in SI units (.csv or .parquet).", metavar="FILE"),
    Field("json", "files", "text", 'Write everything as JSON; "-" prints it instead of the tables.', metavar="FILE"),
    Field("save", "files", "text", "Write what was asked, or what a plan chose, as a scenario (YAML), to give in place "
          "of MODEL.", metavar="FILE"),
    Field("out", "files", "text", "Folder for launch files.", metavar="FOLDER"),
)  # fmt: skip

FIELDS = {row.name: row for row in _ROWS}
# Sections of a saved scenario beside those that a Scenario itself holds.
SECTIONS = ("serving", "targets", "training")


def names(section: str) -> list[str]:
    """The settings of a section, in order."""
    return [row.name for row in _ROWS if row.section == section]


def read(row: Field, value: Any, where: str = "") -> Any:
    """A value as people write it, as the number or text it stands for.

    Args:
        where: what to name in an error; the flag by default.

    Raises:
        TierwiseError: of the wrong kind or out of bounds.
    """
    where = where or row.option
    if row.kind == "switch":
        if not isinstance(value, bool):
            raise bad(where, value, "true or false")
        return value
    if row.kind == "text":
        if isinstance(value, bool) or not isinstance(value, (str, int, float)):
            raise bad(where, value, "text")
        return str(value)
    if row.kind == "batch" and isinstance(value, str) and value.strip().lower() == "max":
        return "max"
    if row.kind == "length" and isinstance(value, str) and not numeric(value):
        return value
    if row.kind == "time" and isinstance(value, str) and numeric(value) and value.strip().strip("0.") != "":
        bare = value.strip()
        raise TierwiseError(f"{where}: found {value!r}, a time without its unit: {bare}s or {bare}ms?")
    found = _number(row, value, where)
    if row.kind in ("whole", "count", "length", "batch") and found != math.floor(found):
        raise bad(where, value, _allowed(row))
    if row.kind == "whole" and found > MOST:
        raise bad(where, _shown(value), f"a whole number of at most {MOST:,}")
    low = row.least is not None and (found < row.least or (row.above and found == row.least))
    high = row.most is not None and (found > row.most or (row.below and found == row.most))
    if low or high:
        raise bad(where, _shown(value), _allowed(row))
    return int(found) if row.kind == "whole" else found


def bad(where: str, found: object, allowed: str) -> TierwiseError:
    """What a flag or a field of a file holds that it cannot hold."""
    shown = repr(found)
    return TierwiseError(f"{where}: found {shown if len(shown) <= 80 else shown[:77] + '...'}; allowed: {allowed}")


def known(flag: str, value: str, words: tuple[str, ...] | list[str]) -> str:
    """The value, if it is one of the words.

    Raises:
        TierwiseError: it is not; names the nearest.
    """
    if value in words:
        return value
    near = nearest(value, words)
    meant = f"; did you mean {', '.join(map(repr, near))}?" if near else ""
    raise bad(flag, value, f"{', '.join(words)}{meant}")


def _number(row: Field, value: Any, where: str) -> float:
    kind = {"whole": "count", "number": "count", "length": "count", "batch": "count"}.get(row.kind, row.kind)
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        raise bad(where, value, _allowed(row))
    if row.kind in ("whole", "number", "count", "length", "batch"):
        try:
            return parse(value, kind, where)
        except TierwiseError:
            shown, most = _shown(value), RANGE[kind][1]
            beyond = f", at most {most:g}" if isinstance(shown, (int, float)) and shown > most else ""
            raise bad(where, shown, _allowed(row) + beyond) from None
    return parse(value, kind, where, "value")


def _allowed(row: Field) -> str:
    if row.kind in ("count", "length", "batch"):
        more = {"batch": ' or "max"', "length": ", or a rule such as lognormal:mean=1000,cv=1"}
        ends = f" of at least {row.least:,}" if row.least else ""
        ends = f" from {row.least:,} to {row.most:,.0f}" if row.most is not None else ends
        return "a whole number" + ends + more.get(row.kind, "")
    kind = "a whole number" if row.kind == "whole" else "a number"
    if row.most is not None and row.least is not None:
        low = f"above {row.least:,}" if row.above else f"from {row.least:,}"
        return f"{kind} {low} {'and below' if row.below else 'to'} {row.most:,}"
    return kind + (f" of at least {row.least:,}" if row.least is not None else " of zero or more")


def _shown(value: Any) -> Any:
    """Text that is a plain number, as the number."""
    try:
        number = float(value)
    except (TypeError, ValueError, OverflowError):
        return value
    return int(number) if abs(number) < MOST and number == int(number) else number
