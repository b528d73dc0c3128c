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

WIDTH = 6  # numbers in a cell of a table of prices: those of serving.steps.QUANTITIES
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
        ("wanted", "i8"),  # what the scheduler would give it on admission
        ("chunk", "i8"),  # tokens the step in flight computes of it
        ("lane", "i8"),  # and which of several in flight that is
        ("rank", "i8"),  # the data-parallel rank that holds it
        ("held", "i8"),  # KV blocks of its own
        ("shared", "i8"),  # KV blocks it shares through the prefix cache
        ("units", "i8"),  # leading units of its prompt that it uses in the prefix cache
        ("cached", "i8"),
        ("swapped", "i8"),  # what it had computed stands in host memory
        ("source", "i8"),  # engine that holds what it needs to go on, -1 for none
        ("source_held", "i8"),
        ("source_units", "i8"),
        ("until", "f8"),  # when what it waits for has come
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
        ("policy", "i8"),
        ("role", "i8"),
        ("open", "i8"),  # takes requests
        ("starting", "i8"),
        ("down", "i8"),  # failures it has not come back from
        ("since", "f8"),  # when its rent began, nan while it is away
        ("up", "f8"),  # seconds it was there before that
        # What comes next.
        ("next", "i8"),  # IDLE, BEGIN, END
        ("at", "f8"),  # and when
        ("begun", "f8"),  # start of the step in flight, or of the last one
        ("seen", "f8"),  # what came later is not in the step being put together
        ("idle", "i8"),  # it stood still before what comes next
        ("dirty", "i8"),  # somebody has come to wait since the last step was put together
        ("queued", "f8"),  # since when ``waiting`` has been what it is
        ("counted", "f8"),  # until when the series know its state
        # Settings.
        ("budget", "i8"),
        ("max_seqs", "i8"),
        ("max_len", "i8"),
        ("block", "i8"),
        ("page", "i8"),  # blocks of one page of the device's virtual memory
        ("reserve", "i8"),  # blocks kept free when a request is admitted
        ("fixed", "i8"),  # blocks a sequence needs whatever its length
        ("ahead", "i8"),  # steps are put together while one is in flight
        ("swaps", "i8"),
        ("hold", "i8"),  # places of those that are done stay taken until all are
        ("waiting_first", "i8"),
        ("keyed", "i8"),  # who loses its place is last in the scheduler's order
        ("by_tenant", "i8"),  # each tenant has its own queue
        ("grow", "i8"),  # tokens between two requests for blocks; 0 never, -1 unknown
        ("grown", "i8"),  # blocks of each such request
        # Blocks.
        ("blocks", "i8"),  # in all
        ("free", "i8"),
        ("spare", "i8"),  # cached ones that nobody uses now
        ("peak", "i8"),  # most that were ever in use
        ("unit", "i8"),  # blocks of one unit of the prefix cache; 0 without one
        ("unit_tokens", "i8"),
        ("match", "i8"),  # tokens of the request being routed that its cache holds
        ("pool", "i8"),  # whose host and disk tiers it uses
        ("pooled", "i8"),
        ("host_units", "i8"),
        ("disk_units", "i8"),
        ("on_host", "i8"),
        ("on_disk", "i8"),
        ("busy_link", "f8"),  # until when its link to others is taken
        ("busy_copy", "f8"),  # and its link to host and disk
        ("slots", "i8"),  # LoRA adapters at once; 0 for any number
        ("adapters", "i8"),  # loaded now
        # Requests.
        ("running", "i8"),
        ("width", "i8"),  # sequences of those that run
        ("waiting", "i8"),
        ("load", "i8"),  # tokens its requests still have to compute
        ("tokens", "i8"),  # tokens whose KV its running requests hold
        ("leaving", "i8"),  # sequences that the last step finished, if they still count in the next
        ("returned", "i8"),  # and the blocks they gave back
        # The step being put together or in flight.
        ("left", "i8"),  # of the budget
        ("decoding", "i8"),  # sequences that decode
        ("prompts", "i8"),  # prefill chunks
        ("prompt_tokens", "i8"),
        ("yields", "i8"),  # sequences whose next token it makes
        ("context", "i8"),  # tokens its decoding sequences read
        ("past", "i8"),  # tokens that were cached before its last chunk
        ("drafts", "i8"),  # draft tokens a sequence
        ("copied", "f8"),  # bytes to or from the host that it waits for
        ("dt", "f8"),  # seconds, and of them those that compute, memory and link are busy
        ("compute", "f8"),
        ("memory", "f8"),
        ("link", "f8"),
        ("joules", "f8"),  # beside what its devices draw all the time; with those of the host once it is priced
        ("host_joules", "f8"),  # joules of the host's processors
        ("blocked", "i8"),  # those that wait cannot come in while nothing ends
        # Steps in which nothing changes.
        ("steady", "i8"),
        ("fast_forwarding", "i8"),
        ("fast_forwarded", "i8"),
        ("fast_forward_limit", "i8"),
        ("span", "f8"),  # longest of them
        # Data-parallel ranks, which step together.
        ("ranks", "i8"),
        ("rows", "i8"),  # of those that share experts, tokens of all; less than 0: of the graph they replay
        # Several steps in flight.
        ("lanes", "i8"),
        ("lane", "i8"),
        ("stages", "f8"),  # a step's time over that of its slowest pipeline stage
        ("stages_prompt", "f8"),  # the same of a step with chunks
        ("follow", "i8"),  # a prompt's next chunk enters the first stage while the one before is in a later one
        ("exit", "f8"),  # when the last of the steps in flight leaves the last stage
        ("partition", "f8"),  # share of the units for prefill beside decode, 0 for stages
        ("gate", "f8"),  # when the next step may begin
        ("gate_after", "f8"),
        # Drafts.
        ("speculate", "i8"),
        ("tree", "i8"),
        ("adaptive", "i8"),
        ("accept", "f8"),
        ("cost", "f8"),
    ]
)

