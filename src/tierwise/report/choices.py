"""What reports say and leave out: choices of presentation, in one place. None of them changes a number."""

from __future__ import annotations

# Of the traffic of a tier: a kind of operand with less is not named in the sentence about it.
NAMED_TRAFFIC = 0.03
# A phase spends "most" of its time on what takes more than half, and p99 waits are "most" of p99 TTFT likewise.
MOST = 0.5
# Shares that print as 0 % or 100 % of whole percents.
ROUNDS_TO_NOTHING, ROUNDS_TO_ALL = 0.005, 0.995

# Two figures of one thing that differ by less are said to agree: it is what three printed digits can show.
AGREES = 0.01
# Beyond this, either way, a difference is told as a factor and not in percent.
TOLD_AS_FACTOR = 3.0
# A ratio that prints as 0 % more.
EQUAL_RATIO = 1.005
# A rate or a number in flight counts as reached when it prints alike.
REACHED = 0.999
# Points that gain less than this on the one before are left out of a thinned front.
FRONT_STEP = 1.01
# A share of the decode step that is larger than the answer's by this much is named as what costs time.
NOTICEABLE_SHARE = 0.08

# A resource this full is what requests wait for; so is KV memory that on average has room for fewer requests than this
# (blocks are handed out by whole requests: between an end and the next start about one of them is free).
FULL, FEW_REQUESTS = 0.9, 2.0
# The slowest tokens take so many times as long as the median before it is remarked upon.
UNEVEN = 3.0

# Rows of the tables of a plan, and lines of why its alternatives are not the answer; the rest is named in one more.
PLAN_ROWS, PLAN_LINES = 10, 14
# Tenants on a page (the JSON embedded in it has no more either) and in a terminal.
PAGE_TENANTS, TERMINAL_TENANTS = 50, 10
