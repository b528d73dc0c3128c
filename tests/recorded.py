"""Recorded operations beside predictions: bounds for devices whose coefficients were fitted, answers for all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tierwise.measure import ops

SHARED = Path(__file__).resolve().parents[2] / "shared/data/ops"
FITTED = ("a100_sxm", "h100_sxm", "l40s", "b200_sxm", "b300_sxm", "rtx_pro_6000_server", "b60")
"""Systems, as the recordings call them, of the devices named in ``cost/calibration/*/*.yaml``."""


def accuracy(file: str, step: int = 1) -> ops.Accuracy:
    """How good predictions of every ``step``-th row of the fitted systems are, all of them together."""
    return accuracies(file, step)["all"]


def accuracies(file: str, step: int = 1) -> dict[str, ops.Accuracy]:
    """The same by system, with ``all`` for all fitted ones.

    Rows of other systems must be answered, and rest on something else than measurements of the device itself; their
    errors are printed, not bounded: nothing was fitted on them.
    """
    path = SHARED / f"{file}.parquet"
    if not path.is_file():
        pytest.skip("no recorded measurements beside the checkout")
    pytest.importorskip("pyarrow")
    table = {c: v[::step] for c, v in ops.read(path).items()}
    p = ops.predict(table, ops.kind_of(table))
    assert np.isfinite(p.predicted).all(), "rows without an answer"
    fitted = np.isin(table["system"].astype(str), FITTED)
    assert fitted.any() and np.all((p.basis == "calibrated") == fitted)
    out = {"all": ops.accuracy(p, np.flatnonzero(fitted))}
    for (name,), rows in ops.groups(table, ("system",)).items():
        a = ops.accuracy(p, rows)
        if name in FITTED:
            out[name] = a
        else:
            print(f"{file} on {name}: {a.rows} rows, median error {a.median:.1%}, bias {a.bias:.2f}, "
                  f"{a.coverage:.0%} inside the interval")  # fmt: skip
    return out
