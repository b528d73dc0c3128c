"""DeepSpeed's JSON, for layouts that only data parallelism divides."""

from __future__ import annotations

import json

from tierwise.training.launch import DecoderShape
from tierwise.training.offload import OFFLOAD
from tierwise.training.step import TrainStep


def files(step: TrainStep, shape: DecoderShape, name: str) -> dict[str, str]:
    """``ds_config.json``; nothing where tensors or layers are divided."""
    x = step.layout
    if x.tp > 1 or x.pp > 1 or x.cp > 1:
        return {}
    zero: dict[str, object] = {"stage": int(x.zero), "overlap_comm": True, "contiguous_gradients": True}
    level = OFFLOAD[int(x.offload)]
    if level != "none":
        zero["offload_optimizer"] = {"device": "cpu", "pin_memory": True}
    if level == "parameters":
        zero["offload_param"] = {"device": "cpu", "pin_memory": True}
    found = {
        "train_batch_size": int(x.global_batch),
        "train_micro_batch_size_per_gpu": int(x.micro_batch),
        "gradient_accumulation_steps": int(x.micro_batches),
        "bf16": {"enabled": True},
        "zero_optimization": zero,
        "gradient_clipping": 1.0,
    }
    return {"ds_config.json": json.dumps(found, indent=2) + "\n"}
