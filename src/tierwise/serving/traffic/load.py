"""Reading a trace, whatever its format."""

from __future__ import annotations

import importlib
import pkgutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tierwise.core.errors import TierwiseError, UnknownName
from tierwise.core.units import gb
from tierwise.serving.traffic import formats
from tierwise.serving.traffic.bench import ClientRun
from tierwise.serving.traffic.formats._text import HEAD, checked, content
from tierwise.serving.traffic.trace import Trace

FROM_PIPE = 1 << 30  # bytes


def load(path: str | Path, format: str | None = None, *, limit: int | None = None, rate_scale: float = 1.0) -> Trace:
    """The requests of a file (or of a recorded run's folder), in order of arrival.

    Args:
        path: CSV, JSON or JSON lines, plain or packed (gzip, zstd, bzip2, xz); or a pipe, and "-" for standard input.
        format: a file of ``traffic/formats``; None recognizes it by its first lines.
        limit: the first so many requests only.
        rate_scale: plays the arrivals so many times as fast.

    Returns:
        The trace; ``notices`` say what was sorted, refused (with its lines) or left out.

    Raises:
        TierwiseError: no file, no text, an unknown format, missing columns, or no usable row.
    """
    file = Path("/dev/stdin") if str(path) == "-" else Path(path)
    if not file.exists():
        raise TierwiseError(f"{file}: there is no such file")
    if file.is_fifo():
        return _from_pipe(file, format, limit=limit, rate_scale=rate_scale)
    known = dict(named_formats())
    if format is not None and format not in known:
        raise UnknownName("trace format", format, known, f"(the formats are {', '.join(known)})")
    chosen = known[format] if format is not None else _recognized(file, known)
    requests: Trace = chosen.read(file)
    if limit is not None:
        requests = requests.head(limit)
    return requests.scaled(rate_scale)


def _from_pipe(pipe: Path, format: str | None, **asked: Any) -> Trace:
    """What a pipe holds, put down first: it can be read once, and a trace is looked at before it is read."""
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "pipe"
        with pipe.open("rb") as source, copy.open("wb") as out:
            while part := source.read(1 << 20):
                out.write(part)
                if out.tell() > FROM_PIPE:
                    raise TierwiseError(f"{pipe}: more than {gb(FROM_PIPE)} through a pipe; save it as a file")
        try:
            return replace(load(copy, format, **asked), source=str(pipe))
        except TierwiseError as error:
            raise TierwiseError(str(error).replace(str(copy), str(pipe))) from None


def recorded(path: Path) -> ClientRun | None:
    """What a load generator wrote of a run, recognized by its content; None where the file is none of theirs.

    Raises:
        TierwiseError: no file, no text, or a file of such a format that cannot be used.
    """
    if not path.is_file():
        raise TierwiseError(f"{path}: there is no such file")
    head = _head(path)
    module = next((m for m in dict(named_formats()).values() if hasattr(m, "bench") and m.sniff(path, head)), None)
    if module is None:
        return None
    found: ClientRun = module.bench(path)
    return found


def recorded_formats() -> list[str]:
    """What holds times of tokens, as each format's file names it: its tool and the file that it writes."""
    said = [(m.__doc__ or "").strip().split("\n")[0] for _, m in named_formats() if hasattr(m, "bench")]
    return [line.partition(": ")[0].replace("``", "") for line in said]


def named_formats() -> Iterator[tuple[str, ModuleType]]:
    """Every format: its name and its file."""
    for info in pkgutil.iter_modules(formats.__path__):
        if not info.name.startswith("_"):
            yield info.name, importlib.import_module(f"{formats.__name__}.{info.name}")


def _recognized(file: Path, known: dict[str, ModuleType]) -> ModuleType:
    """The format whose sniff says yes; else the one most of whose columns are named, so that it can say what lacks."""
    head = "" if file.is_dir() else _head(file)
    found = [m for m in known.values() if m.sniff(file, head)]
    if found:
        return found[0]
    first, written = head.strip().split("\n", 1)[0].lower(), head.lstrip()[:1] in ("{", "[")
    # A file of JSON is never short of a CSV's columns, nor the other way round.
    alike = {name: m for name, m in known.items() if getattr(m, "CSV", False) != written}
    near = {name: sum(n.lower() in first for n in m.NEEDS) / len(m.NEEDS) for name, m in alike.items()}
    best = max(near, key=lambda name: near[name])
    if not file.is_dir() and near[best] >= 0.5 and (not written or len(alike[best].NEEDS) > 2):
        return alike[best]
    shown = f"it begins {head.strip()[:60]!r}" if head else "it is a folder without a recorded run"
    wanted = "; ".join(f"{name}: {', '.join(m.NEEDS)}" for name, m in known.items())
    raise TierwiseError(f"{file}: no known trace format ({shown}). The formats and what they need: {wanted}")


def _head(file: Path) -> str:
    """The first whole lines of a file, or the beginning of its one long line."""
    data = content(file, HEAD)
    if len(data) < HEAD:
        return checked(file, data).decode()
    return checked(file, data[: data.rfind(b"\n") + 1]).decode() if b"\n" in data else data.decode(errors="ignore")
