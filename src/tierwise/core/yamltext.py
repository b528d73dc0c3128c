"""YAML files of our own. YAML is what people read and write; what was read once is kept as JSON, which is read twenty
times as fast.

Copies lie in the user's cache under a hash of the text they were made from, so that a changed file never meets what an
older one said, and begin with a hash of their own content. Where nothing can be written, files are parsed each time.
"""

from __future__ import annotations

import json
import os
import tempfile
from functools import cache
from hashlib import blake2b
from pathlib import Path
from typing import Any

from tierwise.core.files import cache_folder
from tierwise.core.refusals import yaml_place, yaml_problem

# Changes with the form of the copies.
_FORM = b"1"


class Malformed(ValueError):
    """Text that is no YAML: what is wrong (``problem``), and where (``place``)."""

    def __init__(self, problem: str, place: str) -> None:
        super().__init__(f"{problem}{place}")
        self.problem, self.place = problem, place


def parsed(text: str) -> Any:
    """Plain data, of the caller's own; nothing is executed.

    Raises:
        Malformed: no YAML.
    """
    found = kept(text)
    if found is not None:
        return found
    import yaml

    try:
        data = yaml.load(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))  # a safe loader either way
    except yaml.YAMLError as error:
        raise Malformed(yaml_problem(error), yaml_place(error)) from None
    keep(text, data)
    return data


def kept(text: str) -> Any:
    """What a text says, where it was read before; None where it was not."""
    try:
        stored = _copy(text).read_bytes()
        digest, _, content = stored.partition(b"\n")
        return json.loads(content) if digest == _hash(content) else None
    except (OSError, ValueError):
        return None


def keep(text: str, data: Any) -> None:
    """Keep what a text says for the next time, where JSON can say all of it."""
    try:
        content = json.dumps(data).encode()
        if json.loads(content) != data:
            return
        path = _copy(text)
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(_hash(content) + b"\n" + content)
        os.replace(temporary, path)
    except (OSError, TypeError, ValueError):
        return


def _copy(text: str) -> Path:
    return _folder() / f"{_hash(_FORM + text.encode()).decode()}.json"


@cache
def _folder() -> Path:
    found = cache_folder("yaml")
    if not found.is_absolute():
        raise OSError(f"{found}: nobody says where the user's files are")
    return found


def _hash(content: bytes) -> bytes:
    return blake2b(content, digest_size=16).hexdigest().encode()
