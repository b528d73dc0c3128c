"""What is being done, said on standard error while it lasts: a line that moves on a terminal, else a line now and then.

Nothing is printed for what ends within two seconds where nobody watches a terminal, so that logs hold answers.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeAlias, TypeVar

# What is done, how much of it is, of how much (0: nobody knows), and what else to say.
Tell: TypeAlias = Callable[[str, int, int, str], None]
T = TypeVar("T")
FIRST_S, AGAIN_S = 2.0, 10.0
# Answered at once, from the command's own text.
ASKS_ABOUT_ITSELF = {"-h", "--help", "--version", "--completion"}


@contextmanager
def progress(what: str) -> Iterator[Tell]:
    """A function that says what is being done; gone when the work is.

    Args:
        what: to say until it is called first.
    """
    with _moving(what) if sys.stderr.isatty() else _lines(what) as tell:
        yield tell


@contextmanager
def beginning(words: Sequence[str]) -> Iterator[Callable[[], None]]:
    """A line on a terminal, while what a command needs is loaded: which command begins. Gone at the end, or once the
    function that comes back is called."""
    line = f"tierwise {' '.join(words)}: loading"[: max(shutil.get_terminal_size().columns - 3, 0)] + " …"
    shown = [sys.stderr.isatty() and bool(words) and not ASKS_ABOUT_ITSELF.intersection(words) and line.isprintable()]

    def over() -> None:
        if shown[0]:
            print(f"\r{' ' * len(line)}\r", end="", file=sys.stderr, flush=True)
        shown[0] = False

    if shown[0]:
        print(line, end="", file=sys.stderr, flush=True)
    try:
        yield over
    finally:
        over()


def each(things: Iterable[T], what: str, whole: int, name: Callable[[T], str]) -> tuple[list[T], bool]:
    """All that comes, with progress, and whether the user stopped it by then; what came before that is kept.

    Raises:
        KeyboardInterrupt: it was stopped before anything came.
    """
    found: list[T] = []
    try:
        with progress(what) as tell:
            for one in things:
                found.append(one)
                tell(what, len(found), whole, name(one))
    except KeyboardInterrupt:
        if not found:
            raise
        print(f"tierwise: stopped by the user after {len(found)} of {whole}", file=sys.stderr)
    return found, len(found) < whole


@contextmanager
def lines(what: str) -> Iterator[None]:
    """Whole lines about what prints its own output as it goes: one at once where somebody watches a terminal, and one
    now and then with the seconds so far."""
    over, began = threading.Event(), time.monotonic()
    watched = sys.stderr.isatty()
    if watched:
        print(f"tierwise: {what} …", file=sys.stderr, flush=True)

    def watch() -> None:
        wait = AGAIN_S if watched else FIRST_S
        while not over.wait(wait):
            print(f"tierwise: {what}, {time.monotonic() - began:.0f} s so far …", file=sys.stderr, flush=True)
            wait = AGAIN_S

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()


@contextmanager
def _moving(what: str) -> Iterator[Tell]:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[said]}"),
               TimeElapsedColumn())  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(what, total=None, said="")

        def tell(what: str, done: int = 0, total: int = 0, said: str = "") -> None:
            bar.update(task, description=what, completed=done, total=total or None, said=said)

        yield tell


@contextmanager
def _lines(what: str) -> Iterator[Tell]:
    now, over = [what], threading.Event()

    def tell(what: str, done: int = 0, total: int = 0, said: str = "") -> None:
        now[0] = what + (f" {done:,} of {total:,}" if total else "") + (f": {said}" if said else "")

    def watch() -> None:
        last, wait = "", FIRST_S
        while not over.wait(wait):
            if now[0] != last:
                print(f"tierwise: {now[0]} …", file=sys.stderr, flush=True)
            last, wait = now[0], AGAIN_S

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    try:
        yield tell
    finally:
        over.set()
        watcher.join()


def compiling() -> str:
    """A word on the simulator's compilation where its code is not in the cache yet; "" where it is."""
    from pathlib import Path

    from tierwise.serving.jit import folder

    return "" if Path(folder()).exists() else "compiling the simulator, once: about half a minute"
