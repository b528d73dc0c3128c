"""DeepSpeed's JSON, for layouts that only data parallelism divides."""

from __future__ import annotations

import json

from tierwise.training.launch import DecoderShape
from tierwise.training.offload import OFFLOAD
from tierwise.training.step import TrainStep


def files(step: TrainStep, shape: DecoderShape, name: str) -> dict[str, str]:
    """``ds_config.json``; nothing where tensors or layers are divided, or updates are shared or come early."""
    x = step.layout
    if x.tp > 1 or x.pp > 1 or x.cp > 1 or x.early_update or x.device_update:
        return {}
    zero: dict[str, object] = {"stage": int(x.zero), "overlap_comm": True, "contiguous_gradients": True}
    level = OFFLOAD[int(x.offload)]
    where = {"device": "nvme", "nvme_path": "/local_nvme"} if x.offload_disk else {"device": "cpu"}
    if level != "none":
        part = {"ratio": float(x.offload_share)} if x.offload_share < 1 else {}
        zero["offload_optimizer"] = {**where, "pin_memory": True, **part}
    if level == "parameters":
        zero["offload_param"] = {**where, "pin_memory": True}
    found = {
        "train_batch_size": int(x.global_batch),
        "train_micro_batch_size_per_gpu": int(x.micro_batch),
        "gradient_accumulation_steps": int(x.micro_batches),
        "bf16": {"enabled": True},
        "zero_optimization": zero,
        "gradient_clipping": 1.0,
    }
    return {"ds_config.json": json.dumps(found, indent=2) + "\n"}
