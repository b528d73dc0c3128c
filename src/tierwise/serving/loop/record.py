"""What is written down on the way: series over time, times between tokens, the first steps."""

from __future__ import annotations

import math

from tierwise.serving.jit import jit
from tierwise.serving.loop.layout import BINS, ITL_BINS, ITL_DECADES, ITL_LOW


@jit
def bins(cluster, series, start, end):  # type: ignore[no-untyped-def]
    """First and last bin of the series of [start, end); it has room for them from here on. Found once for all columns:
    divisions are most of what writing down costs."""
    if end >= cluster.width * BINS:
        _widen(cluster, series, end)
    return int(start / cluster.width), int(end / cluster.width)


@jit
def spread(cluster, series, among, column, start, end, value):  # type: ignore[no-untyped-def]
    """Add ``value`` x seconds over [start, end), which lies ``among`` :func:`bins`, to a column of the series."""
    width, (a, b) = cluster.width, among
    if a == b:
        series[a, column] += value * (end - start)
        return
    series[a, column] += value * ((a + 1) * width - start)
    for i in range(a + 1, b):
        series[i, column] += value * width
    series[b, column] += value * (end - b * width)


@jit
def _widen(cluster, series, end):  # type: ignore[no-untyped-def]
    """Double the width of the bins until ``end`` fits: memory stays bounded however long the run."""
    while end >= cluster.width * BINS:
        cluster.width *= 2.0
        for i in range(BINS // 2):
            for k in range(series.shape[1]):
                series[i, k] = series[2 * i, k] + series[2 * i + 1, k]
        for i in range(BINS // 2, BINS):
            for k in range(series.shape[1]):
                series[i, k] = 0.0


@jit
def gap_bin(gap):  # type: ignore[no-untyped-def]
    """Bin of a time between tokens."""
    if gap <= ITL_LOW:
        return 0
    return min(ITL_BINS - 1, int(math.log10(gap / ITL_LOW) * (ITL_BINS / ITL_DECADES)))


@jit
def log_step(cluster, steps, times, replica, decoding, prompt_tokens, start, end):  # type: ignore[no-untyped-def]
    """Write a step down while there is room."""
    k = cluster.logged
    if k < steps.shape[0]:
        steps[k, 0], steps[k, 1], steps[k, 2] = replica, decoding, prompt_tokens
        times[k, 0], times[k, 1] = start, end
        cluster.logged += 1


@jit
def count_gaps(cluster, edges, counts, gap, n):  # type: ignore[no-untyped-def]
    """Add n equal times between tokens to the histogram; most often they fall where the last ones did."""
    k = cluster.bin
    if not edges[k] <= gap < edges[k + 1]:
        k = gap_bin(gap)
        while k > 0 and gap < edges[k]:
            k -= 1
        while k < ITL_BINS - 1 and gap >= edges[k + 1]:
            k += 1
        cluster.bin = k
    counts[k] += n
