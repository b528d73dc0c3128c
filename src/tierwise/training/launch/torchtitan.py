"""A job of torchtitan (0.2.2, whose configuration is TOML)."""

from __future__ import annotations

from tierwise.training.launch import DecoderShape
from tierwise.training.layout import RECOMPUTE, pipelines
from tierwise.training.step import TrainStep

# What it calls schedules of pipelines.
_SCHEDULES = {"one_f_one_b": "1F1B", "gpipe": "GPipe", "zero_bubble_v": "ZBVZeroBubble"}


def files(step: TrainStep, shape: DecoderShape, name: str) -> dict[str, str]:
    """``train.toml``; nothing for what it cannot run: adapters, uneven stages, other schedules, offloading."""
    x, recipe = step.layout, step.how.recipe
    schedule = _SCHEDULES.get(pipelines()[int(x.schedule)])
    passed = x.heads and x.cp > 1  # it has a ring alone
    if passed or recipe.frozen or schedule is None or x.first or x.last or x.vocabulary or x.offload:
        return {}
    if x.offload_activations:
        return {}
    sharded = int(x.zero) >= 1
    if x.interleave > 1:
        schedule = "Interleaved1F1B"
    mode = {"none": "none", "selective": "selective", "full": "full"}[RECOMPUTE[int(x.recompute)]]
    converters = '["quantize.linear.float8"]' if recipe.precision == "fp8" else "[]"
    return {
        "train.toml": f"""\
# torchtitan 0.2.2; name and flavor as torchtitan calls the model that {name} is.
[model]
name = "llama3"
flavor = "{name.rsplit("/", 1)[-1]}"
hf_assets_path = "./assets/hf/{name.rsplit("/", 1)[-1]}"
converters = {converters}

[optimizer]
name = "AdamW"

[training]
local_batch_size = {int(x.micro_batch * (x.micro_batches if x.pp > 1 else 1))}
global_batch_size = {int(x.global_batch)}
seq_len = {int(x.seq)}
mixed_precision_param = "bfloat16"

[parallelism]
data_parallel_replicate_degree = {1 if sharded else int(x.dp)}
data_parallel_shard_degree = {int(x.dp) if sharded else 1}
fsdp_reshard_after_forward = "{"always" if int(x.zero) >= 3 else "never"}"
tensor_parallel_degree = {int(x.tp)}
pipeline_parallel_degree = {int(x.pp)}
pipeline_parallel_schedule = "{schedule}"
pipeline_parallel_microbatch_size = {int(x.micro_batch)}
context_parallel_degree = {int(x.cp)}
expert_parallel_degree = {int(x.ep)}

[activation_checkpoint]
mode = "{mode}"
"""
    }
