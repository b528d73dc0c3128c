"""When requests arrive, one file each, found by place: ``times(n, rng, **how) -> seconds`` (n,), not decreasing.

A file may also have ``closed_loop(**how) -> int``: the requests a client keeps in flight.
"""
