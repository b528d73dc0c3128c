"""A Python function in a process of its own with limited memory, page cache included: a slow tier to measure on."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError

_ROOT = Path("/sys/fs/cgroup")
# The file that limits a group's memory, by the version of control groups (Documentation/admin-guide of Linux).
_FILES = {1: "memory.limit_in_bytes", 2: "memory.max"}
_CALL = ("import sys, json; sys.path[:0] = json.loads(sys.argv[1]); import importlib; "
         "f = getattr(importlib.import_module(sys.argv[2]), sys.argv[3]); "
         "print(json.dumps(f(**json.loads(sys.argv[4]))))")  # fmt: skip


class NoLimit(TierwiseError):
    """This computer lets nobody limit a process's page cache; the message says what was tried."""


def run_limited(module: str, function: str, limit: float, timeout: float = 600.0, **given: Any) -> Any:
    """What ``module.function(**given)`` returns (as JSON) in a process that holds at most ``limit`` bytes of memory and
    of pages of files together.

    Args:
        timeout: seconds after which the process is ended.

    Raises:
        NoLimit: no limit can be set here.
        RuntimeError: the process died; its last words.
    """
    paths = json.dumps([p for p in sys.path if p])
    command = [sys.executable, "-c", _CALL, paths, module, function, json.dumps(given)]
    with _limiting(limit) as prefix:
        done = subprocess.run([*prefix, *command], capture_output=True, text=True, check=False, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{function} ended with {done.returncode}: {done.stderr.strip()[-300:]}")
    return json.loads(done.stdout.splitlines()[-1])


def forget(path: Path) -> None:
    """Drops a file's pages from the page cache, where the system lets one: pages count against the group that read them
    first."""
    if not hasattr(os, "posix_fadvise"):
        return
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
        os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
    finally:
        os.close(handle)


@contextmanager
def _limiting(limit: float) -> Iterator[Sequence[str]]:
    """What to put before a command so that it runs within the limit; the group is gone afterwards."""
    tried = []
    for version, own in _groups():
        group = own / f"tierwise-{os.getpid()}"
        try:
            group.mkdir()
        except OSError as error:
            tried.append(f"a control group in {own}: {error.strerror}")
            continue
        try:
            try:
                (group / _FILES[version]).write_text(f"{limit:.0f}")
            except OSError as error:
                tried.append(f"{_FILES[version]}: {error.strerror}")
                continue
            # The shell joins the group before it becomes the command.
            yield ["sh", "-c", f'echo $$ > "{group}/cgroup.procs" && exec "$@"', "sh"]
            return
        finally:
            group.rmdir()
    if shutil.which("systemd-run"):
        prefix = ["systemd-run", "--quiet", *([] if os.getuid() == 0 else ["--user"]), "--scope", "-p",
                  f"MemoryMax={limit:.0f}", "-p", "MemorySwapMax=0"]  # fmt: skip
        found = subprocess.run([*prefix, "true"], capture_output=True, text=True, check=False)
        if found.returncode == 0:
            yield prefix
            return
        tried.append(f"systemd-run: {found.stderr.strip().splitlines()[-1] if found.stderr.strip() else 'refused'}")
    raise NoLimit("no limit on the page cache can be set here (" + "; ".join(tried or ["no control groups"]) + ")")


def _groups() -> Iterator[tuple[int, Path]]:
    """(version, folder) of the control groups that this process is in and whose memory can be limited."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            yield 1, _ROOT / "memory" / path.lstrip("/")
        elif not controllers and (_ROOT / path.lstrip("/") / _FILES[2]).exists():
            yield 2, _ROOT / path.lstrip("/")
