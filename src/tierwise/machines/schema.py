"""The shape of a machine file: which fields, which units, and what is said when one is wrong.

Pydantic checks what comes from outside; nothing past :mod:`tierwise.machines.build` sees it.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from pydantic_core import PydanticCustomError

from tierwise.core.errors import BadField, BadFields, nearest
from tierwise.core.units import parse

Model = TypeVar("Model", bound=BaseModel)


Problem = tuple[str, object, str]
"""(field, found, allowed)."""


def check(model: type[Model], data: Mapping[str, Any], where: str, more: Sequence[Problem] = ()) -> Model:
    """Validate a mapping. All that is wrong with it becomes one :class:`BadFields`, ``more`` problems included."""
    try:
        found = model.model_validate(data)
    except ValidationError as error:
        raise BadFields(where, [*_explain(model, error), *more]) from None
    if more:
        raise BadFields(where, more)
    return found


# ---------------------------------------------------------------- quantities


def _quantity(kind: str, zero: bool = False) -> BeforeValidator:
    """A parser for one kind of quantity."""

    def read(value: Any) -> float:
        try:
            number = parse(value, kind)
        except BadField as error:
            raise PydanticCustomError("quantity", "{allowed}", {"allowed": _allowed(error)}) from None
        if number == 0 and not zero:
            raise PydanticCustomError("quantity", "{allowed}", {"allowed": f"a {kind} above zero"})
        return number

    return BeforeValidator(read)


def _allowed(error: BadField) -> str:
    return str(error).split("allowed: ", 1)[1]


def _rent(value: Any) -> float:
    """Dollars an hour, in dollars a second; the hour must be written, since a bare 2.99 could be either."""
    hourly = re.fullmatch(r"\s*(.*?)\s*/\s*h\s*", value) if isinstance(value, str) else None
    try:
        return parse(hourly[1] if hourly else "", "money") / 3600
    except BadField:
        hint = {"allowed": "dollars an hour such as $2.99/h"}
        raise PydanticCustomError("quantity", "{allowed}", hint) from None


def _date(value: Any) -> str:
    text = value.isoformat() if isinstance(value, datetime.date) else str(value)
    if not re.fullmatch(r"(19|20)\d\d(-(0[1-9]|1[0-2])(-[0-3]\d)?)?", text):
        raise PydanticCustomError("date", "{allowed}", {"allowed": "a date such as 2024-03"})
    return text


Bytes = Annotated[float, _quantity("bytes")]
Bandwidth = Annotated[float, _quantity("bandwidth")]
Frequency = Annotated[float, _quantity("frequency")]
Flops = Annotated[float, _quantity("flops")]
Time = Annotated[float, _quantity("time", zero=True), Field(le=1e6)]
Watts = Annotated[float, _quantity("power", zero=True)]
Energy = Annotated[float, _quantity("energy")]
Dollars = Annotated[float, _quantity("money")]
Rent = Annotated[float, BeforeValidator(_rent)]
Date = Annotated[str, BeforeValidator(_date)]
Count = Annotated[int, Field(ge=1, le=10_000_000)]
Name = Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.+-]*$", max_length=60)]
Words = Annotated[str, Field(min_length=1, max_length=2000)]
Dtype = Literal[
    "fp64", "fp32", "tf32", "fp16", "bf16", "fp8", "fp6", "fp4",
    "int32", "int16", "int8", "int4", "int2", "int1",
]  # fmt: skip
Rates = Annotated[dict[Dtype, Flops], Field(min_length=1)]
Kind = Literal[
    "gpu", "cpu", "npu", "tpu", "fpga", "pim", "mcu", "soc", "wafer", "storage", "memory", "nic"
]  # fmt: skip
Topology = Literal["switch", "ring", "mesh", "torus", "fat-tree", "rail"]
PASSIVE = ("storage", "memory", "nic")
"""Kinds of device that hold or carry bytes and run no kernels."""


# ---------------------------------------------------------------- what a file may say


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class TierFile(_Strict):
    name: Name
    kind: Literal["scratchpad", "cache", "memory", "storage"]
    capacity: Bytes
    bandwidth: Bandwidth
    write_bandwidth: Bandwidth | None = None
    mapped_bandwidth: Bandwidth | None = None
    latency: Time
    energy: Energy | None = None
    write_energy: Energy | None = None
    unit: Bytes = 1.0
    compute: Rates | None = None
    units: Count = 1
    fanout: dict[Name, Count] = {}
    to: tuple[Name, ...] = ()
    source: Words


class EngineFile(_Strict):
    name: Name
    kind: Literal["matrix", "vector"]
    units: Count
    rates: Rates
    tiles: tuple[tuple[Count, Count], ...] = ()
    sparse: Annotated[float, Field(ge=1, le=64)] = 1.0
    cluster: Annotated[int, Field(ge=1, le=1024)] = 1
    clock: Frequency | None = None
    fanout: dict[Name, Count] = {}
    energy: dict[Dtype, Energy] = {}
    exponentials: Annotated[float, Field(gt=0, le=1024)] = 16.0
    width: Annotated[int, Field(ge=0, le=4096)] = 0
    source: Words


class LinkFile(_Strict):
    name: Name
    kind: Literal["scale-up", "scale-out", "host"]
    bandwidth: Bandwidth
    latency: Time
    domain: Count = 1
    topology: Topology = "switch"
    reduces: bool = False
    peer: bool = True
    back: Bandwidth | None = None
    energy: Energy | None = None
    source: Words


class LinkChange(_Strict):
    """What is different about a link in one system; a whole link where it has name, bandwidth and latency."""

    name: Name | None = None
    kind: Literal["scale-up", "scale-out", "host"] | None = None
    bandwidth: Bandwidth | None = None
    latency: Time | None = None
    domain: Count | None = None
    topology: Topology | None = None
    reduces: bool | None = None
    peer: bool | None = None
    back: Bandwidth | None = None
    energy: Energy | None = None
    source: Words


class PowerFile(_Strict):
    rated: Watts
    idle: Watts
    source: Words

    @model_validator(mode="after")
    def _ordered(self) -> PowerFile:
        if self.idle > self.rated:
            raise PydanticCustomError("quantity", "{allowed}", {"allowed": "idle at most rated"})
        return self


class PriceFile(_Strict):
    rent: Rent | None = None
    list: Dollars | None = None
    date: Date
    source: Words


class DispatchFile(_Strict):
    eager: Time
    graph: Time
    source: Words


class ReserveFile(_Strict):
    bytes: Bytes
    source: Words


class ProcessFile(_Strict):
    """Nanometres, as the maker of the chip names its process."""

    node: Annotated[float, Field(gt=0.5, le=1000)]
    source: Words


class SizeFile(_Strict):
    """Another size of memory that the same device is sold with, and what then stays with the system."""

    capacity: Bytes
    reserve: Bytes | None = None
    source: Words


class HostFile(_Strict):
    """What stands around the devices of one node: its main memory, processors and storage."""

    memory: Bytes | None = None
    bandwidth: Bandwidth | None = None
    cpu: str | None = None
    sockets: Count = 1
    storage: tuple[str, ...] = ()
    source: Words


class NodeFile(_Strict):
    """How ``8xname`` composes: ``size`` devices share a node; ``overhead_power`` is watts per device."""

    size: Count
    overhead_power: Watts = 0.0
    source: Words


class CurveFile(_Strict):
    """Bytes per second by working set."""

    at: Annotated[tuple[Bytes, ...], Field(min_length=1, max_length=64)]
    value: Annotated[tuple[Bandwidth, ...], Field(min_length=1, max_length=64)]

    @model_validator(mode="after")
    def _rising(self) -> CurveFile:
        if len(self.at) != len(self.value) or any(b <= a for a, b in zip(self.at, self.at[1:], strict=False)):
            raise PydanticCustomError("quantity", "{allowed}", {"allowed": "as many values as rising sizes in `at`"})
        return self


class ProductsFile(_Strict):
    call: Time
    rate: Flops
    one: CurveFile
    many: CurveFile


class ClassFile(_Strict):
    call: Time = 0.0
    step: Time = 0.0
    passes: Annotated[float, Field(ge=0, le=1e6)] = 0.0
    rate: Flops | None = None


class ProfileFile(_Strict):
    """What one engine reaches on this machine, as `tierwise calibrate` writes it."""

    engine: Name
    copy_: Annotated[CurveFile, Field(alias="copy")]
    products: Annotated[dict[str, ProductsFile], Field(min_length=1)]
    classes: dict[str, ClassFile] = {}
    interval: tuple[Annotated[float, Field(gt=0, le=1)], Annotated[float, Field(ge=1, le=1e3)]]
    cold: Annotated[float, Field(ge=0, le=100)] = 0.0
    source: Words


class DeviceFile(_Strict):
    title: Words
    vendor: Words
    kind: Kind
    family: Name
    released: Date
    aliases: tuple[Name, ...] = ()
    sources: dict[Name, Words] = {}
    tiers: tuple[TierFile, ...] = ()
    engines: tuple[EngineFile, ...] = ()
    links: tuple[LinkFile, ...] = ()
    power: PowerFile | None = None
    price: PriceFile | None = None
    dispatch: DispatchFile | None = None
    reserve: ReserveFile | None = None
    process: ProcessFile | None = None
    node: NodeFile | None = None
    sizes: tuple[SizeFile, ...] = ()
    calibration: tuple[ProfileFile, ...] = ()
    notes: str = ""


class SystemFile(_Strict):
    title: Words
    aliases: tuple[Name, ...] = ()
    sources: dict[Name, Words] = {}
    device: str | dict[str, Any]
    count: Count
    per_node: Count | None = None
    scale_up: LinkChange | None = None
    scale_out: LinkChange | None = None
    host_link: LinkChange | None = None
    host: HostFile | None = None
    power_cap: Watts | None = None
    clock: Frequency | None = None
    price: PriceFile | None = None
    overhead_power: Watts = 0.0
    source: Words
    notes: str = ""


# ---------------------------------------------------------------- pydantic's errors, in our words


def _explain(model: type[BaseModel], error: ValidationError) -> list[Problem]:
    out: list[Problem] = []
    meant: set[str] = set()  # a misspelled field is also a missing one: only the spelling is told
    for e in sorted(error.errors(), key=lambda e: e["type"] != "extra_forbidden"):
        field, found, problem = _path(e["loc"]), e["input"], e["type"]
        if problem == "extra_forbidden":
            names = _fields_at(model, e["loc"][:-1])
            close = nearest(str(e["loc"][-1]), names, 1)
            meant |= {_path((*e["loc"][:-1], c)) for c in close}
            hint = f"did you mean {close[0]!r}? " if close else ""
            out.append((field, found, f"no such field; {hint}fields here: {', '.join(names)}"))
        elif problem == "missing":
            if field not in meant:
                out.append((field, "nothing", "a value (this field is required)"))
        elif problem == "literal_error":
            options = [str(o) for o in _options(str(e.get("ctx", {}).get("expected", "")))]
            close = nearest(str(found), options, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            out.append((field, found, "one of " + ", ".join(options) + hint))
        else:
            out.append((field, found, e["msg"][0].lower() + e["msg"][1:]))
    return out


def _path(loc: tuple[int | str, ...]) -> str:
    text = ""
    for part in loc:
        if part == "[key]":
            continue
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text or "file"


def _options(expected: str) -> list[str]:
    return re.findall(r"'([^']*)'", expected)


def _fields_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    """The fields allowed at a place in a file."""
    for part in loc:
        if isinstance(part, int):
            continue
        inner = _inner(model.model_fields[part].annotation) if part in model.model_fields else None
        if inner is None:
            break
        model = inner
    return list(model.model_fields)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The model inside ``tuple[Model, ...]`` or ``Model | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((m for a in get_args(annotation) if (m := _inner(a)) is not None), None)
