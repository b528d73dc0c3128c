"""What the loop holds: one record a request, an engine, a group of engines, a tenant; the rest are arrays.

Everything is 8 bytes wide, so that records are aligned. Policies see these records, so the field names are theirs.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

# States of a request inside the loop; the last four are those of ``outcome``.
STATES = WAITING, RUNNING, DONE, REJECTED, MOVING, AHEAD = 0, 1, 2, 3, 4, 5
# What a replica does next: nothing, begin a step, end the one in flight.
IDLE, BEGIN, END = 0, 1, 2
# Roles of a replica.
BOTH, PREFILL, DECODE = 0, 1, 2
# Kinds of events kept in the heap.
ARRIVAL, LANDED, DOWN, UP, SCALE = 0, 1, 2, 3, 4

BINS = 512  # of a series; never fewer than half of them are used, since the width doubles
ITL_BINS, ITL_LOW, ITL_DECADES = 256, 1e-5, 7.0  # of times between tokens: 10 us to 100 s

REQUEST = np.dtype(
    [
        ("id", "i8"),
        ("arrival", "f8"),  # when the client sent it
        ("ready", "f8"),  # when it joined the queue of a replica
        ("scheduled", "f8"),
        ("first", "f8"),
        ("last", "f8"),
        ("longest", "f8"),
        ("think", "f8"),
        ("key", "f8"),  # place in the queue: smaller first
        ("prompt", "i8"),
        ("output", "i8"),
        ("made", "i8"),
        ("computed", "i8"),  # tokens whose keys and values are held
        ("left", "i8"),  # tokens a step could compute of it now; 1 when decoding
        ("chunk", "i8"),  # tokens the step in flight computes of it
        ("held", "i8"),  # KV blocks of its own
        ("shared", "i8"),  # KV blocks it shares through the prefix cache
        ("cached", "i8"),
        ("tenant", "i8"),
        ("priority", "i8"),
        ("samples", "i8"),
        ("adapter", "i8"),
        ("preempted", "i8"),
        ("replica", "i8"),
        ("state", "i8"),
        ("after", "i8"),  # the one it comes after, -1 for none
        ("follower", "i8"),  # first request that comes after this one, -1 for none
        ("sibling", "i8"),  # next that comes after the same one
        ("child", "i8"),  # links of the queue
        ("peer", "i8"),
    ]
)

ENGINE = np.dtype(
    [
        ("id", "i8"),
        ("group", "i8"),
        ("role", "i8"),
        ("open", "i8"),  # takes requests
        ("time", "f8"),
        ("at", "f8"),  # when it does what comes next
        ("next", "i8"),  # IDLE, BEGIN, END
        ("begun", "f8"),  # start of the step in flight, or of the last one
        ("seen", "f8"),  # when the step being put together was: what came later is not in it
        ("ahead", "i8"),  # steps are put together while one is in flight
        ("idle", "i8"),  # it stood still before what comes next
        ("leaving", "i8"),  # sequences that the last step finished, if they still count in the next
        ("returned", "i8"),  # and the blocks they gave back
        ("budget", "i8"),
        ("max_seqs", "i8"),
        ("max_len", "i8"),
        ("block", "i8"),
        ("blocks", "i8"),  # in all
        ("free", "i8"),
        ("spare", "i8"),  # cached ones that nobody uses now
        ("reserve", "i8"),  # kept free when a request is admitted
        ("fixed", "i8"),  # blocks a sequence needs whatever its length
        ("running", "i8"),
        ("waiting", "i8"),
        ("load", "i8"),  # tokens its requests still have to compute
        ("tokens", "i8"),  # tokens whose KV its running requests hold
        ("left", "i8"),  # of the budget, in the step being put together
        ("decoding", "i8"),  # sequences in the step that decode
        ("prompts", "i8"),  # prefill chunks in it
        ("prompt_tokens", "i8"),
        ("yields", "i8"),  # sequences whose next token it makes
        ("context", "i8"),  # tokens its decoding sequences read
        ("dt", "f8"),  # seconds of the step, and of them those that compute, memory and link are busy
        ("compute", "f8"),
        ("memory", "f8"),
        ("link", "f8"),
        ("peak", "i8"),  # most blocks ever in use
        ("queued", "f8"),  # since when ``waiting`` has been what it is
        ("policy", "i8"),
    ]
)

GROUP = np.dtype(
    [
        ("tokens", "i8"), ("tokens_n", "i8"),
        ("heads", "i8"), ("heads_n", "i8"),
        ("seqs", "i8"), ("seqs_n", "i8"),
        ("contexts", "i8"), ("contexts_n", "i8"),
        ("decode", "i8"), ("mixing", "i8"),
        ("news", "i8"), ("news_n", "i8"),
        ("cacheds", "i8"), ("cacheds_n", "i8"),
        ("prefill", "i8"),
        ("graphs", "i8"), ("graphs_n", "i8"),
        ("mixed", "i8"),
        ("ahead", "i8"),
        ("launch", "f8"),
        ("host_step", "f8"), ("host_sequence", "f8"), ("host_chunk", "f8"), ("host_token", "f8"),
        ("request", "f8"),
        ("kv_token", "f8"),
        ("swap", "f8"), ("transfer", "f8"), ("latency", "f8"), ("disk", "f8"),
        ("idle_power", "f8"), ("rated_power", "f8"),
    ]
)  # fmt: skip

TENANT = np.dtype([("id", "i8"), ("served", "f8"), ("waiting", "i8"), ("running", "i8")])

CLUSTER = np.dtype(
    [
        ("time", "f8"),
        ("arrived", "i8"),  # of the trace's requests, those that have come
        ("finished", "i8"),  # done or rejected
        ("turn", "i8"),  # requests routed so far
        ("seed", "i8"),
        ("closed", "i8"),
        ("linked", "i8"),  # replicas act on each other other than through the router
        ("events", "i8"),  # in the heap
        ("width", "f8"),  # seconds of a bin
        ("logged", "i8"),
        ("exact", "i8"),
        ("steps", "i8"),
        ("preemptions", "i8"),
        ("recomputed", "i8"),
        ("cached_tokens", "i8"),
        ("energy", "f8"),
        ("output_tokens", "i8"),
        ("prompt_tokens", "i8"),
        ("swapped", "f8"),
        ("transferred", "f8"),
        ("drafted", "i8"),
        ("accepted", "i8"),
        ("end", "f8"),  # of the last thing that happened
    ]
)

# Columns of the series: sums over replicas of value x seconds, or of tokens.
COLUMNS = ("running", "waiting", "kv", "fragmentation", "prompt_tokens", "output_tokens", "compute", "memory", "link")
S_RUNNING, S_WAITING, S_KV, S_FRAGMENTATION, S_PROMPT, S_OUTPUT, S_COMPUTE, S_MEMORY, S_LINK = range(9)


class State(NamedTuple):
    """Everything the loop reads and writes. Shapes: n requests, r replicas, g groups, t tenants, c queues a replica.

    Attributes:
        cluster: (1,) CLUSTER; requests: (n,) REQUEST; engines: (r,) ENGINE; groups: (g,) GROUP.
        tenants: (r, t) TENANT; running: (r, most sequences) requests in order of admission.
        queues: (r, c) roots of the waiting queues, -1 when empty.
        tables: prices, one after the other; where each begins is in GROUP. graphs: batch sizes of recorded graphs.
        event_time, event_kind, event_item: (m,) a heap.
        series: (BINS, columns); itl: (ITL_BINS,); log_step: (k, 3) replica, decoding, prompt tokens; log_time: (k, 2).
        scratch: work space.
    """

    cluster: Any
    requests: Any
    engines: Any
    groups: Any
    tenants: Any
    running: Any
    queues: Any
    tables: Any
    graphs: Any
    event_time: Any
    event_kind: Any
    event_item: Any
    series: Any
    itl: Any
    log_step: Any
    log_time: Any
    scratch: Any
