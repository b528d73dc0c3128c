"""Compilation: machine code is kept in the user's cache, under a hash of the sources it was made from."""

from __future__ import annotations

import hashlib
import sys
import tempfile
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
    # reordered.py has the places of numbers in its tables, which are constants of compiled code.
    compiled_here = (Path(__file__), here / "reordered.py", *(here / "loop").glob("*.py"), *policies.glob("*.py"))
    for path in sorted([*compiled_here, *policies.glob("*/__init__.py")]):
        digest.update(path.read_bytes())
    digest.update(f"{numba.__version__} {sys.version}".encode())
    return str(cache_folder("numba") / digest.hexdigest()[:16])


class Locator:
    """Where Numba keeps a function of this package: by what its file says, not by where the file is or when it was
    written, so that what is installed again or elsewhere is not compiled again. Numba's own locators look at both; they
    keep the functions of users' files."""

    def __init__(self, function: Any, file: Path) -> None:
        self._line = function.__code__.co_firstlineno
        self._path = Path(folder(), hashlib.sha256(file.read_bytes()).hexdigest()[:16])

    @classmethod
    def from_function(cls, function: Any, file: str) -> Locator | None:
        """A locator, None for a function of another file."""
        return cls(function, Path(file)) if Path(file).is_relative_to(Path(__file__).parent) else None

    def ensure_cache_path(self) -> None:
        """Raises OSError where nothing can be written."""
        self._path.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=self._path).close()

    def get_cache_path(self) -> str:
        """The folder of the file's functions."""
        return str(self._path)

    def get_source_stamp(self) -> str:
        """The folder's name says it."""
        return self._path.name

    def get_disambiguator(self) -> str:
        """Of functions of one name."""
        return str(self._line)


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
    before = config.CACHE_DIR, getattr(config, "CACHE_LOCATOR_CLASSES", "")
    config.CACHE_DIR = folder()
    config.CACHE_LOCATOR_CLASSES = f"{__name__}.{Locator.__name__},UserProvidedCacheLocator"
    try:
        with quiet():
            wrap = numba.njit(cache=True) if signature is None else numba.njit(signature, cache=True)
            return wrap(function)
    finally:
        config.CACHE_DIR, config.CACHE_LOCATOR_CLASSES = before
