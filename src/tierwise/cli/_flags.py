"""Options of commands, made from the one table of settings (:mod:`tierwise.scenario.fields`).

>>> @flags("machine", *BATCH, requests=100)
... def command(asked: Asked, ops: int = typer.Option(12)) -> None: ...

A setting means the same wherever it is taken. Each is read once, here; what a flag does not say is taken from the saved
scenario given in place of a model, and else from the table's (or the command's own) default.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias, get_type_hints

import typer
from typer.models import ArgumentInfo

from tierwise.core.errors import TierwiseError
from tierwise.scenario.fields import FIELDS, Field, bad, names, read

Command: TypeAlias = Callable[..., Any]

BATCH = ("batch", "prompt", "output", "images", "image_size", "workload")
DEGREES = ("tp", "pp", "dp", "ep")
FORMATS = ("weights", "activations", "kv")
KERNELS = ("chunk", "eager", "unfused", "framework", "schedule")
TRAINING = ("train", "global_batch", "micro_batch", "seq", "cp", "ulysses", "interleave", "first_layers", "last_layers",
            "stage_layers", "recompute", "zero", "shard", "sequence_parallel", "vocabulary_parallel", "tp_overlap",
            "grad_overlap", "offload", "offload_activations", "offload_disk", "offload_share", "early_update",
            "device_update", "imbalance", "capacity", "moe_token_dispatcher_type",
            "overlap_moe_expert_parallel_comm", "use_transformer_engine_op_fuser", "cuda_graph_scope", "mtp_num_layers",
            "lengths", "padded",
            "straggler", "islands", "local_steps", "averaging", "late", "compress", "mtbf", "restart", "storage",
            "background", "spares", "repair", "optimizer", "precision", "trainer", "method",
            "train_tokens")  # fmt: skip
# Requests over time, from a file or made up.
STREAM = ("trace", "format", "rate_scale", "limit", "rate", "concurrency", "requests", "arrivals", "prompt", "output",
          "turns", "think", "shared", "search", "seed")  # fmt: skip
LOADS = ("trace", "rate", "concurrency")
# What holds a machine back, wherever one is named.
HELD = names("held")
MODEL = "Catalog name, hf:org/name, or a config.json, GGUF, safetensors or ONNX file; or a saved scenario (YAML)."


@dataclass(frozen=True)
class Flags:
    """What a user asked: each setting is an attribute.

    Attributes:
        said: the settings that flags gave, read.
        saved: the canonical form of the scenario they continue; empty without one.
        source: the file it is from; "" without one.
        model: name or path of the model; "" where a saved scenario holds its contents.
        defaults: what counts where nobody said anything.
    """

    said: Mapping[str, Any]
    saved: Mapping[str, Any]
    source: str
    model: str
    defaults: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or name not in FIELDS:
            raise AttributeError(name)
        if name in self.said:
            return self.said[name]
        found = self.stored(name)
        return self.defaults.get(name, FIELDS[name].default) if found is None else found

    def stored(self, name: str) -> Any:
        """What the saved scenario says, read as a flag is; None where it says nothing."""
        row = FIELDS[name]
        holder: Any = self.saved.get(row.section) if row.section else self.saved
        value = holder.get(name) if isinstance(holder, Mapping) else None
        if value is None or row.section in ("", "plan"):
            return value
        return _values(row, value, f"{self.source}: {row.section}.{name}")

    def asks(self, name: str) -> bool:
        """Whether a flag or the saved scenario gives it."""
        return name in self.said or self.stored(name) is not None

    def several(self, name: str) -> list[Any]:
        """Each value of what may be given several times."""
        value = getattr(self, name)
        return list(value) if isinstance(value, (list, tuple)) else [] if value in (None, "") else [value]

    def load(self) -> dict[str, Any]:
        """Which of trace, rate and concurrency is given; a flag replaces what a saved scenario says of them all."""
        said = {name: self.said[name] for name in LOADS if name in self.said}
        return said or {name: value for name in LOADS if (value := self.stored(name)) is not None}


def flags(
    *settings: str, many: Sequence[str] = (), repeat: str = "Repeat to compare.", model: str | None = MODEL,
    **defaults: Any,
) -> Callable[[Command], Command]:  # fmt: skip
    """Give a command these settings as options, and a MODEL in front; the command gets them as its first argument.

    Args:
        settings: of the table, in the order of the help text; a machine comes with what holds it back.
        many: those that may be repeated here. ``repeat``: what for.
        model: what MODEL may be; None for a command that takes none.
        defaults: those whose default differs here from the table's.
    """
    taken = [x for name in settings for x in ((name, *HELD) if name == "machine" else (name,))]
    rows = [FIELDS[name] for name in (taken if model is None else ["read_as", *taken])]
    several = {row.name for row in rows if row.many} | set(many)

    def take(command: Command) -> Command:
        hints = get_type_hints(command)
        own = [p.replace(annotation=hints[p.name]) for p in list(inspect.signature(command).parameters.values())[1:]]

        def run(**given: Any) -> Any:
            text = given.pop("model") if model is not None else ""
            mine = {p.name: given.pop(p.name) for p in own}
            said = {row.name: _values(row, given[row.name], "", row.name in several)
                    for row in rows if given[row.name] is not None and given[row.name] != []}  # fmt: skip
            return command(asked(text, said, defaults), **mine)

        front = typer.Argument(..., help=model, metavar="MODEL")
        first = [] if model is None else [inspect.Parameter("model", _KIND, default=front, annotation=str)]
        options = [_option(row, repeat if row.name in several else "", defaults) for row in rows]
        ahead = [p for p in own if isinstance(p.default, ArgumentInfo)]
        every = [*first, *ahead, *options, *(p for p in own if p not in ahead)]
        run.__signature__ = inspect.Signature(every)  # type: ignore[attr-defined]
        run.__annotations__ = {p.name: p.annotation for p in every}
        run.__doc__, run.__name__ = command.__doc__, command.__name__
        return run

    return take


def refuse(asked: Flags, names: Sequence[str], allowed: str) -> None:
    """Refuse flags that nothing would follow here: a flag that is taken changes something.

    Raises:
        TierwiseError: names the first of them.
    """
    for name in names:
        if name in asked.said:
            option = FIELDS[name].option
            raise bad(f"--no-{option[2:]}" if asked.said[name] is False else option, asked.said[name], allowed)


def asked(model: str, said: Mapping[str, Any], defaults: Mapping[str, Any] | None = None) -> Flags:
    """What flags ask of a model, or of the saved scenario given in its place."""
    from tierwise.models.load import spelled_as
    from tierwise.scenario.files import is_scenario

    said = dict(said)
    kind = said.pop("read_as", None)
    held = {name: said.pop(name) for name in HELD if name in said}
    if not model or not is_scenario(model):
        return Flags(_holding(said, {}, held)[0], {}, "", spelled_as(model, kind), defaults or {})
    from tierwise.scenario.files import read as read_file
    from tierwise.scenario.schema import check_file

    saved = read_file(model)
    check_file(saved, model)
    saved = {name: value for name, value in saved.items() if value is not None}  # an empty section says nothing
    name = saved.get("model")
    if kind is not None and isinstance(name, str):
        saved = {**saved, "model": spelled_as(name, kind)}
    said, saved = _holding(said, saved, held)
    return Flags(said, saved, model, saved["model"] if isinstance(name, str) else "", defaults or {})


def _holding(said: Mapping[str, Any], saved: Mapping[str, Any], held: Mapping[str, Any]) -> tuple[Any, Any]:
    """What flags say and what is saved, the machine in them held back as other flags say."""
    from tierwise.machines.held import joined

    if not held:
        return said, saved
    if isinstance(machine := said.get("machine"), list):
        return {**said, "machine": [joined(name, held) for name in machine]}, saved
    name = machine or saved.get("machine")
    if not isinstance(name, str):
        row = FIELDS[next(iter(held))]
        raise bad(row.option, held[row.name], "nothing without a machine by its name: --on h100-sxm")
    name = joined(name, held)
    return ({**said, "machine": name}, saved) if machine else (said, {**saved, "machine": name})


def parsed(words: Sequence[str], settings: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """(model, settings) of a command line's words, for scenarios written as text.

    Raises:
        TierwiseError: a flag or value that cannot be.
    """
    try:
        found: tuple[str, dict[str, Any]] = _scenario(tuple(settings))(list(words), standalone_mode=False)
    except TierwiseError:
        raise
    except Exception as error:
        # Usage errors, told by what they can do: their class moved between versions of Typer.
        if not hasattr(error, "format_message"):
            raise
        raise TierwiseError(f"in the scenario text: {error.format_message()}") from None
    return found


@cache
def _scenario(settings: tuple[str, ...]) -> Any:
    """A command that answers what :func:`parsed` does."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)

    @flags(*settings)
    def one(asked: Flags) -> tuple[str, dict[str, Any]]:
        return asked.source or asked.model, dict(asked.said)  # a type it is read as is in the name

    app.command("scenario", add_help_option=False)(one)
    return typer.main.get_command(app)


