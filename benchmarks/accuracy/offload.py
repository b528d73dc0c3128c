"""Errors of models divided over a card and its host, with the card and the processor left out of the fits.

    python -m benchmarks.accuracy.offload edge_dev.parquet

Nothing is fitted to rows of divided models, but kernels of both sides are, to rows of models that either holds alone.
For every computer in the table its card and its processor are left out of these fits, all backends that either may use
are fitted again, each that starts from another one's fit from that one's without them, and its rows are predicted.
Rows that nothing answers count as 100 % error.
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from unittest.mock import patch

import numpy as np
from benchmarks.fit.edge import FOLDER, PUBLISHED, applied, file_of, fitted, keys, trial, write
from benchmarks.fit.edge_backends import BACKENDS, KERNELS, first
from benchmarks.fit.edge_table import Flat, base, flat
from numpy.typing import NDArray

from tierwise.core.errors import TierwiseError
from tierwise.cost import kits
from tierwise.cost.kits import Kit
from tierwise.measure.columns import Table
from tierwise.measure.edge import GroupWork, works
from tierwise.measure.offload import KINDS, OffloadAnswers, check, computer
from tierwise.measure.ops import read

# What cards and processors of the rows run, those that others start from first.
SIDES = ("cuda", "processors", "ik-processors")


class Fits:
    """Coefficients of the backends without some devices, each fitted once."""

    def __init__(self, table: Table) -> None:
        own, beside = (works(t, lambda g: any(g.engine.partition("@")[0] in BACKENDS[n].engines for n in SIDES))
                       for t in (table, read(PUBLISHED)))  # fmt: skip
        self.rows: dict[str, tuple[list[GroupWork], list[GroupWork], Flat]] = {}
        for name in SIDES:
            b = BACKENDS[name]
            mine, others = ([w for w in ws if b.keep(w)] for ws in (own, beside))
            self.rows[name] = mine, others, flat(mine, KERNELS, b.peaks, others)
        self.known: dict[frozenset[str], dict[str, dict[str, Any]]] = {}

    def without(self, devices: frozenset[str], folder: Path) -> None:
        """Write the calibration files of fits without these devices."""
        seen = frozenset(d for _, _, f in self.rows.values() for d in np.unique(f.device)) & devices
        if seen not in self.known:
            done: dict[str, Kit] = {}
            files: dict[str, dict[str, Any]] = {}
            for name, (own, beside, f) in self.rows.items():
                b = BACKENDS[name]
                start, names = first(name, b, done), keys([*own, *beside], b)
                x = fitted(f, ~np.isin(f.device, list(seen)), trial(f, start, names), names)
                done[name] = applied(start, names, x)
                files[name] = file_of(b, start, names, x, [*own, *beside], None, np.zeros(0))
            self.known[seen] = files
        for name, data in self.known[seen].items():
            write(name, data, folder)


def left_out(table: Table) -> tuple[OffloadAnswers, OffloadAnswers]:
    """(answers from the fits on file, answers with each computer's card and processor left out)."""
    whole, fits = check(table), Fits(table)
    predicted = np.full(len(whole.rows), np.nan)
    for text in np.unique(whole.device):
        mine = whole.device == text
        try:
            found = computer(str(text))
        except TierwiseError:  # nothing of it is in these fits
            predicted[mine] = whole.predicted[mine]
            continue
        cpu = found.host.cpu if found.host is not None else None
        gone = frozenset(base(d.name) for d in (found.device, cpu) if d is not None)
        rows = {name: np.asarray(column)[whole.rows[mine]] for name, column in table.items()}
        with TemporaryDirectory() as made:
            folder = Path(made)
            shutil.copytree(FOLDER, folder, dirs_exist_ok=True)
            fits.without(gone, folder)
            with patch.object(kits, "_HERE", folder):
                _forget()
                predicted[mine] = check(rows).predicted
    _forget()
    return whole, OffloadAnswers(whole.rows, whole.measured, predicted, whole.kind, whole.device, whole.engine,
                                 whole.phase, whole.refused)  # fmt: skip


def _forget() -> None:
    """Read calibration files again."""
    kits._files.cache_clear()
    kits._kit.cache_clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("table", type=Path)
    whole, apart = left_out(read(parser.parse_args().table))
    print(f"{'':62s} {'rows':>5s} {'in fit':>7s} {'left out':>8s} {'bias':>5s}")
    for kind in KINDS:
        mine = whole.kind == kind
        for device in np.unique(whole.device[mine]):
            here = mine & (whole.device == device)
            for phase in np.unique(whole.phase[here]):
                _line(f"  {device[:50]}, {phase}", here & (whole.phase == phase), whole, apart)
        if mine.any():
            _line(kind, mine, whole, apart)


def _line(what: str, mine: NDArray[np.bool_], whole: OffloadAnswers, apart: OffloadAnswers) -> None:
    ratio = (apart.predicted / apart.measured)[mine]
    bias = np.median(ratio[np.isfinite(ratio)]) if np.isfinite(ratio).any() else float("nan")
    print(f"{what:62s} {int(mine.sum()):5d} {np.median(whole.error[mine]):7.1%} {np.median(apart.error[mine]):8.1%} "
          f"{bias:5.2f}")  # fmt: skip


if __name__ == "__main__":
    main()
