"""The command line. One file a command, found by its place: ``cli/<command>.py`` with a function ``command``.

Only the command that was asked for is imported, so that start-up stays short.
"""

from __future__ import annotations

import codecs
import functools
import importlib
import os
import pkgutil
import re
import sys
from collections.abc import Callable
from typing import Any

INTERRUPTED = 130  # what a shell calls a process that Ctrl-C ended
UNANSWERED = "tierwise: stopped by the user before there was an answer"
HELP = {"help_option_names": ["-h", "--help"]}


class Stopped(Exception):
    """The user stopped a command, which has said what was known by then."""


def commands() -> list[str]:
    """Every command there is a file for."""
    return sorted(i.name for i in pkgutil.iter_modules(__path__) if not i.name.startswith("_"))


def main(argv: list[str] | None = None) -> None:
    """Run a command; exits 0 on success, 2 with one clear line on bad input, 130 on Ctrl-C."""
    args = _today(list(sys.argv[1:] if argv is None else argv))
    _streams()
    try:
        sys.exit(_run(args))
    except BrokenPipeError:
        # The reader of our output has seen enough (``| head``).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except KeyboardInterrupt:
        print(UNANSWERED, file=sys.stderr)
        sys.exit(INTERRUPTED)


def _streams() -> None:
    """Somewhere to write where a shell closed a stream (``>&-``), and letters for those that a stream has none for."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115, open as long as we run
        elif name == "stdout" and hasattr(stream, "reconfigure") and not stream.encoding.lower().startswith("utf"):
            codecs.register_error("tierwise", _spelled)
            stream.reconfigure(errors="tierwise")


_SPELLED = {"…": "...", "·": "-", "×": "x", "µ": "u", "–": "-", "—": "-", "−": "-", "→": "->", "≥": ">=", "≤": "<="}


def _spelled(error: UnicodeError) -> tuple[str, int]:
    """A codec's answer to what it has no letters for."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(_SPELLED.get(c, "?") for c in error.object[error.start : error.end]), error.end


# Names that flags had before, by command, and those they have now: one flag means one thing in every command.
_BEFORE = {
    "explain": {"--trace": "--trace-out"},
    "simulate": {"--budget": "--tokens", "--parquet": "--table"},
    "calibrate": {"--output": "--out"},
    "traffic": {"--system": "--shared"},
}


def _today(args: list[str]) -> list[str]:
    """The arguments with flags by the names they have now."""
    names = _BEFORE.get(args[0], {}) if args else {}
    if args[:2] in (["plan", "train"], ["plan", "finetune"]):
        names = {"--tokens": "--train-tokens"}
    flags = [arg.partition("=") for arg in args]
    return [names.get(flag, flag) + equals + value for flag, equals, value in flags]


def _run(args: list[str]) -> int:
    from tierwise.cli._progress import beginning
    from tierwise.core.errors import TierwiseError

    stream = sys.stdout
    for arg in args:
        if "\0" in arg:  # no shell passes one on, but who calls main may
            return _fail(f"{arg!r}: an argument has no zero character")
    try:
        with beginning(args) as begun:
            app = _app(args, begun)
            code = app(printed(app, args), standalone_mode=False)
        if code == INTERRUPTED:  # what Typer makes of Ctrl-C
            print(UNANSWERED, file=sys.stderr)
        return code if isinstance(code, int) else 0
    except Stopped:
        return INTERRUPTED
    except SystemExit:
        # Typer wraps the stream of a reader that went away, and makes a failure of it.
        if sys.stdout is stream:
            raise
        raise BrokenPipeError from None
    except TierwiseError as error:
        return _fail(str(error))
    except BrokenPipeError:
        raise
    except OSError as error:
        return _fail(f"{error.filename}: {error.strerror}" if error.filename else error.strerror or str(error))
    except MemoryError as error:
        return _fail(f"the memory of this computer is too small for what was asked ({error})")
    except Exception as error:
        # Usage errors, told by what they can do: their class moved between versions of Typer.
        if hasattr(error, "format_message"):
            return _fail(error.format_message(), getattr(error, "ctx", None))
        if type(error).__name__ in ("Exit", "Abort"):
            return int(getattr(error, "exit_code", INTERRUPTED))
        raise


def _app(args: list[str], begun: Callable[[], None] = lambda: None) -> Any:
    """A Typer app with the asked command only, or with all of them for help and mistakes. ``begun``: called when the
    command is."""
    import typer
    from typer.main import get_command

    from tierwise import __version__
    from tierwise.core.errors import UnknownName

    app = typer.Typer(
        name="tierwise",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        context_settings=HELP,
        help="What an AI workload will cost on a machine, why, and what would help: before you run it.",
    )

    def version(show: bool) -> None:
        if show:
            print(f"tierwise {__version__}")
            raise typer.Exit

    def complete(shell: str | None) -> None:
        if shell is not None:
            from tierwise.cli._completion import completion

            print(completion(shell), end="")
            raise typer.Exit

    @app.callback()
    def root(
        version: bool = typer.Option(False, "--version", callback=version, is_eager=True, help="Print the version."),
        completion: str | None = typer.Option(
            None, "--completion", callback=complete, is_eager=True, metavar="SHELL", show_default=False,
            help="Print the completion script of bash, zsh or fish.",
        ),
    ) -> None:
        pass

    known = commands()
    if args and not args[0].startswith("-") and args[0] not in known:
        raise UnknownName("command", args[0], known, f"The commands are {', '.join(known)}.")
    wanted = [args[0]] if args and args[0] in known else known
    for name in wanted:
        module = importlib.import_module(f"tierwise.cli.{name}")
        own = {"context_settings": HELP, **getattr(module, "SETTINGS", {})}
        app.command(name, short_help=_in_short(module.command), **own)(_after(begun, module.command))
    return get_command(app)


def _after(begun: Callable[[], None], command: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(command)
    def run(*args: Any, **given: Any) -> Any:
        begun()
        return command(*args, **given)

    return run


def _in_short(command: Any) -> str:
    """What a command does, as the list of all commands has room for: its first words, to where they pause."""
    return re.split(r"[.:;]\s", " ".join((command.__doc__ or "").split()) + " ", maxsplit=1)[0] + "."


def printed(app: Any, args: list[str]) -> list[str]:
    """The arguments with ``--json`` alone meaning ``--json -``, where a command writes its JSON to a file."""
    commands = getattr(app, "commands", {})
    command = commands.get(args[0] if args else "", None if commands else app)
    takes = any("--json" in option.opts and not option.is_flag for option in getattr(command, "params", ()))
    out: list[str] = []
    for i, arg in enumerate(args):
        last = i + 1 == len(args) or (args[i + 1].startswith("-") and args[i + 1] != "-")
        out += ["--json", "-"] if takes and arg == "--json" and last else [arg]
    return out


def _fail(message: str, context: Any = None) -> int:
    print(f"tierwise: {message}", file=sys.stderr)
    command = getattr(getattr(context, "command", None), "name", None)
    if command in commands():
        print(f"Try 'tierwise {command} --help'.", file=sys.stderr)
    return 2
