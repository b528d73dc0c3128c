"""ktransformers: SGLang with routed experts on the host's processors."""

from __future__ import annotations

from tierwise.launch.fit import Divided, script
from tierwise.launch.fit._gguf import path

TITLE = "SGLang with KTransformers' kernels"
SOURCE = "kt-kernel 0.5.1, README.md (LLAMAFILE reads GGUF files)"
CANNOT = "it keeps routed experts on the host and nothing else"


def files(d: Divided) -> dict[str, str]:
    """A script, where experts lie on the host: of every layer as many on the device as whole layers have there."""
    if d.streams or not d.host_experts or d.host_layers or d.host_caches or d.from_disk:
        return {}
    kept = round(d.experts * (1.0 - len(d.host_experts) / max(len(d.routed), 1)))
    words = ["python", "-m", "sglang.launch_server", "--model", d.model, "--kt-method", "LLAMAFILE", "--kt-weight-path",
             path(d), "--kt-cpuinfer", str(d.threads), "--kt-threadpool-count", str(d.sockets), "--kt-num-gpu-experts",
             str(kept), "--tensor-parallel-size", str(d.cards), "--context-length", str(d.context)]  # fmt: skip
    note = ("# It deals experts of every layer, not layers: other speeds than predicted for llama.cpp's division.",)
    return {"ktransformers.sh": script(d, words, note)}
