"""``tierwise validate ops``: recorded times of single operations beside the engine's predictions."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tierwise.measure.ops import Accuracy, checked, kind_of, predict, read, summary
from tierwise.report.accuracy import show
from tierwise.report.validation import named


def validate(paths: Sequence[Path], json: Path | None) -> None:
    """Every file's rows beside the predictions.

    Raises:
        TierwiseError: no file, or one that is not a table of measurements.
    """
    lines: list[tuple[str, tuple[str, ...], Accuracy]] = []
    for path in named(paths, "ops", "file of measurements"):
        table = read(path)
        kind = kind_of(table, str(path))
        table = checked(table, kind, str(path))
        lines += summary(table, predict(table, kind), kind)
    show(lines, json)
