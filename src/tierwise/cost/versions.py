"""How versions of engines compare."""

from __future__ import annotations


def same_release(a: str, b: str) -> bool:
    """Whether one version is the other, said as exactly or less."""
    x, y = release(a), release(b)
    return x[: len(y)] == y or y[: len(x)] == x


def release(version: str) -> tuple[int, ...]:
    """How versions compare: ``0.24`` before ``0.24.1``; what no number starts comes first, and a
    checkout without tags, which calls itself ``0.1.dev``, last."""
    if version.startswith("0.1.dev"):
        return (10**9,)
    out = []
    for part in version.split("."):
        digits = part[: len(part) - len(part.lstrip("0123456789"))]
        if not digits:
            break
        out.append(int(digits[:18]))
    return tuple(out)
