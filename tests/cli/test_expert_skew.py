"""``tierwise plan fit --expert-skew``: popular experts are found in memory."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tierwise.cli import main
from tierwise.program.residency import popularity

ASKED = ("plan", "fit", "mixtral-8x22b", "--on", "m3-max-64gb + nvme-gen4", "--context", "1024", "--weights", "iq4_xs",
         "--kv", "fp16")  # fmt: skip


def fitted(folder: Path, *more: str) -> dict[str, float]:
    with pytest.raises(SystemExit) as done:
        main([*ASKED, *more, "--json", str(folder / "fit.json")])
    assert done.value.code == 0
    answer: dict[str, float] = json.loads((folder / "fit.json").read_text())["answer"]
    return answer


def test_popular_experts_are_read_less_and_a_trace_says_how_popular(tmp_path: Path) -> None:
    alike, skewed = fitted(tmp_path), fitted(tmp_path, "--expert-skew", "1.1")
    assert alike["read_from_disk"] == alike["without_room"] == skewed["without_room"] > skewed["read_from_disk"] > 0.0
    assert skewed["tokens_per_s"] > 1.2 * alike["tokens_per_s"]
    rng = np.random.default_rng(0)
    rows = [f"{layer},{expert}" for layer in range(3) for expert in
            rng.permutation(8)[rng.choice(8, 4000, p=popularity(8, 1.1))]]  # fmt: skip
    (tmp_path / "trace.csv").write_text("\n".join(["layer,expert", *rows]))
    traced = fitted(tmp_path, "--expert-skew", str(tmp_path / "trace.csv"))
    assert traced["read_from_disk"] == pytest.approx(skewed["read_from_disk"], rel=0.03)


@pytest.mark.parametrize(
    ("value", "why"),
    [("-1", "from 0 to 4"), ("nan", "from 0 to 4"), ("gone.csv", "No such file"), ("other.csv", "also layer, expert"),
     ("large.csv", "expert")],
)  # fmt: skip
def test_what_is_no_popularity_is_refused(
    value: str, why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("other.csv").write_text("a,b\n1,2\n")
    Path("large.csv").write_text("layer,expert\n0,8\n")
    with pytest.raises(SystemExit) as done:
        main([*ASKED, "--expert-skew", value])
    said = capsys.readouterr().err
    assert done.value.code == 2 and why in said and "Traceback" not in said
