"""Tables at 80 and 100 columns: a cell is whole or marked, and a column that has no room is named."""

from __future__ import annotations

import contextlib
import io
import re
from pathlib import Path

import pytest

from tierwise.cli import main

LINES = (
    "explain llama-3.2-1b --on l4 --batch 4 --prompt 512 --output 16",
    "explain llama-3.2-1b --on 8xh100-sxm --train --tp 2 --pp 2 --global-batch 16 --seq 1024",
    "plan train llama-3.2-1b --on 8xh100-sxm --global-batch 16 --seq 1024",
    "fit llama-3.2-1b --on l4 --on rtx-4090", "allocate {folder}/buffers.csv --capacity 16", "machines", "models",
    "models llama-3.1-8b", "techniques", "validate training {folder}/training.csv",
)  # fmt: skip
# Lengths of these differ with the width, or from run to run.
DRAWN = re.compile(r"[─━│┃╇┼█▉▊▋▌▍▎▏▁▂▃▄▅▆▇ ]+|.*%[█▉▊▋▌▍▎▏]+|[\d.,]+|µ?m?s\.?|min")
TRAINING = ("framework,gpu,hidden,layers,heads,seq,gbs,mbs,tp,pp,dp,ffn,vocab,status,iter_s,source\n"
            "megatron,h100_sxm,4096,32,32,4096,64,1,2,1,4,14336,32000,ok,3.5,a-recording-of-mine\n")  # fmt: skip


def printed(line: str, width: int, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", str(width))
    out = io.StringIO()
    with contextlib.redirect_stdout(out), pytest.raises(SystemExit) as stop:
        main(line.split())
    assert stop.value.code == 0
    return out.getvalue()


@pytest.mark.parametrize("line", LINES, ids=lambda line: " ".join(line.split()[:2]))
def test_cells_are_whole_or_marked(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "buffers.csv").write_text("id,lower,upper,size\na,0,3,4\nb,0,2,8\nc,2,5,4\n")
    (tmp_path / "training.csv").write_text(TRAINING)
    line = line.format(folder=tmp_path)
    wide = set(printed(line, 400, monkeypatch).split())
    for width in (80, 100):
        text = printed(line, width, monkeypatch)
        assert max(map(len, text.splitlines())) <= width
        # What names columns without room is not in the wide table, where all have.
        said = re.sub(r"no room at \d+ characters:[^\n]*(\n +[^\n]*)?", "", text)
        odd = [word for word in said.split() if word not in wide and not word.endswith("…")]
        assert [word for word in odd if not DRAWN.fullmatch(word)] == []
