"""A configuration of Hugging Face Accelerate with FSDP2, for layouts that only data parallelism divides."""

from __future__ import annotations

from tierwise.training.launch import DecoderShape
from tierwise.training.layout import RECOMPUTE
from tierwise.training.step import TrainStep


def files(step: TrainStep, shape: DecoderShape, name: str) -> dict[str, str]:
    """``accelerate.yaml``; nothing where tensors or layers are divided."""
    x = step.layout
    if x.tp > 1 or x.pp > 1 or x.cp > 1:
        return {}
    devices = int(x.devices)
    again = "true" if RECOMPUTE[int(x.recompute)] == "full" else "false"
    return {
        "accelerate.yaml": f"""\
compute_environment: LOCAL_MACHINE
distributed_type: {"FSDP" if devices > 1 else "'NO'"}
mixed_precision: bf16
num_machines: {max(devices // 8, 1)}
num_processes: {devices}
machine_rank: 0
main_training_function: main
use_cpu: false
fsdp_config:
  fsdp_version: 2
  fsdp_auto_wrap_policy: TRANSFORMER_BASED_WRAP
  fsdp_reshard_after_forward: {"true" if int(x.zero) >= 3 else "false"}
  fsdp_activation_checkpointing: {again}
  fsdp_state_dict_type: SHARDED_STATE_DICT
  fsdp_cpu_ram_efficient_loading: true
"""
    }
