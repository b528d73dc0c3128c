"""Shell scripts: one for each pool of engines and one for the router."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence

from tierwise.launch.asked import Env
from tierwise.launch.files import LaunchGroup, Router, engine, facts

# Engines on one host get ports this far apart, so that the side ports of one do not meet those of the next.
APART = 100
_NAME = re.compile(r"\$\{([A-Z_][A-Z0-9_]*)\}")


def script(pool: LaunchGroup, name: str) -> str:
    """The script of one engine of ``pool``: which devices and port are its own comes from the environment."""
    module, known = engine(name), facts(name)
    machine = " ".join(pool.group.machine.device.name.split())
    lines = [
        "#!/usr/bin/env bash",
        f"# Pool {pool.name}, {pool.count} × {known['engine']} {known['version']}, each on {pool.nodes} node(s) of "
        f"{pool.local} × {machine}.",
        "# CUDA_VISIBLE_DEVICES and PORT choose its devices and port; a gated model needs HF_TOKEN.",
        "set -euo pipefail",
        'here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"',
        'export CONFIG_DIR="${CONFIG_DIR:-$here}"',
        f'export PORT="${{PORT:-{module.PORT}}}"',
    ]
    for variable, port in module.SIDE_PORTS.items() if pool.group.role != "both" else ():
        lines.append(f'export {variable}="${{{variable}:-$(({port} + PORT - {module.PORT}))}}"')
    lines += _demands([*pool.argv, *pool.worker])
    if pool.worker and pool.worker != pool.argv:
        lines += ['if [ "$NODE_RANK" != 0 ]; then', f"  exec {words(pool.worker)}", "fi"]
    return "\n".join([*lines, f"exec {words(pool.argv)}", ""])


def router_script(router: Router, name: str) -> str:
    """The script of the router in front of engines on this host."""
    lines = ["#!/usr/bin/env bash", "# The router: requests go here."]
    if router.install:
        lines.append(f"# It needs: pip install {requirement(name)}")
    lines += ["set -euo pipefail", 'here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"']
    return "\n".join([*lines, 'export CONFIG_DIR="${CONFIG_DIR:-$here}"', f"exec {words(router.argv)}", ""])


def local_ports(found: Sequence[LaunchGroup], name: str) -> dict[str, list[int]]:
    """Ports of all engines where they run on one host, by pool; the engine's own port is the router's."""
    first = int(engine(name).PORT)
    if sum(pool.count for pool in found) == 1:
        return {found[0].name: [first]}
    out: dict[str, list[int]] = {}
    for pool in found:
        out[pool.name] = [first := first + APART for _ in range(pool.count)]
    return out


def local_urls(found: Sequence[LaunchGroup], name: str) -> dict[str, list[str]]:
    """Addresses of all engines where they run on one host, by pool."""
    return {pool: [f"http://127.0.0.1:{p}" for p in ports] for pool, ports in local_ports(found, name).items()}


def requirement(name: str) -> str:
    """The package of an engine's router, pinned."""
    known = facts(name)["router"]
    return f"{known['package']}=={known['version']}"


def words(argv: Sequence[str]) -> str:
    """A command line that a shell reads as exactly ``argv``; variables of :class:`Env` stay variables."""
    return " ".join(word(a) for a in argv)


def word(argument: str) -> str:
    """One argument, quoted."""
    if not isinstance(argument, Env):
        return shlex.quote(argument)
    parts = _NAME.split(argument)
    plain = [p.replace("\\", r"\\").replace('"', r"\"").replace("$", r"\$").replace("`", r"\`") for p in parts[::2]]
    return '"' + "".join(a + b for a, b in zip(plain, [f"${{{v}}}" for v in parts[1::2]] + [""], strict=True)) + '"'


def variables(argv: Sequence[str]) -> list[str]:
    """Variables that arguments take from the environment, in order."""
    found = [v for a in argv if isinstance(a, Env) for v in _NAME.findall(a)]
    return list(dict.fromkeys(found))


def filled(argument: str, values: Mapping[str, str]) -> str:
    """An argument with the variables of an :class:`Env` replaced."""
    return _NAME.sub(lambda m: values[m[1]], argument) if isinstance(argument, Env) else argument


def without(argv: Sequence[str], left_out: Mapping[str, int]) -> list[str]:
    """Arguments less some, each with so many words that follow it."""
    out, rest = [], list(argv)
    while rest:
        argument = rest.pop(0)
        if argument in left_out:
            del rest[: left_out[argument]]
        else:
            out.append(argument)
    return out


_MEANING = {
    "DRAFT_MODEL": "the draft model that proposes tokens",
    "NODE_RANK": "0 on the first node of the engine, then 1, 2, ...",
    "MASTER_ADDR": "address of the first node of the engine",
}


def _demands(argv: Sequence[str]) -> list[str]:
    return [f': "${{{v}:?{_MEANING[v]}}}"' for v in variables(argv) if v in _MEANING]
