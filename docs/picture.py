"""Take the pictures of the documentation again, from pages that the commands write today (``make pictures``).

Needs Chromium or Chrome: it draws the pages.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
IMAGES = ROOT / "docs" / "images"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome")


@dataclass(frozen=True)
class Picture:
    """A page from its top.

    Attributes:
        command: of ``tierwise``, which writes a page with ``--html``. ``height``: pixels of it, of 1,280 across.
    """

    command: str
    height: int


PICTURES = {
    "report.png": Picture("explain llama-3.1-8b --on h100-sxm --batch 32 --prompt 2048 --output 256", 1560),
    "plan.png": Picture("plan serve qwen3-32b-fp8 --on 32xh200-sxm --prompt 4000 --output 500 --ttft 600ms "
                        "--tpot 25ms", 1290),
    "training.png": Picture("explain gpt3-175b --on 1024xa100-80gb --train --seq 2048 --tp 8 --pp 16 --micro-batch 1 "
                            "--schedule 1f1b-interleaved:6 --recompute selective", 1210),
}  # fmt: skip


def browser() -> str:
    """The first browser on the path.

    Raises:
        SystemExit: there is none.
    """
    found = next(filter(None, map(shutil.which, BROWSERS)), None)
    if found is None:
        sys.exit(f"no browser to draw the pages with: install one of {', '.join(BROWSERS)}")
    return found


def take(picture: Picture, to: Path, drawn_by: str) -> None:
    """Write the page, and what a browser shows of it."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        words = [sys.executable, "-m", "tierwise", *shlex.split(picture.command), "--html", str(page)]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL, env=os.environ)
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
                 "--disable-background-networking", "--disable-component-update", "--disable-sync"]  # fmt: skip
        subprocess.run(
            [drawn_by, *flags, f"--user-data-dir={folder}/user", f"--window-size=1280,{picture.height}",
             f"--screenshot={to}", page.as_uri()],
            check=True, stderr=subprocess.DEVNULL,
        )  # fmt: skip


if __name__ == "__main__":
    drawn_by = browser()
    for name in sys.argv[1:] or PICTURES:
        take(PICTURES[name], IMAGES / name, drawn_by)
        print(IMAGES.relative_to(ROOT) / name)
