"""ik_llama.cpp, a fork with processor kernels of its own."""

from __future__ import annotations

from tierwise.launch.fit import Divided, script
from tierwise.launch.fit._gguf import kv, path, placement, sizes

TITLE = "ik_llama.cpp's server"
SOURCE = "ik_llama.cpp, docs/parameters.md, 2026 (-fmoe and -fa are on by default since 2025-11)"
CANNOT = "it is worth its kernels only where the host computes, and streams no weights step by step"


def files(d: Divided) -> dict[str, str]:
    """A script that starts its llama-server, where the host's processors compute."""
    if d.streams or d.whole or d.vendor == "Apple":
        return {}
    words = ["./build/bin/llama-server", "-m", path(d), *placement(d), "-fa", "on", "-fmoe", "-ctk", kv(d.kv), "-ctv",
             kv(d.kv), *sizes(d)]  # fmt: skip
    return {"ik_llama.cpp.sh": script(d, words)}
