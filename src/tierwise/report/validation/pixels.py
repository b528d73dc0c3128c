"""``tierwise validate pixels``: published rates of vision models beside predictions of their graphs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from tierwise.measure.ops import Accuracy, accuracy, read
from tierwise.measure.pixels import checked, engine_of, groups, predict, refused_as_100
from tierwise.report.accuracy import show
from tierwise.report.validation import named


def validate(paths: Sequence[Path], json: Path | None) -> None:
    """Every file's rows of inference beside the predictions: all of them, those not answered counting as 100 % off;
    those answered; and these by machine and software, and by family of models.

    Graphs are looked for in the folder ``graphs`` beside each file.

    Raises:
        TierwiseError: no file, or one that is not a table of measurements.
    """
    lines: list[tuple[str, tuple[str, ...], Accuracy]] = []
    for path in named(paths, "pixels", "file of measurements"):
        table = checked(read(path), str(path))
        p = predict(table, path.resolve().parent / "graphs")
        infer = np.flatnonzero(np.asarray(table["phase"], dtype=str) == "infer")
        answered = np.isfinite(p.predicted)
        lines += [("pixels", ("inference, refused as 100 %",), accuracy(refused_as_100(p), infer)),
                  ("pixels", ("answered",), accuracy(p, np.flatnonzero(answered)))]  # fmt: skip
        said = ("framework", "compiler", "layout")
        engines = [engine_of({c: table[c][i] for c in said}) for i in range(len(answered))]
        by_engine = {**table, "engine": np.asarray(engines)}
        for columns in (("machine", "engine"), ("family",)):
            for names, rows in groups(by_engine, [c for c in columns if c in by_engine]).items():
                if np.any(answered[rows]):
                    lines.append(("pixels", names, accuracy(p, rows[answered[rows]])))
    show(lines, json)
