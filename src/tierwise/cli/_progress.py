"""What is being done, said on standard error while it lasts; answers go to standard output.

A terminal has a line that moves, from the moment a command begins. Elsewhere nothing is said of what ends at once, so
that logs hold answers; of what does not, there is a line within a second, which says what was asked, and one now and
then.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TypeAlias, TypeVar

# What is done, how much of it is, of how much (0: nobody knows), and what else to say.
Tell: TypeAlias = Callable[[str, int, int, str], None]
T = TypeVar("T")
FIRST_S, AGAIN_S = 0.5, 10.0
# Answered at once, from the command's own text.
ASKS_ABOUT_ITSELF = {"-h", "--help", "--version", "--completion"}
# What the log of this command is to say next; nothing where there is no log.
_SAID: ContextVar[list[Callable[[], str]] | None] = ContextVar("said", default=None)


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
    """Which command begins, while what it needs is loaded. On a terminal a line, at once: gone at the end, or when the
    function that comes back is called. Elsewhere the first line of a log."""
    asked = f"tierwise {' '.join(words)}"
    if not words or ASKS_ABOUT_ITSELF.intersection(words) or not asked.isprintable():
        yield lambda: None
    elif sys.stderr.isatty():
        with _line(f"{asked}: loading"[: max(shutil.get_terminal_size().columns - 3, 0)] + " …") as over:
            yield over
    else:
        with _log(lambda: "loading", f"tierwise: {' '.join(words)}"):
            yield lambda: None


@contextmanager
def _line(text: str) -> Iterator[Callable[[], None]]:
    print(text, end="", file=sys.stderr, flush=True)
    shown = [True]

    def over() -> None:
        if shown[0]:
            print(f"\r{' ' * len(text)}\r", end="", file=sys.stderr, flush=True)
        shown[0] = False

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
    began, watched = time.monotonic(), sys.stderr.isatty()
    if watched:
        print(f"tierwise: {what} …", file=sys.stderr, flush=True)
    with _log(lambda: f"{what}, {time.monotonic() - began:.0f} s so far", first=AGAIN_S if watched else None):
        yield


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
    now = [what]

    def tell(what: str, done: int = 0, total: int = 0, said: str = "") -> None:
        now[0] = what + (f" {done:,} of {total:,}" if total else "") + (f": {said}" if said else "")

    with _log(lambda: now[0]):
        yield tell


@contextmanager
def _log(say: Callable[[], str], asked: str = "tierwise", first: float | None = None) -> Iterator[None]:
    """Lines on standard error of what ``say`` says by then, where it changed: the first after ``first`` seconds, by
    usual ``FIRST_S``. Inside another log it is that one that says it, in its own time, and nothing once it is done:
    then the answer comes."""
    log = _SAID.get()
    if log is not None:
        log.append(say)
        try:
            yield
        finally:
            log.remove(say)
            log[0] = lambda: ""
        return
    says, over = [say], threading.Event()

    def watch() -> None:
        last, wait, who = "", FIRST_S if first is None else first, asked
        while not over.wait(wait):
            now = says[-1]()
            if now and now != last:
                print(f"{who}: {now} …", file=sys.stderr, flush=True)
                last, wait, who = now, AGAIN_S, "tierwise"

    watcher, token = threading.Thread(target=watch, daemon=True), _SAID.set(says)
    watcher.start()
    try:
        yield
    finally:
        over.set()
        watcher.join()
        _SAID.reset(token)


def compiling() -> str:
    """A word on the simulator's compilation where its code is not in the cache yet; "" where it is."""
    from pathlib import Path

    from tierwise.serving.jit import folder

    return "" if Path(folder()).exists() else "compiling the simulator, once: about half a minute"
