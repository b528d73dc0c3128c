"""llama.cpp."""

from __future__ import annotations

from tierwise.launch.fit import Divided, one_line, script
from tierwise.launch.fit._gguf import kv, path, placement, sizes

TITLE = "llama.cpp's server"
SOURCE = "llama.cpp, tools/server/README.md, since b6325 (-fa on; --n-cpu-moe since b6088)"
CANNOT = "it computes where weights lie and streams none step by step"


def files(d: Divided) -> dict[str, str]:
    """A script that starts llama-server."""
    return {} if d.streams else {"llama.cpp.sh": script(d, words(d))}


def command(d: Divided) -> str:
    """The same on one line."""
    return one_line(words(d))


def words(d: Divided) -> list[str]:
    """The command."""
    return ["llama-server", "-m", path(d), *placement(d), "-fa", "on", "-ctk", kv(d.kv), "-ctv", kv(d.kv), *sizes(d),
            *(["-sm", "layer"] if d.cards > 1 else [])]  # fmt: skip
