"""DeepSpeed ZeRO-Inference (ZeRO-Infinity's parameter offload)."""

from __future__ import annotations

import json
from typing import Any

from tierwise.launch.fit import Divided

TITLE = "a DeepSpeed configuration of ZeRO stage 3 with parameters offloaded"
SOURCE = "DeepSpeed 0.17, docs/_pages/config-json.md (offload_param, aio)"
CANNOT = "it streams all parameters, which this plan does not"
BUFFERS = 5  # its default


def files(d: Divided) -> dict[str, str]:
    """The configuration, where weights stream."""
    away = {k: v for k, v in d.shares.items() if k and v > 0}
    if not away:
        return {}
    far = [k for k in away if k != "host"]
    layer = int(d.weight_bytes / max(d.depth, 1))
    param: dict[str, Any] = {"device": "nvme" if far else "cpu", "pin_memory": True}
    if far:
        param |= {"nvme_path": "/local_nvme", "buffer_count": BUFFERS, "buffer_size": layer, "max_in_cpu":
                  int(d.weight_bytes * d.shares.get("host", 0.0))}  # fmt: skip
    made: dict[str, Any] = {
        "train_micro_batch_size_per_gpu": 1,
        "zero_optimization": {"stage": 3, "offload_param": param, "stage3_max_live_parameters": 2 * layer,
                              "stage3_prefetch_bucket_size": layer, "overlap_comm": True},
        "fp16": {"enabled": True},
    }  # fmt: skip
    if far:
        made["aio"] = {"block_size": 1048576, "queue_depth": 8, "thread_count": 1, "single_submit": False,
                       "overlap_events": True}  # fmt: skip
    return {"deepspeed.json": json.dumps(made, indent=1) + "\n"}
