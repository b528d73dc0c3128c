"""Orca: requests join and leave between steps, prompts are computed whole beside sequences that decode.
Source: Yu et al., OSDI 2022. Its own KV manager reserves room for the longest request: ``--kv-manager reserve_max``."""

UNLIMITED = True  # no token budget


def tokens(engine, request, tenant):  # type: ignore[no-untyped-def]
    """All that is left of a prompt."""
    return request.left
