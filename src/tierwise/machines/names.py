"""Which file a name means: the file's own name, an alias in one, or what drivers and recordings call the same thing.

Recordings write ``h100_sxm`` and ``gb200_sxm``, CUDA prints ``NVIDIA H100 80GB HBM3``, people write ``GeForce RTX
4090``. A name that no file has is tried again without the words that do not tell devices apart: the vendor, the kind
of memory, the form. A capacity is such a word only where the device found has that capacity.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path

# Words that name a maker or a line of products: dropped in front.
_BRANDS = {"nvidia", "amd", "intel", "data", "center", "google", "aws", "geforce", "tesla", "quadro", "instinct",
           "radeon", "arc", "pro", "apple"}  # fmt: skip
# Words about memory, cooling and packaging: dropped wherever they stand.
_TRIMMINGS = re.compile(r"hbm\d?e?|gddr\d?x?|ac|lc|accelerator|graphics|gpu|generation|edition")
# The form a device comes in: dropped last, when no file tells the forms apart.
_FORMS = {"sxm", "oam", "server", "workstation"}
_CAPACITY = re.compile(r"(\d+)(gb|gib|g)")


def find(name: str, folder: Path, held: Callable[[str], Iterable[float]] = lambda stem: ()) -> str | None:
    """The stem of the file of ``folder`` that a name or alias belongs to, or None.

    Args:
        held: bytes of each memory of a file's device, for names that speak of one.
    """
    plain = plain_name(name)
    if re.fullmatch(r"[a-z0-9][a-z0-9.+-]{0,60}", plain) and (folder / f"{plain}.yaml").is_file():
        return plain
    bare = bare_name(name)
    if not bare or len(name) > 100:
        return None
    known = aliases(folder)
    if bare in known:
        return known[bare]
    # Vulkan adds the driver's name: "AMD Radeon RX 7900 XTX (RADV NAVI31)".
    driver = re.fullmatch(r"(.+?)-?\((?:radv|amdvlk|dg\d|bmg|mesa)[^)]*\)", plain)
    if driver:
        return find(driver[1], folder)
    for words, dropped in _shorter(re.sub(r"\((r|tm|c)\)", "", plain)):
        found = known.get(bare_name("-".join(words))) or _by_words(folder).get(frozenset(words))
        if found is not None and all(_holds(held(found), c) for c in dropped):
            return found
    return None


def plain_name(name: str) -> str:
    """How names are compared: ``"H100_SXM"`` and ``"h100 sxm"`` are ``"h100-sxm"``."""
    return re.sub(r"[\s_:]+", "-", name.strip().lower())


def bare_name(name: str) -> str:
    """Names that differ only in punctuation are one name: ``rtx4090`` is ``rtx-4090``."""
    return re.sub(r"[\s_.:-]+", "", name.lower())


@cache
def aliases(folder: Path) -> dict[str, str]:
    """Every alias of a folder and the file it is in, file names included."""
    from tierwise.machines.read import read_mapping

    files = sorted(folder.glob("*.yaml"))
    named = [p for p in files if b"aliases" in p.read_bytes()]  # few have any
    given = {bare_name(a): p.stem for p in named for a in read_mapping(p, trusted=True).get("aliases") or ()}
    return given | {bare_name(p.stem): p.stem for p in files}


@cache
def _by_words(folder: Path) -> dict[frozenset[str], str]:
    """Files by the words of their names: ``a100-80gb-pcie`` is ``a100-pcie-80gb``."""
    return {frozenset(p.stem.split("-")): p.stem for p in sorted(folder.glob("*.yaml"))}


def _shorter(plain: str) -> Iterator[tuple[list[str], list[float]]]:
    """A name as it is, then with ever fewer words, and the capacities (bytes) that were dropped with them."""
    yield plain.split("-"), []
    words = [re.sub(r"^(sxm|oam)\d$", r"\1", w) for w in plain.split("-") if w]
    while len(words) > 1 and words[0] in _BRANDS:
        words = words[1:]
        yield words, []
        yield [w for w in words if not _TRIMMINGS.fullmatch(w)] or words, []
    words = [w for w in words if not _TRIMMINGS.fullmatch(w)] or words
    yield words, []
    sized = [float(m[1]) * 1e9 for w in words if (m := _CAPACITY.fullmatch(w))]
    unsized = [w for w in words if not _CAPACITY.fullmatch(w)]
    yield [w for w in words if w not in _FORMS], []
    yield unsized, sized
    yield [w for w in unsized if w not in _FORMS], sized


def _holds(held: Iterable[float], capacity: float) -> bool:
    """Whether one of the memories is what a name speaks of, within what makers count differently."""
    return any(abs(c - capacity) < 0.15 * capacity for c in held)