_METAVARS = {"text": "TEXT", "whole": "N", "number": "X", "count": "N", "length": "N", "batch": "N", "time": "TIME",
             "bytes": "BYTES", "rate": "RATE", "power": "WATTS"}  # fmt: skip
_KIND = inspect.Parameter.POSITIONAL_OR_KEYWORD


def _option(row: Field, repeat: str, defaults: Mapping[str, Any]) -> inspect.Parameter:
    usual = defaults.get(row.name, row.default)
    told = row.help
    if usual not in (None, False, "") and "default" not in told:
        told = f"{told.removesuffix('.')} (default: {_shown(row, usual)})."
    many = bool(repeat)
    if many and not row.many:
        told += f" {repeat}"
    decl = f"{row.option}/--no-{row.option[2:]}" if row.kind == "switch" else row.option
    kind: Any = list[str] if many else bool | None if row.kind == "switch" else str | None
    metavar = None if row.kind == "switch" else row.metavar or _METAVARS[row.kind]
    option = typer.Option([] if many else None, decl, help=told, show_default=False, metavar=metavar)
    return inspect.Parameter(row.name, _KIND, default=option, annotation=kind)


def _shown(row: Field, usual: Any) -> str:
    if row.kind == "switch":
        return "yes"
    if row.kind == "bytes":
        return f"{usual:g} B" if usual else "none"
    if row.kind == "time":
        return f"{usual:g}s"
    return f"{usual:g}" if isinstance(usual, float) else str(usual)


def _values(row: Field, value: Any, where: str = "", many: bool = False) -> Any:
    if isinstance(value, (list, tuple)):
        # Of a file's settings some commands compare several; of a training run, which is one, and of nothing, none.
        if not (many or row.many or (where and value and row.section != "training")):
            raise bad(where or row.option, value, "one value")
        return [read(row, v, where) for v in value]
    return read(row, value, where)
