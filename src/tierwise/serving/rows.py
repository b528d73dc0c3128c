"""Serving measurements as others record them, read into deployments: one CSV line, one row.

Nothing is guessed silently: a line that does not determine what ran is refused with its reason, and every repair
(degrees that count the same devices twice) is named in the row's notes.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from tierwise.core.errors import TierwiseError
from tierwise.serving.constants import CONSTANTS

_NEEDED = ("model_path", "system", "backend", "mode", "isl", "osl")
_LIMIT = 1e9


@dataclass(frozen=True)
class EngineGroup:
    """Equal engines: ``workers`` of them, each ``tp`` × ``dp`` devices with experts over ``ep`` of those.

    ``dp`` is attention data parallelism inside one engine: its ranks step together.
    """

    tp: int
    dp: int = 1
    ep: int = 1
    workers: int = 1

    @property
    def devices(self) -> int:
        """Devices of one engine."""
        return self.tp * self.dp


@dataclass(frozen=True)
class ServingRow:
    """One serving measurement, or one question of the same shape.

    Attributes:
        line: in the file, the header being 1. ``id``: as the file names it.
        model, system, engine, version: names as written; ``mode``: ``agg`` or ``disagg``, as written;
            ``source``: where the file says it comes from.
        dense, experts: number formats of dense layers and of routed experts; ``""`` for the checkpoint's own.
        isl, osl: nominal prompt and output tokens.
        concurrency: requests in flight over the whole deployment.
        decode: the engines that decode (and prefill, where aggregated); ``prefill``: those that prefill apart, if any.
        draft: draft tokens a step, when the file says so; None when it does not.
        ttft, tpot: measured seconds, or None.
        notes: repairs made to the line.
    """

    line: int
    id: str
    model: str
    system: str
    engine: str
    version: str
    mode: str
    source: str
    dense: str
    experts: str
    isl: float
    osl: float
    concurrency: float
    decode: EngineGroup
    prefill: EngineGroup | None
    draft: float | None
    ttft: float | None
    tpot: float | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class RefusedLine:
    """A line that cannot be answered, and why. ``undetermined`` when the file itself leaves the deployment open."""

    line: int
    id: str
    reason: str
    undetermined: bool = False


class _Bad(Exception):
    def __init__(self, reason: str, undetermined: bool = False) -> None:
        super().__init__(reason)
        self.undetermined = undetermined


def read_rows(path: str | Path) -> tuple[list[ServingRow], list[RefusedLine]]:
    """Every line of a CSV file, as a row or refused with its reason.

    Raises:
        TierwiseError: not a CSV file with the columns every line needs.
    """
    rows: list[ServingRow] = []
    refused: list[RefusedLine] = []
    try:
        with Path(path).open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            missing = [c for c in _NEEDED if c not in (reader.fieldnames or ())]
            if missing:
                raise TierwiseError(f"{path}: no column {', '.join(missing)} (has: {_shown(reader.fieldnames)})")
            for n, record in enumerate(reader, start=2):
                try:
                    rows.append(_row(n, record))
                except _Bad as bad:
                    refused.append(RefusedLine(n, record.get("id") or "", str(bad), bad.undetermined))
    except UnicodeDecodeError as error:
        raise TierwiseError(f"{path}: not a CSV file in UTF-8: byte {error.start} is no text") from None
    except csv.Error:
        line = reader.line_num + 1
        raise TierwiseError(f"{path}: not a CSV file: line {line} has a stray quote or a field too long") from None
    return rows, refused


def _shown(names: object) -> str:
    text = ", ".join(map(str, names)) if isinstance(names, (list, tuple)) else "nothing"
    return text if len(text) < 200 else text[:197] + "..."


def _row(line: int, record: Mapping[str, str | None]) -> ServingRow:
    for name in ("model_path", "system", "backend", "mode"):
        if not _text(record, name):
            raise _Bad(f"{name} is empty")
    mode = _text(record, "mode").lower()
    if mode not in ("agg", "disagg"):
        raise _Bad(f"mode: found {mode!r}; allowed: agg, disagg")
    isl, osl = _positive(record, "isl"), _positive(record, "osl")
    dense, experts = _formats(record)
    take = _aggregated if mode == "agg" else _disaggregated
    decode, prefill, flight, notes = take(record)
    return ServingRow(
        line, _text(record, "id"), _text(record, "model_path"), _text(record, "system"),
        _text(record, "backend").lower(), _text(record, "backend_version"), mode, _text(record, "silicon_data_source"),
        dense, experts, isl, osl, flight, decode, prefill, _draft(record),
        _measured(record, "silicon_ttft_ms"), _measured(record, "silicon_tpot_ms"), tuple(notes),
    )  # fmt: skip


# Wider than any engine divides one layer: the file then counts all devices of a deployment of several engines.
_WIDEST = CONSTANTS["rows.widest"]


def _aggregated(record: Mapping[str, str | None]) -> tuple[EngineGroup, EngineGroup | None, float, list[str]]:
    group, notes = _group(record, "")
    batch = _number(record, "batch_size")
    flight = _number(record, "concurrency")
    if flight is None and batch is None:
        raise _Bad("neither concurrency nor batch_size")
    ranks = group.dp
    flight = flight if flight is not None else (batch or 0.0) * ranks
    if batch:
        # The ratio says how many ranks or replicas share the load, where the degrees do not.
        share = round(flight / batch)
        if not notes and share > group.dp and share > 1 and abs(flight / batch - share) < 0.02 * share:
            group, notes = _spread(record, group, share, notes)
    _check(flight, "concurrency")
    if group.tp > _WIDEST:
        half, engines = group.tp // 2, max(group.tp // int(_WIDEST), 1)
        note = f"tp {group.tp} is a whole deployment whose division is not recorded; taken as half prefill, half decode"
        return EngineGroup(1, half, half), EngineGroup(1, 8, 8, engines), flight, [*notes, note]
    return group, None, flight, notes


def _spread(
    record: Mapping[str, str | None], group: EngineGroup, share: int, notes: list[str]
) -> tuple[EngineGroup, list[str]]:
    tp, moe_tp, ep = group.tp, _degree(record, "moe_tp_size"), _degree(record, "moe_ep_size")
    if group.dp == 1 and moe_tp * ep >= share > 1 and tp % share == 0:
        note = f"concurrency over batch_size says {share} attention ranks in the engine"
        return EngineGroup(tp // share, share, tp), [*notes, note]
    return replace(group, workers=share), [*notes, f"concurrency over batch_size says {share} replicas"]


def _group(record: Mapping[str, str | None], prefix: str) -> tuple[EngineGroup, list[str]]:
    tp, dp = _degree(record, prefix + "tp_size"), _degree(record, prefix + "attention_dp_size")
    moe_tp, ep = _degree(record, prefix + "moe_tp_size"), _degree(record, prefix + "moe_ep_size")
    pp = _degree(record, prefix + "pp_size")
    if pp > 1:
        raise _Bad(f"{prefix}pp_size {pp}: pipelines of layers are not modelled")
    notes: list[str] = []
    if moe_tp == ep > 1 and tp * dp == ep * ep:
        # tp × ep was recorded as one degree, though experts live on the same devices.
        note = f"{prefix}degrees {tp}×{dp} (experts {moe_tp}×{ep}) count the same {ep} devices twice"
        return (EngineGroup(1, ep, ep) if dp > 1 else EngineGroup(ep, 1, ep)), [note]
    if dp > 1 and tp == dp and moe_tp == 1 and ep in (tp, tp * dp):
        # The same measurements are also recorded with attention over tp and no data parallelism.
        return EngineGroup(tp, 1, tp), [f"{prefix}degrees {tp}×{dp} (experts {ep}) count the same {tp} devices twice"]
    devices = max(tp * dp, moe_tp * ep)
    if devices % tp == 0 and devices // tp > dp:
        notes.append(f"experts over {devices} devices make {devices // tp} attention ranks of tp {tp}")
        dp = devices // tp
    # Experts of data-parallel ranks are always divided over all of them, by slices or whole.
    return EngineGroup(tp, dp, tp * dp if dp > 1 else min(ep, tp)), notes


def _disaggregated(record: Mapping[str, str | None]) -> tuple[EngineGroup, EngineGroup, float, list[str]]:
    counts = [_number(record, f"{p}_num_workers") for p in ("prefill", "decode")]
    if None in counts:
        raise _Bad("disaggregated without *_num_workers: how many engines ran is not recorded", undetermined=True)
    decode, d_notes = _group(record, "decode_")
    prefill, p_notes = _group(record, "prefill_")
    workers = [max(int(c or 1), 1) for c in counts]
    prefill, decode = replace(prefill, workers=workers[0]), replace(decode, workers=workers[1])
    flight = _number(record, "concurrency")
    if flight is None:
        batch = _number(record, "decode_batch_size")
        if batch is None:
            raise _Bad("neither concurrency nor decode_batch_size")
        flight = batch * decode.dp * decode.workers
    _check(flight, "concurrency")
    return decode, prefill, flight, [*p_notes, *d_notes]


_FORMATS = {
    "fp8": "fp8", "fp8_block": "fp8-block", "nvfp4": "nvfp4", "fp4": "nvfp4", "int4_wo": "int4", "int4": "int4",
    "bf16": "bf16", "float16": "bf16", "fp16": "bf16", "mxfp4": "mxfp4", "w4a16_mxfp4": "mxfp4",
    "w4a8_mxfp4_mxfp8": "mxfp4", "int8_wo": "int8", "w4afp8": "int4",
}  # fmt: skip


def _formats(record: Mapping[str, str | None]) -> tuple[str, str]:
    dense = _text(record, "gemm_quant_mode").lower() or _text(record, "precision").lower()
    experts = _text(record, "moe_quant_mode").lower() or dense
    for found in (dense, experts):
        if found and found not in _FORMATS:
            raise _Bad(f"number format: found {found!r}; allowed: {', '.join(sorted(_FORMATS))}")
    return _FORMATS.get(dense, ""), _FORMATS.get(experts, "")


def _draft(record: Mapping[str, str | None]) -> float | None:
    for name in ("draft_tokens", "nextn", "num_speculative_tokens"):
        value = _number(record, name)
        if value is not None:
            return value
    return None


def _measured(record: Mapping[str, str | None], name: str) -> float | None:
    value = _number(record, name)
    if value is None:
        return None
    if not value > 0:
        raise _Bad(f"{name}: found {value:g}; a measured time is above zero")
    return value / 1e3


def _text(record: Mapping[str, str | None], name: str) -> str:
    text = (record.get(name) or "").strip()
    return "" if text.lower() in ("nan", "none", "null") else text


_NUMBER = re.compile(r"^[+-]?(\d+\.?\d*|\.\d+)(e[+-]?\d+)?$", re.IGNORECASE)


def _number(record: Mapping[str, str | None], name: str) -> float | None:
    text = _text(record, name)
    if not text:
        return None
    if not _NUMBER.match(text) or not math.isfinite(float(text)):
        raise _Bad(f"{name}: found {text[:40]!r}; allowed: a number")
    return float(text)


def _positive(record: Mapping[str, str | None], name: str) -> float:
    value = _number(record, name)
    if value is None:
        raise _Bad(f"{name} is empty")
    _check(value, name)
    return value


def _check(value: float, name: str) -> None:
    if not 1 <= value <= _LIMIT:
        raise _Bad(f"{name}: found {value:g}; allowed: 1 to {_LIMIT:g}")


def _degree(record: Mapping[str, str | None], name: str) -> int:
    """A parallel degree; absent and 0 both mean that nothing is divided."""
    value = _number(record, name)
    if value is None or value == 0:
        return 1
    if value < 0 or value != int(value) or value > 1e5:
        raise _Bad(f"{name}: found {value:g}; allowed: whole numbers of at least 1")
    return int(value)


__all__ = ["EngineGroup", "RefusedLine", "ServingRow", "read_rows"]
