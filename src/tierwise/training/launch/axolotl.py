"""A recipe of Axolotl, for fine-tuning."""

from __future__ import annotations

from tierwise.training.launch import DecoderShape
from tierwise.training.layout import RECOMPUTE
from tierwise.training.step import TrainStep


def files(step: TrainStep, shape: DecoderShape, name: str) -> dict[str, str]:
    """``axolotl.yaml``; nothing where tensors or layers are divided."""
    x, recipe = step.layout, step.how.recipe
    if x.tp > 1 or x.pp > 1 or x.cp > 1:
        return {}
    adapter = ""
    if recipe.rank:
        kind = "qlora" if recipe.parameters < 1 else "lora"
        adapter = f"adapter: {kind}\nlora_r: {int(recipe.rank)}\nlora_alpha: {2 * int(recipe.rank)}\n"
        adapter += "lora_target_linear: true\n" + ("load_in_4bit: true\n" if kind == "qlora" else "")
        adapter += "peft_use_dora: true\n" if recipe.magnitudes else ""
    optimizer = "adamw_bnb_8bit" if recipe.optimizer == "adamw-8bit" else "adamw_torch_fused"
    return {
        "axolotl.yaml": f"""\
base_model: {name}
datasets:
  - path: DATASET
    type: alpaca
{adapter}sequence_len: {int(x.seq)}
sample_packing: true
micro_batch_size: {int(x.micro_batch)}
gradient_accumulation_steps: {int(x.micro_batches)}
gradient_checkpointing: {"true" if RECOMPUTE[int(x.recompute)] == "full" else "false"}
optimizer: {optimizer}
learning_rate: 0.0002
num_epochs: 1
bf16: true
flash_attention: true
output_dir: ./outputs
"""
    }
