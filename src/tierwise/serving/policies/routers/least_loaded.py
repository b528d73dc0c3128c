"""The replica with the fewest tokens still to compute."""


def route(cluster, request, engines, among):  # type: ignore[no-untyped-def]
    """The first of those with the least load."""
    best = among[0]
    for k in among:
        if engines[k].load < engines[best].load:
            best = k
    return best
