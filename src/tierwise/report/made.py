"""What an answer came from: the version of the code, and hashes of the code and of its tables."""

from __future__ import annotations

from collections.abc import Mapping

from tierwise.scenario.hash import versions


def made_by() -> dict[str, str]:
    """``version`` of the package, and ``code`` and ``tables`` (calibrations, engines) as SHA-256: two answers of equal
    scenarios that differ here may differ; two that do not are equal."""
    return versions()


def text(made: Mapping[str, str]) -> str:
    """In a line: ``Tierwise 0.1.0 (code 388f8134, tables 2c4b3485)``."""
    return f"Tierwise {made['version']} (code {made['code'][:8]}, tables {made['tables'][:8]})"
