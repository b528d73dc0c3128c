"""The terminal we print to."""

from __future__ import annotations

import os
import sys

from rich.console import Console

# Readable when a pipe or a log gives no width.
_WIDTH = 100


class _Output(Console):
    """Of which a reader that goes away (``| head``) is no failure."""

    def on_broken_pipe(self) -> None:
        raise BrokenPipeError


def console() -> Console:
    """A console on standard output; plain and 100 columns wide when that is no terminal."""
    if sys.stdout.isatty() or "COLUMNS" in os.environ:
        return _Output(highlight=False)
    return _Output(highlight=False, width=_WIDTH, no_color=True)
