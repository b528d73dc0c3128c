"""Compilation: machine code is kept in the user's cache, under a hash of the sources it was made from."""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.errors import TierwiseError
from tierwise.core.files import cache_folder

try:
    import numba
    from numba.core.errors import NumbaExperimentalFeatureWarning
except ImportError as error:  # pragma: no cover
    raise TierwiseError("simulating needs numba: pip install 'tierwise[serve]'") from error


@cache
def folder() -> str:
    """Where compiled code lives: per user, per source. A changed file of the loop never meets code of the old one
    (Numba itself looks only at the file that holds a function, not at those it calls)."""
    digest = hashlib.sha256()
    here = Path(__file__).parent
    policies = here / "policies"
    compiled_here = (Path(__file__), *(here / "loop").glob("*.py"), *policies.glob("*.py"))
    for path in sorted([*compiled_here, *policies.glob("*/__init__.py")]):
        digest.update(path.read_bytes())
    digest.update(f"{numba.__version__} {sys.version}".encode())
    return str(cache_folder("numba") / digest.hexdigest()[:16])


@contextmanager
def quiet() -> Iterator[None]:
    """Without Numba's notice that functions as values are experimental."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NumbaExperimentalFeatureWarning)
        yield


def jit(function: Callable[..., Any]) -> Any:
    """``function`` compiled on first use for the types it meets."""
    return compiled(function, None)


def compiled(function: Callable[..., Any], signature: Any) -> Any:
    """``function`` compiled now for ``signature``, from the cache where it holds it."""
    config: Any = numba.config
    before, config.CACHE_DIR = config.CACHE_DIR, folder()
    try:
        with quiet():
            wrap = numba.njit(cache=True) if signature is None else numba.njit(signature, cache=True)
            return wrap(function)
    finally:
        config.CACHE_DIR = before
