"""Run every console block of :data:`FILES` again and put the real output in place.

A line ``$ command`` in a ```console block is run in a shell at the repository's root, with this Python's
``tierwise`` first on the path; what follows it, up to the next ``$`` or the end of the block, becomes what it
printed. With ``--check`` nothing is written: what is shown may be older than what is printed today as long as the
words are mostly the same and no number is further off than :data:`TOLERANCE`.
"""

from __future__ import annotations

import difflib
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FILES = (ROOT / "README.md", *(ROOT / "docs" / f"{name}.md" for name in ("concepts", "serving", "comparing")))
BLOCK = re.compile(r"(?<=^```console\n)(.*?)(?=^```$)", re.S | re.M)
# Setting up, or slow, or not about output: shown, not run again.
SKIP = ("make ", "git ", "pip ", "python benchmarks/")
# They count and list what is in the catalogs, to which anyone may add: run, but their numbers are not compared.
LISTS = ("tierwise models", "tierwise machines", "tierwise papers")
TOLERANCE = 0.05
"""Relative: a number of the README may be off by so much before it has to be printed anew."""
ALIKE = 0.75
"""Share of the shown words that must still be printed, in this order."""


def run(command: str, env: dict[str, str] | None = None) -> str:
    """What a command prints, standard error included; without the words of progress, which a slow computer adds."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    env = {**os.environ, "PATH": path, "COLUMNS": "100", "NO_COLOR": "1", **(env or {})}
    done = subprocess.run(
        command, shell=True, cwd=ROOT, env=env, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    progress = re.compile(r"^tierwise: .* …$")
    return "".join(line.rstrip() + "\n" for line in done.stdout.splitlines() if not progress.match(line))


def refreshed(text: str) -> str:
    """The text with every console block's output replaced by the real one."""

    def block(match: re.Match[str]) -> str:
        out = []
        for part in re.split(r"^(?=\$ )", match[1], flags=re.M):
            command = part.partition("\n")[0].removeprefix("$ ")
            keep = not part.startswith("$ ") or command.startswith(SKIP)
            out.append(part if keep else f"$ {command}\n{run(command)}")
        return "".join(out)

    return BLOCK.sub(block, text)


def commands(text: str) -> Iterator[tuple[str, str]]:
    """(command, output shown) of every command that is run again."""
    for block in BLOCK.finditer(text):
        for part in re.split(r"^(?=\$ )", block[1], flags=re.M):
            first, _, shown = part.partition("\n")
            command = first.removeprefix("$ ")
            if part.startswith("$ ") and not command.startswith(SKIP):
                yield command, shown


def differences(command: str, shown: str, printed: str) -> list[str]:
    """What of a shown output is no longer so: numbers that moved, or words of which too few are left."""
    old, new = tokens(shown), tokens(printed)
    match = difflib.SequenceMatcher(None, [w for w, _ in old], [w for w, _ in new], autojunk=False)
    same = [(old[a + i], new[b + i]) for a, b, n in match.get_matching_blocks() for i in range(n)]
    out = []
    if old and len(same) < ALIKE * len(old):
        out.append(f"$ {command}: {len(same) / len(old):.0%} of its words are still printed")
    if is_list(command):
        return out
    for (word, was), (_, now) in same:
        if was is not None and now is not None and abs(was - now) > TOLERANCE * max(abs(was), abs(now)) + 1e-12:
            out.append(f"$ {command}: {was:g} is now {now:g} ({word.removeprefix('#') or 'a number'})")
    return out


def is_list(command: str) -> bool:
    """Whether a command lists a catalog; one that names a part of it does not."""
    return command.split(" | ", maxsplit=1)[0] in LISTS


_NUMBER = re.compile(r"[-+−~$]*(\d[\d,]*\.?\d*(?:e[-+]?\d+)?)(.*)")
_UNITS = {
    **{p + "s": (10.0**e, "s") for p, e in (("", 0), ("m", -3), ("µ", -6), ("n", -9))}, "min": (60.0, "s"),
    **{p + u: (10.0**e, u) for u in ("B", "FLOP", "J", "W", "B/s", "FLOP/s", "OP/s")
       for p, e in (("", 0), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15))},
}  # fmt: skip


def tokens(text: str) -> list[tuple[str, float | None]]:
    """Words in order, numbers as ``#`` and their unit with the value in its base; rules and bars are left out."""
    out: list[tuple[str, float | None]] = []
    words = re.findall(r"[^\s()|]+", text)
    for i, word in enumerate(words):
        if not any(c.isalnum() for c in word):
            continue
        found = _NUMBER.fullmatch(word.rstrip(".,;:"))
        if found is None:
            if not (word.rstrip(".,;:") in _UNITS and i and _NUMBER.fullmatch(words[i - 1])):
                out.append((word, None))
            continue
        ending = found[2] or (words[i + 1].rstrip(".,;:") if i + 1 < len(words) else "")
        scale, unit = _UNITS.get(ending, (1.0, found[2]))
        out.append(("#" + unit, float(found[1].replace(",", "")) * scale))
    return out


def main() -> int:
    wrong: list[str] = []
    for path in FILES:
        old = path.read_text(encoding="utf-8")
        if "--check" in sys.argv:
            for command, shown in commands(old):
                wrong += [f"{path.name}: {line}" for line in differences(command, shown, run(command))]
        elif (new := refreshed(old)) != old:
            path.write_text(new, encoding="utf-8")
    if wrong:
        print("\n".join(wrong), "run python docs/refresh.py", sep="\n")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
