"""How fast a disk reads and writes: one bounded file, always removed, past the page cache where possible; and how fast
files on it are that are mapped into memory.
"""

from __future__ import annotations

import mmap
import os
import random
import shutil
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tierwise.core.errors import TierwiseError
from tierwise.measure.limited import forget, run_limited

_MEGA = 2**20
_LONGEST = 4.0  # seconds one pattern may take
_OWN = 48 * _MEGA  # what the process that maps the file holds itself
DEPTHS = (1, 4, 16)


@dataclass(frozen=True)
class Disk:
    """Bytes per second and seconds; ``direct`` when the page cache was bypassed.

    Attributes:
        read, write: sequential, in blocks of 1 MiB.
        random: reading at random places, by block size in bytes.
        latency: seconds of one random 4 KiB read.
        deep: reading blocks of 1 MiB at random places, by how many are asked for at once.
        mapped: a file mapped into memory, larger than what the process may hold where that can be limited, or else
            after its pages were dropped.
        capacity: bytes of the file system.
    """

    read: float
    write: float
    random: dict[int, float]
    latency: float
    capacity: float
    direct: bool
    deep: dict[int, float]
    mapped: float


def measure_disk(folder: Path, size: int) -> Disk:
    """Measure the disk under ``folder`` with a file of ``size`` bytes (less where space is short).

    Raises:
        OSError: nothing can be written there.
    """
    usage = shutil.disk_usage(folder)
    size = max(min(size, usage.free // 4) // _MEGA, 1) * _MEGA
    with _file(folder) as path:
        write, direct = _write(path, size)
        read = _read(path, size, _MEGA, False)
        places = {block: _read(path, size, block, True) for block in (4096, 65536, _MEGA)}
        deep = {depth: _deep(path, size, depth) for depth in DEPTHS}
        mapped = _mapped(path, size)
    return Disk(read, write, places, 4096 / places[4096], float(usage.total), direct, deep, mapped)


def sweeps(path: str, times: int) -> float:
    """Bytes per second of reading one byte of every page of a mapped file, over and over: the best sweep of those after
    the first."""
    best = 0.0
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        for sweep in range(times):
            pace = _touched(mapping)
            best = max(best, pace) if sweep else best
    return best


def _touched(mapping: mmap.mmap) -> float:
    """Bytes per second of reading one byte of every page."""
    start = time.perf_counter()
    for place in range(0, len(mapping), mmap.PAGESIZE):
        mapping[place]
    return len(mapping) / (time.perf_counter() - start)


def _mapped(path: Path, size: int) -> float:
    forget(path)
    try:
        return float(run_limited(__name__, "sweeps", size / 2 + _OWN, path=str(path), times=4))
    except (TierwiseError, RuntimeError):
        return max(_dropped(path) for _ in range(3))


def _dropped(path: Path) -> float:
    """A sweep after the file's pages were dropped."""
    forget(path)
    with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ) as mapping:
        return _touched(mapping)


def _deep(path: Path, size: int, depth: int) -> float:
    """Several readers, each with a share of the blocks."""
    with ThreadPoolExecutor(depth) as pool:
        return sum(pool.map(lambda i: _read(path, size, _MEGA, True, (i, depth)), range(depth)))


@contextmanager
def _file(folder: Path) -> Iterator[Path]:
    handle, name = tempfile.mkstemp(prefix=".tierwise-", suffix=".tmp", dir=folder)
    os.close(handle)
    try:
        yield Path(name)
    finally:
        Path(name).unlink(missing_ok=True)


def _open(path: Path, flags: int) -> tuple[int, bool]:
    """A descriptor that bypasses the page cache where the file system allows it."""
    direct = getattr(os, "O_DIRECT", 0)
    if direct:
        try:
            return os.open(path, flags | direct), True
        except OSError:
            pass
    return os.open(path, flags), False


def _write(path: Path, size: int) -> tuple[float, bool]:
    block = mmap.mmap(-1, _MEGA)  # page-aligned, as direct writes need
    block.write(os.urandom(_MEGA))
    handle, direct = _open(path, os.O_WRONLY | os.O_CREAT)
    try:
        start = time.perf_counter()
        for _ in range(size // _MEGA):
            os.write(handle, block)
        os.fsync(handle)
        return size / (time.perf_counter() - start), direct
    finally:
        os.close(handle)
        block.close()


def _read(path: Path, size: int, block: int, scattered: bool, share: tuple[int, int] = (0, 1)) -> float:
    """Bytes per second of one reader; ``share``: its first block, and how many readers there are."""
    buffer = mmap.mmap(-1, block)
    handle, direct = _open(path, os.O_RDONLY)
    places = [i * block for i in range(size // block)]
    if scattered:
        random.Random(2).shuffle(places)
    places = places[share[0] :: share[1]]
    try:
        if not direct and hasattr(os, "posix_fadvise"):
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        done, start = 0, time.perf_counter()
        for place in places[: 20_000 if scattered else None]:
            os.preadv(handle, [buffer], place)
            done += block
            if time.perf_counter() - start > _LONGEST:
                break
        return done / (time.perf_counter() - start)
    finally:
        os.close(handle)
        buffer.close()