# What a data-parallel rank has in the step being put together.
RANK = np.dtype(
    [("left", "i8"), ("decoding", "i8"), ("context", "i8"), ("prompts", "i8"), ("prompt_tokens", "i8"),
     ("yields", "i8"), ("past", "i8"), ("width", "i8"), ("dt", "f8"), ("compute", "f8"), ("memory", "f8"),
     ("link", "f8"), ("joules", "f8"), ("host_joules", "f8")]
)  # fmt: skip

# A step in flight beside others.
FLIGHT = np.dtype(
    [("at", "f8"), ("begun", "f8"), ("decoding", "i8"), ("prompts", "i8"), ("prompt_tokens", "i8"), ("drafts", "i8"),
     ("dt", "f8"), ("compute", "f8"), ("memory", "f8"), ("link", "f8"), ("joules", "f8")]
)  # fmt: skip

GROUP = np.dtype(
    [
        ("tokens", "i8"), ("tokens_n", "i8"),
        ("heads", "i8"), ("heads_n", "i8"),
        ("experts", "i8"), ("experts_n", "i8"),
        ("seqs", "i8"), ("seqs_n", "i8"),
        ("contexts", "i8"), ("contexts_n", "i8"),
        ("decode", "i8"), ("mixing", "i8"), ("verifying", "i8"),
        ("news", "i8"), ("news_n", "i8"),
        ("cacheds", "i8"), ("cacheds_n", "i8"),
        ("prefill", "i8"),
        ("reordered", "i8"),  # ops do not run one after the other
        ("in_line", "i8"), ("yielding", "i8"), ("alone", "i8"),
        ("levels", "i8"), ("levels_n", "i8"),
        ("work", "i8"), ("work_n", "i8"), ("rows", "i8"), ("rows_n", "i8"),
        ("covering", "i8"), ("covering_row", "i8"), ("draws", "i8"),
        ("once", "f8"), ("once_compute", "f8"), ("once_memory", "f8"), ("active", "f8"),
        ("graphs", "i8"), ("graphs_n", "i8"),
        ("mixed", "i8"),
        ("ahead", "i8"),
        ("launch", "f8"), ("joined", "i8"),  # see StepPrices
        ("gap_sequence", "f8"),
        ("host_step", "f8"), ("host_sequence", "f8"), ("host_chunk", "f8"), ("host_token", "f8"),
        ("request", "f8"),
        ("kv_token", "f8"),
        ("swap", "f8"), ("transfer", "f8"), ("latency", "f8"), ("disk", "f8"),
        ("kv_fixed", "f8"), ("adapter", "f8"),
        ("power", "f8"),
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
        ("bin", "i8"),  # of the last time between tokens
        ("limbo", "i8"),  # first of the requests for which no replica is up
        ("match", "i8"),  # the router asks what caches hold
        ("startup", "f8"),
        ("interval", "f8"),  # seconds between two looks of the autoscaler
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
COLUMNS = (
    "running",
    "waiting",
    "kv",
    "fragmentation",
    "prompt_tokens",
    "output_tokens",
    "compute",
    "memory",
    "link",
    "replicas",
)
S_RUNNING, S_WAITING, S_KV, S_FRAGMENTATION, S_PROMPT, S_OUTPUT, S_COMPUTE, S_MEMORY, S_LINK, S_REPLICAS = range(10)


class LoopState(NamedTuple):
    """Everything the loop reads and writes. Shapes: n requests, r replicas, g groups, t tenants, u cache units,
    k tiers of the prefix cache (1 or 3), a adapters.

    Attributes:
        cluster: (1,) CLUSTER; requests: (n,) REQUEST; engines: (r,) ENGINE; groups: (g,) GROUP.
        flights: (r, lanes) FLIGHT; ranks: (r, most ranks) RANK; tenants: (r, t) TENANT.
        running: (r, most sequences) requests in order of admission.
        queues: (r, 1 or t) roots of the waiting queues, -1 when empty.
        tables: prices, one after the other; where each begins is in GROUP. graphs: batch sizes of recorded graphs.
        event_time, event_kind, event_item: (m,) a heap.
        blocks, block_start: the trace's block identities, as units 0 to u.
        users: (r, u) requests that use a cached unit, -1 where it is not cached.
        spare_ends: (r, k, 2) and spare_links: (r, k, 2, u) lists of units by last use, of engine, host and disk.
        below: (r, u) tier under the engine that holds a unit, 0 for none.
        adapter_users, adapter_used: (r, a) requests that use one; when it was last asked for, -1 when not loaded.
        growth: (r, most) how many sequences need a block in which of the next steps.
        series: (BINS, columns); edges: (ITL_BINS + 1,) and itl: (ITL_BINS,).
        log_step: (m, 3) replica, decoding, prompt tokens; log_time: (m, 2).
        scratch, among: work space.
    """

    cluster: Any
    requests: Any
    engines: Any
    groups: Any
    flights: Any
    ranks: Any
    tenants: Any
    running: Any
    queues: Any
    tables: Any
    graphs: Any
    event_time: Any
    event_kind: Any
    event_item: Any
    blocks: Any
    block_start: Any
    users: Any
    spare_ends: Any
    spare_links: Any
    below: Any
    adapter_users: Any
    adapter_used: Any
    growth: Any
    series: Any
    edges: Any
    itl: Any
    log_step: Any
    log_time: Any
    scratch: Any
    among: Any
