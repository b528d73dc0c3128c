"""A computer from its parts, as people write it: ``"2xrtx3090 + epyc-9355 12x ddr5-5600 + nvme-gen4"``.

Parts are cards, a processor, memory and disks, in any order. Memory is ``[64GB] [Nx] ddr5[-5600]`` or ``64GB ddr5-5600
2ch``, alone or behind the processor whose memory it is. ``parts/*.yaml`` hold what kinds of memory there are; what
nobody says (rate, channels, the processor) is the usual of its kind, and the machine's source says so.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

from tierwise.core.errors import BadField, TierwiseError, UnknownName
from tierwise.core.units import parse
from tierwise.machines.types import Device, Host, System

PARTS = Path(__file__).parent / "parts"
_MEMORY = re.compile(
    r"(?:(?P<size>\d+(?:\.\d+)?\s*[gt]i?b)\s+)?(?:(?P<times>\d+)\s*[x×]\s*)?(?<![a-wyz-])(?P<kind>lp?ddr\w*|ddr\d\w*)"
    r"(?:[- ]?(?P<rate>\d{3,5})(?:\s*mt/s)?)?(?:\s*[x×,(]?\s*(?P<channels>\d+)[- ]?\s*(?:ch\b|channels?\b)\)?)?",
    re.IGNORECASE,
)
# Between parts; a plus sign inside a name has no space before it (Ryzen AI Max+ 395).
_APART = re.compile(r"\s\+(?:\s|$)")
# Numbers of channels that processors are built with.
CHANNELS = (1, 2, 3, 4, 6, 8, 12, 16)
_SIZE = re.compile(r"^(\d+(?:\.\d+)?\s*[gt]i?b)\s+(?:of\s+)?(\S.*)$", re.IGNORECASE)
_COUNT = re.compile(r"^(\d{1,4})\s*[x×*]\s*(\S.*)$", re.IGNORECASE)


# Kinds of memory stand by themselves: gddr6-aim and dram-ddr4-3200-8ch are names of the catalog.


@dataclass(frozen=True)
class _Memory:
    """What one part says of memory; None where it says nothing."""

    kind: str
    size: float | None
    rate: int | None
    channels: int | None


def is_list(text: str) -> bool:
    """Whether a machine is spelled as a list of parts."""
    if not isinstance(text, str) or "/" in text:
        return False
    return _APART.search(text) is not None or _MEMORY.search(text) is not None


def computer(text: str, system: Callable[[str], System]) -> System:
    """The machine of a list of parts.

    Args:
        system: gives a machine by its name in the catalog.

    Raises:
        BadField, UnknownName: names the part that was not understood.
    """
    cards: list[tuple[int, System]] = []
    processors: list[tuple[int, Device]] = []
    disks: list[Device] = []
    memory: _Memory | None = None
    apart = _APART if _APART.search(text) else re.compile(r"\+")
    for part in (p.strip() for p in apart.split(text)):
        if not part:
            raise BadField("machine", "part", text, "parts between plus signs, as in rtx4090 + 64GB ddr5 + nvme-gen4")
        found, rest = _memory(part)
        if found is not None:
            if memory is not None:
                raise BadField("machine", "memory", part, "the memory of one computer, said once")
            memory = found
        if not rest:
            continue
        count, size, one = _device(part, rest, system)
        device = one.device
        # A drive may compute what lies on it.
        if any(t.kind == "storage" for t in device.tiers) and (device.kind == "storage" or not device.engines):
            disks += [_sized(device, size)] * count
        elif device.kind == "cpu" and not size:
            processors.append((count, device))
        elif device.engines and not size:
            cards.append((count, one))
        else:
            raise BadField("machine", "part", part, "a card, a processor, memory such as 64GB ddr5, or a disk")
    return _composed(text, cards, processors, memory, tuple(disks), system)


def _memory(part: str) -> tuple[_Memory | None, str]:
    """(what a part says of memory, what else it says)."""
    match = _MEMORY.search(part)
    if match is None:
        return None, part
    kind = match["kind"].lower()
    known = sorted(p.stem for p in PARTS.glob("*.yaml"))
    if kind not in known:
        raise UnknownName("kind of memory", kind, known, f"Allowed: {', '.join(known)}.")
    rates = _kind(kind)["rates"]["values"]
    rate = int(match["rate"]) if match["rate"] else None
    if rate is not None and not min(rates) <= rate <= max(rates):
        raise BadField("machine", f"rate of {kind}", rate, f"MT/s that it is sold with: {min(rates)} to {max(rates)}")
    given = match["channels"] or match["times"]
    if match["channels"] and match["times"] and match["channels"] != match["times"]:
        raise BadField("machine", "channels", part, "their number, once")
    channels = int(given) if given else None
    if channels is not None and not 1 <= channels <= 64:
        raise BadField("machine", "channels", channels, "from 1 to 64")
    size = parse(re.sub(r"\s", "", match["size"]), "bytes", "machine") if match["size"] else None
    rest = f"{part[: match.start()]} {part[match.end() :]}".strip(" ,()")
    return _Memory(kind, size, rate, channels), rest


def _device(part: str, rest: str, system: Callable[[str], System]) -> tuple[int, float | None, System]:
    """(how many, bytes said in front, the machine of a name)."""
    count, size = 1, None
    if (counted := _COUNT.match(rest)) is not None:
        count, rest = int(counted[1]), counted[2]
        if count < 1:
            raise BadField("machine", "count", part, "at least 1")
    elif (sized := _SIZE.match(rest)) is not None:
        size, rest = parse(re.sub(r"\s", "", sized[1]), "bytes", "machine"), sized[2]
    try:
        return count, size, system(rest)
    except UnknownName as error:
        hint = f"; did you mean {', '.join(error.nearest)}?" if error.nearest else ""
        raise TierwiseError(
            f"machine: part {part!r} was not understood; allowed: a card or processor of the catalog, memory (64GB "
            f"ddr5, 12x ddr5-5600), a disk (nvme-gen3, nvme-gen4, nvme-gen5, sata-ssd){hint}"
        ) from None


def _sized(disk: Device, size: float | None) -> Device:
    if size is None:
        return disk
    return replace(disk, tiers=tuple(replace(t, capacity=size) if t.kind == "storage" else t for t in disk.tiers))


@cache
def _kind(name: str) -> dict[str, Any]:
    from tierwise.machines.read import read_mapping

    return read_mapping(PARTS / f"{name}.yaml", trusted=True)


def _composed(
    text: str, cards: list[tuple[int, System]], processors: list[tuple[int, Device]], memory: _Memory | None,
    disks: tuple[Device, ...], system: Callable[[str], System],
) -> System:  # fmt: skip
    if len(cards) > 1 and len({c.device.name for _, c in cards}) > 1:
        names = ", ".join(c.name for _, c in cards)
        other = 'plan train --on "A + B", or plan serve --on A --on B --mode mixed'
        allowed = f"cards of one kind, for equal parts of a model are dealt to them; different ones: {other}"
        raise BadField("machine", "cards", names, allowed)
    if len(processors) > 1:
        raise BadField("machine", "processors", ", ".join(d.name for _, d in processors), "one kind of processor")
    if not cards and not processors and memory is None:
        raise BadField("machine", "parts", text, "a card or a processor among them")
    said = [f"as written: {text}"]
    usual: dict[str, Any] = {} if memory is None else _kind(memory.kind)
    if processors:
        sockets, cpu = processors[0]
    elif memory is not None:
        sockets, cpu = 1, system(str(usual["usual"]["cpu"])).device
        said.append(f"processor not said, taken as {cpu.title} ({usual['usual']['source']})")
    elif cards and cards[0][1].device.kind in ("soc", "cpu", "mcu"):
        sockets, cpu = 0, None
    else:
        return _with_disks(text, cards, disks, said)
    if cpu is not None:
        cpu = _with_memory(cpu, sockets, memory, bool(processors), usual, said)
    if not cards:
        assert cpu is not None
        # The processor is the machine; its disks hang on its memory.
        host = Host(cpu.memory.capacity * sockets, cpu.memory.bandwidth * sockets, None, sockets, disks, said[0])
        base = system(cpu.name) if sockets == 1 else system(f"{sockets}x{cpu.name}")
        return replace(base, name=text, device=cpu, host=host, source="; ".join(said))
    one = cards[0][1]
    total = sum(n for n, _ in cards)
    base = one if total == 1 else system(f"{total}x{one.name}")
    if cpu is None:
        return _with_disks(text, cards, disks, said)
    host = Host(cpu.memory.capacity * sockets, cpu.memory.bandwidth * sockets, cpu, sockets, disks, "; ".join(said))
    return replace(base, name=text, host=host, source="; ".join(said))


def _with_disks(text: str, cards: list[tuple[int, System]], disks: tuple[Device, ...], said: list[str]) -> System:
    """Cards whose computer nobody describes, or that are their own computer."""
    one = cards[0][1]
    own = one.device.kind in ("soc", "cpu", "mcu")
    if disks and not own:
        raise BadField("machine", "parts", text, f"with disks also the memory beside the cards: {text} + 64GB ddr5")
    host = Host(one.device.memory.capacity, one.device.memory.bandwidth, None, 1, disks, said[0]) if disks else one.host
    return replace(one, name=text, host=host, source="; ".join([one.source, *said]))


def _with_memory(
    cpu: Device, sockets: int, memory: _Memory | None, named: bool, usual: dict[str, Any], said: list[str]
) -> Device:  # fmt: skip
    """A processor with the memory that a part describes; of a named one what nobody says is as its file has it."""
    if memory is None:
        said.append(f"memory not said, taken as {cpu.memory.capacity / 1e9:g} GB a socket, as {cpu.name} is described")
        return cpu
    own = cpu.memory
    bandwidth = own.bandwidth
    if memory.rate is not None or memory.channels is not None or not named:
        width, typical = float(usual["channel"]["bytes"]), usual["usual"]
        rate = float(memory.rate or typical["rate"])
        channels = memory.channels or (_channels(own.bandwidth, usual) if named else int(typical["channels"]))
        bandwidth = width * rate * 1e6 * channels
        if memory.rate is None or memory.channels is None:
            said.append(f"memory taken as {channels} channels of {memory.kind.upper()}-{rate:g} a socket")
    size = own.capacity if memory.size is None else memory.size / sockets
    if memory.size is None:
        said.append(f"size of the memory not said, taken as {own.capacity / 1e9:g} GB a socket")
    made = replace(own, capacity=size, bandwidth=bandwidth, write_bandwidth=bandwidth,
                   source=f"{own.source} + {usual['channel']['source']}")  # fmt: skip
    return replace(cpu, tiers=tuple(made if t is own else t for t in cpu.tiers))


def _channels(bandwidth: float, kind: dict[str, Any]) -> int:
    """Channels that a processor of the catalog has: those whose product with a rate that is sold is its bandwidth, at
    the rate nearest to the usual one; the most of them where two are as near."""
    width, usual = float(kind["channel"]["bytes"]), float(kind["usual"]["rate"])
    found = [(abs(rate - usual), -n) for rate in kind["rates"]["values"] for n in CHANNELS
             if abs(width * rate * 1e6 * n / bandwidth - 1.0) < 0.01]  # fmt: skip
    return -min(found)[1] if found else max(round(bandwidth / (width * usual * 1e6)), 1)
