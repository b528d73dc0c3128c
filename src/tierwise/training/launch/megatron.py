"""Arguments of Megatron-LM's ``pretrain_gpt.py`` (core 0.20)."""

from __future__ import annotations

from tierwise.training.launch import DecoderShape
from tierwise.training.layout import RECOMPUTE, held
from tierwise.training.step import TrainStep


def files(step: TrainStep, shape: DecoderShape, name: str) -> dict[str, str]:
    """``train.sh``; nothing for what it cannot run: adapters, sharded parameters, schedules but 1F1B, offloading."""
    x, recipe = step.layout, step.how.recipe
    if recipe.frozen or int(x.zero) >= 3 or x.schedule or x.vocabulary or x.offload or x.offload_activations:
        return {}
    rows: list[tuple[str, object]] = [
        ("num-layers", shape.layers),
        ("hidden-size", shape.hidden),
        ("num-attention-heads", shape.heads),
        ("kv-channels", shape.head_dim),
        ("ffn-hidden-size", shape.inner or shape.expert_inner),
        ("seq-length", int(x.seq)),
        ("max-position-embeddings", max(shape.context, int(x.seq))),
        ("position-embedding-type", "rope"),
        ("normalization", "RMSNorm"),
        ("disable-bias-linear", None),
        ("tokenizer-type", "HuggingFaceTokenizer"),
        ("tokenizer-model", name),
        ("tensor-model-parallel-size", int(x.tp)),
        ("pipeline-model-parallel-size", int(x.pp)),
        ("context-parallel-size", int(x.cp)),
        ("micro-batch-size", int(x.micro_batch)),
        ("global-batch-size", int(x.global_batch)),
        ("attention-backend", "flash"),
        ("bf16", None),
    ]
    if x.overlap:
        rows.append(("overlap-grad-reduce", None))
    if x.heads and x.cp > 1:
        rows.append(("cp-comm-type", "a2a"))
    if x.asynchronous:
        rows.append(("tp-comm-overlap", None))
    first, middle, last = held(x, float(shape.layers))
    for own, end, name_ in ((x.first, "embedding", "first"), (x.last, "loss", "last")):
        if own and own == middle - 1.0:
            rows.append((f"account-for-{end}-in-pipeline-split", None))
        elif own:
            rows.append((f"decoder-{name_}-pipeline-num-layers", int(first if name_ == "first" else last)))
    if shape.gated:
        rows.append(("swiglu", None))
    if shape.kv_heads != shape.heads:
        rows += [("group-query-attention", None), ("num-query-groups", shape.kv_heads)]
    if not shape.tied:
        rows.append(("untie-embeddings-and-output-weights", None))
    if x.interleave > 1:
        rows.append(("num-virtual-stages-per-pipeline-rank", int(x.interleave)))
    if x.sequence_parallel:
        rows.append(("sequence-parallel", None))
    if x.zero:
        rows += [("use-distributed-optimizer", None), ("overlap-param-gather", None)]
    level = RECOMPUTE[int(x.recompute)]
    if level == "full":
        rows += [("recompute-granularity", "full"), ("recompute-method", "uniform"), ("recompute-num-layers", 1)]
    elif level == "selective":
        rows.append(("recompute-granularity", "selective"))
    if shape.experts:
        rows += [
            ("num-experts", shape.experts),
            ("moe-router-topk", shape.top_k),
            ("moe-ffn-hidden-size", shape.expert_inner),
            ("moe-token-dispatcher-type", "flex" if recipe.dispatch else "alltoall"),
            ("moe-grouped-gemm", None),
            ("expert-model-parallel-size", int(x.ep)),
        ]
        if recipe.aside:
            rows.append(("overlap-moe-expert-parallel-comm", None))
    if recipe.ahead:
        rows.append(("mtp-num-layers", 1))
    if recipe.precision == "fp8":
        rows.append(("fp8-format", "hybrid"))
    lines = [f"  --{key}" + ("" if value is None else f" {value}") for key, value in rows]
    devices = int(x.devices)
    head = (
        "#!/usr/bin/env bash\n# Set MEGATRON and DATA; NODE_RANK and MASTER_ADDR for more nodes.\nset -euo pipefail\n"
        f"torchrun --nnodes {max(devices // 8, 1)} --nproc-per-node {min(devices, 8)} "
        '--node-rank "${NODE_RANK:-0}" --master-addr "${MASTER_ADDR:-localhost}" '
        '"${MEGATRON}/pretrain_gpt.py" \\\n'
    )
    tail = ' \\\n  --data-path "${DATA}" --train-iters "${STEPS:-1000}" --lr "${LR:-3e-4}"\n'
    return {"train.sh": head + " \\\n".join(lines) + tail}
