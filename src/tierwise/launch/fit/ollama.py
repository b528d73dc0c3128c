"""Ollama."""

from __future__ import annotations

from tierwise.launch.fit import Divided, prediction
from tierwise.launch.fit._gguf import ALL, kv, path

TITLE = "an Ollama Modelfile: `ollama create NAME -f Modelfile`"
SOURCE = "Ollama, docs/modelfile.md and docs/faq.md, 0.11"
CANNOT = "it divides a model by whole layers alone (num_gpu), with their caches"


def files(d: Divided) -> dict[str, str]:
    """A Modelfile, where whole layers are divided."""
    if d.streams or d.host_experts or d.host_feed or d.host_caches or d.from_disk:
        return {}
    gpu = d.depth + 1 - len(d.host_layers) if d.host_layers else ALL
    lines = [
        f"# {prediction(d)}",
        f"# The server decides on caches: OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE={kv(d.kv)} ollama serve",
        f"FROM ./{path(d)}",
        f"PARAMETER num_ctx {d.context}",
        f"PARAMETER num_gpu {gpu}",
        f"PARAMETER num_batch {d.ubatch}",
    ]
    if d.threads and not d.whole:
        lines.append(f"PARAMETER num_thread {d.threads}")
    return {"Modelfile": "\n".join([*lines, ""])}
