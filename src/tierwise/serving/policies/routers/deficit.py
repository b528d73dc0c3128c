"""Locality with a bound, as D2LPM: a replica with the longest cached prefix keeps the request unless it has been given
more than a quantum of work beyond the least loaded one. Source: Cao et al., Locality-aware Fair Scheduling,
arXiv:2501.14312. Between tenants the scheduler ``fair`` does the same in each replica."""

PREFIX = True


def route(cluster, request, engines, among):  # type: ignore[no-untyped-def]
    """The longest match among replicas whose load is within a quantum, one step's budget, of the least."""
    least = engines[among[0]].load
    for k in among:
        least = min(least, engines[k].load)
    best, longest = -1, -1
    for k in among:
        e = engines[k]
        near = e.load <= least + e.budget
        if near and (e.match > longest or (e.match == longest and e.load < engines[best].load)):
            best, longest = k, e.match
    return best
