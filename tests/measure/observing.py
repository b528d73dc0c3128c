"""What tests of `tierwise observe` share."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tierwise.cli import main

NOBODY = "http://127.0.0.1:9"  # the discard port: nothing listens there


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(["observe", *args])
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


def rows(folder: Path, name: str = "requests.jsonl") -> list[dict]:  # type: ignore[type-arg]
    return [json.loads(line) for line in (folder / name).read_text().splitlines()]
