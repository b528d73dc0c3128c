"""How long a layer of routed experts takes: two grouped GEMMs over the experts touched, and moving the tokens."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tierwise.core.num import Num, ceil_div, maximum, minimum, where
from tierwise.cost.constants import constant
from tierwise.cost.flash import Chip, warm_read

# Rows of the tiles grouped kernels choose from, and the columns of one (CUTLASS, Triton and DeepGEMM builds).
TILES = (16.0, 32.0, 64.0, 128.0)
_COLUMNS = constant("experts.columns")
# Elements of K one step of a tile's main loop takes.
_STEP = constant("experts.step")


def tile_rows(k: Mapping[str, Num], rows: Num, touched: Num, tokens: Num, experts: Num) -> Num:
    """Rows of the tile a kernel picks: the smallest that holds an expert's mean rows, at most ``tile``; kernels
    with ``by_tokens`` take 16 up to so many tokens (1: 64 tokens, 2: as many as there are experts), then 64, or (3) 16
    up to 32 tokens, 32 up to 96, 64 up to 512, then 128.

    Source of 3: vLLM from 0.17 on, ``get_default_config`` of ``fused_moe.py`` (vllm-project/vllm#34846), which with
    weights in blocks of 8 bits does 1; until then 2, two branches on the number of experts (vllm-project/vllm#44152).
    """
    mean = np.asarray(rows / touched)
    fits = where(mean <= 16.0, 16.0, where(mean <= 32.0, 32.0, where(mean <= 64.0, 64.0, 128.0)))
    by = np.asarray(k["by_tokens"])
    tokens = np.asarray(tokens)
    untuned = where(tokens <= where(by > 1.0, experts, 64.0), 16.0, 64.0)
    ladder = where(tokens <= 32.0, 16.0, where(tokens <= 96.0, 32.0, where(tokens <= 512.0, 64.0, 128.0)))
    return where(by > 0, where(by > 2.0, ladder, untuned), minimum(fits, k["tile"]))


def grouped(
    chip: Chip,
    k: Mapping[str, Num],
    *,
    tile: Num,
    tiles: Num,
    rows: Num,
    touched: Num,
    experts: Num,
    tokens: Num,
    routed: Num,
    hidden: Num,
    inner: Num,
    up: Num,
    weights: Num,
) -> tuple[Num, Num, dict[str, Num]]:
    """(seconds of arithmetic, seconds of reading weights, seconds on top by what they go to) of one device's experts.

    ``tiles`` row tiles of ``tile`` rows hold the ``rows`` of the ``touched`` of ``experts`` local experts;
    ``tokens`` tokens were routed to ``routed`` expert slots, here or elsewhere; ``weights`` bytes are read.
    Coefficients: ``compute`` at full tiles, ``small`` (of it at tiles of 16 rows), ``wave`` (how far a part-filled
    last wave counts), ``memory``, ``cache``, ``warm`` as in attention, ``step`` (seconds a main-loop step that
    nothing hides) with power ``step_power`` in the tile's rows, ``both`` (share of the shorter of arithmetic and
    reading that does not overlap), ``elsewhere`` (share of other devices' slots that is computed all the same),
    ``move_rows``, ``move_routed``, ``move_tokens`` (passes over the operands of the local rows, of all slots and
    of the tokens), ``per_expert``, ``per_touched``, ``per_slot`` (seconds), ``launch`` (seconds).
    """
    tiles = tiles + k["elsewhere"] * maximum(routed - rows, 0.0) / tile
    wide_up, wide_down = ceil_div(up * inner, _COLUMNS), ceil_div(hidden, _COLUMNS)
    work = hidden * wide_up * _uneven(tiles * wide_up, chip.units, k["wave"])
    work = work + inner * wide_down * _uneven(tiles * wide_down, chip.units, k["wave"])
    reach = k["compute"] * k["small"] ** (np.log2(128.0 / tile) / 3.0)
    compute: Num = 2.0 * tiles * tile * _COLUMNS * work / (chip.rate * reach)
    read = warm_read(chip, weights, k["warm"], k["cache"], k["memory"])
    chain = k["step"] * (hidden + inner) / _STEP * (tile / 16.0) ** k["step_power"]
    compute = maximum(compute, chain)
    hidden_part = k["both"] * minimum(compute, read)
    moved = 2.0 * rows * (2.0 * hidden + (up + 1.0) * inner) * k["move_rows"]
    moved = moved + 2.0 * routed * hidden * k["move_routed"] + 2.0 * tokens * hidden * k["move_tokens"]
    moving = moved / where(np.asarray(moved) < chip.capacity, chip.cache, chip.memory)
    lists = k["per_expert"] * experts + k["per_slot"] * routed + k["per_touched"] * touched
    # What is spent for each expert and slot was fitted; no size of a kernel explains it.
    extra = {"dispatch": k["launch"], "overlap": hidden_part, "routing": moving, "unexplained": lists}
    return compute, read, extra


def _uneven(tiles: Num, units: Num, share: Num) -> Num:
    """How much longer whole waves take than an even split, at most fourfold, counted by ``share``."""
    waves = tiles / units
    return 1.0 + (minimum(ceil_div(waves, 1.0) / maximum(waves, 1e-12), 4.0) - 1.0) * share
