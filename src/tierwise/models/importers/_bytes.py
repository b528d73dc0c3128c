"""Bounded reading of untrusted files: a length is checked against the file before anything is allocated."""

from __future__ import annotations

import os
from typing import BinaryIO

from tierwise.core.errors import BadField, Truncated


class Reader:
    """A file read forwards, never past its end and never more than ``most`` bytes at once.

    Args:
        file: open for reading, at its start.
        where: its name, for messages.
        most: the largest single piece handed out, bytes; more is refused as absurd.
    """

    def __init__(self, file: BinaryIO, where: str, most: int = 1 << 26) -> None:
        self.file, self.where, self.most = file, where, most
        self.size = os.fstat(file.fileno()).st_size
        self.at = 0

    @property
    def left(self) -> int:
        """Bytes not read yet."""
        return self.size - self.at

    def take(self, n: int, what: str) -> bytes:
        """The next ``n`` bytes."""
        if n > self.most:
            raise BadField(self.where, f"length of {what} at byte {self.at}", n, f"at most {self.most} bytes")
        self._need(n, what)
        data = self.file.read(n)
        if len(data) < n:
            raise Truncated(self.where, self.at + len(data), f"{what}, {n} bytes from byte {self.at}")
        self.at += n
        return data

    def skip(self, n: int, what: str) -> None:
        """Pass over ``n`` bytes, which must be there."""
        self._need(n, what)
        self.at += n
        self.file.seek(self.at)

    def _need(self, n: int, what: str) -> None:
        if n > self.left:
            raise Truncated(self.where, self.size, f"{what}, {n} bytes from byte {self.at}")
