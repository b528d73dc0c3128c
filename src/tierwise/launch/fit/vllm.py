"""vLLM, with weights on the host."""

from __future__ import annotations

import math

from tierwise.launch.fit import Divided, script

TITLE = "vLLM with offloaded weights"
SOURCE = "vLLM 0.11 to 0.27, `vllm serve --help` (--cpu-offload-gb counts GiB of each card)"
CANNOT = "it copies weights to the device for every use, and caches of sequences in work stay on the device"


def files(d: Divided) -> dict[str, str]:
    """A script, where weights stream from the host or everything fits."""
    disk = any(v > 0 for k, v in d.shares.items() if k not in ("", "host"))
    # Its --kv-offloading-size keeps blocks of earlier requests, not those that a step reads.
    if not d.streams or disk or d.cache_shares.get("host", 0.0) > 0:
        return {}
    words = ["vllm", "serve", d.model, "--max-model-len", str(d.context), "--max-num-seqs", str(d.batch)]
    if d.shares.get("host", 0.0) > 0:
        words += ["--cpu-offload-gb", str(math.ceil(d.shares["host"] * d.weight_bytes / d.cards / 2**30))]
    if d.cards > 1:
        words += ["--pipeline-parallel-size", str(d.cards)]
    return {"vllm.sh": script(d, words)}
