"""Shell completion: one script a shell, with the commands, their flags and the names of the catalogs as they are today.

The script asks nothing at run time, so that a key pressed costs no start-up; after an update it is made again:
``tierwise --completion bash > ~/.local/share/bash-completion/completions/tierwise``.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping

from tierwise.core.errors import UnknownName

Flags = Mapping[str, list[str]]  # of a command ("explain", "plan serve"), every long flag
Values = Mapping[str, list[str]]  # of a flag, what may follow it


def completion(shell: str) -> str:
    """The script of a shell.

    Raises:
        UnknownName: a shell that there is none for.
    """
    if shell not in SHELLS:
        raise UnknownName("shell", shell, SHELLS, f"(there are {', '.join(SHELLS)})")
    return SHELLS[shell](_flags(), _values())


def _flags() -> dict[str, list[str]]:
    import typer
    from typer.main import get_command

    from tierwise.cli import _plan, commands

    found = {name: f"tierwise.cli.{name}" for name in commands() if name != "plan"}
    goals = [i.name for i in pkgutil.iter_modules(_plan.__path__) if not i.name.startswith("_")]
    found |= {f"plan {goal}": f"tierwise.cli._plan.{goal}" for goal in goals}
    out = {}
    for name, module in sorted(found.items()):
        app = typer.Typer(add_completion=False, rich_markup_mode=None)
        app.command(name)(importlib.import_module(module).command)
        options = [o for p in get_command(app).params for o in (*p.opts, *p.secondary_opts) if o.startswith("--")]
        out[name] = sorted({*options, "--help"})
    return out


def _values() -> dict[str, list[str]]:
    """Names that may follow a flag; under ``""`` those of models, which follow a command."""
    from tierwise import engines
    from tierwise.core.numerics import known_formats
    from tierwise.machines.load import device_names, system_names
    from tierwise.models.load import model_names
    from tierwise.serving.traffic.load import named_formats

    formats = known_formats()
    return {"": model_names(), "--on": [*device_names(), *system_names()], "--weights": formats, "--kv": formats,
            "--activations": formats, "--engine": [*engines.names(), engines.TYPICAL, engines.KERNELS],
            "--format": [name for name, _ in named_formats()], "--statistic": ["mean", "p50", "p90", "p95", "p99"],
            "--objective": ["cost", "throughput", "latency"], "--mode": ["aggregated", "disaggregated"]}  # fmt: skip


def _bash(flags: Flags, values: Values) -> str:
    after = "\n".join(f'    {flag}) COMPREPLY=($(compgen -W "{" ".join(names)}" -- "$cur")); return ;;'
                      for flag, names in values.items() if flag)  # fmt: skip
    of = "\n".join(f'    "{name}"*) words="{" ".join(names)}" ;;' for name, names in flags.items())
    first = " ".join(sorted({name.split()[0] for name in flags}))
    goals = " ".join(name.split()[1] for name in flags if " " in name)
    return f"""# bash completion of tierwise
_tierwise() {{
  local cur="${{COMP_WORDS[COMP_CWORD]}}" prev="${{COMP_WORDS[COMP_CWORD-1]}}" words=""
  COMPREPLY=()
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{first} --version --completion --help" -- "$cur")); return
  fi
  case "$prev" in
    --completion) COMPREPLY=($(compgen -W "{" ".join(SHELLS)}" -- "$cur")); return ;;
{after}
  esac
  if [ "${{COMP_WORDS[1]}}" = plan ] && [ "$COMP_CWORD" -eq 2 ]; then
    COMPREPLY=($(compgen -W "{goals}" -- "$cur")); return
  fi
  case "${{COMP_WORDS[1]}} ${{COMP_WORDS[2]}}" in
{of}
  esac
  if [[ "$cur" == -* ]]; then
    COMPREPLY=($(compgen -W "$words" -- "$cur"))
  else
    COMPREPLY=($(compgen -W "{" ".join(values[""])}" -- "$cur") $(compgen -f -- "$cur"))
  fi
}}
complete -o filenames -F _tierwise tierwise
"""


def _zsh(flags: Flags, values: Values) -> str:
    return f"""#compdef tierwise
autoload -U +X bashcompinit && bashcompinit
{_bash(flags, values)}"""


def _fish(flags: Flags, values: Values) -> str:
    lines = ["# fish completion of tierwise", "complete -c tierwise -f"]
    first = sorted({name.split()[0] for name in flags})
    lines.append(f"complete -c tierwise -n __fish_use_subcommand -a '{' '.join(first)}'")
    lines.append(f"complete -c tierwise -n __fish_use_subcommand -l completion -x -a '{' '.join(SHELLS)}'")
    for name, names in flags.items():
        command, *goal = name.split()
        seen = f"__fish_seen_subcommand_from {command}"
        if goal:
            lines.append(f"complete -c tierwise -n '{seen}' -a '{goal[0]}'")
        lines.append(f"complete -c tierwise -n '{seen}' -F -a '{' '.join(values[''])}'")
        for flag in names:
            takes = f" -x -a '{' '.join(values[flag])}'" if flag in values else ""
            lines.append(f"complete -c tierwise -n '{seen}' -l {flag[2:]}{takes}")
    return "\n".join(lines) + "\n"


SHELLS: dict[str, Callable[[Flags, Values], str]] = {"bash": _bash, "zsh": _zsh, "fish": _fish}
