"""What `tierwise validate` prints and writes: one file a kind of measurement, with a function ``validate``."""

from __future__ import annotations

import json as jsonlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError
from tierwise.core.files import write


def named(paths: Sequence[Path], action: str, what: str) -> Sequence[Path]:
    """The files to validate.

    Args:
        what: they hold, as in "at least one ``CSV file of measurements``".

    Raises:
        TierwiseError: there is none.
    """
    if not paths:
        raise TierwiseError(f"validate {action}: name at least one {what}")
    return paths


def each_file(
    paths: Sequence[Path], json: Path | None, answer: Callable[[Path], tuple[dict[str, Any], Sequence[str]]]
) -> None:
    """Print every file's lines, and write all files' data as JSON; a file named ``-`` prints that in their place.

    Args:
        answer: a file's data and its lines for people.
    """
    out = []
    for path in paths:
        data, lines = answer(path)
        out.append(data)
        if str(json) != "-":
            print("\n".join(lines))
    if json is not None:
        write(str(json), jsonlib.dumps(out[0] if len(out) == 1 else out, indent=1))
