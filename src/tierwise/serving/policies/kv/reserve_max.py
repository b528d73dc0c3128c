"""Orca as published: room for as many tokens as a request may have, taken when it is admitted. Source: Yu et al.,
Orca, OSDI 2022; "Orca (Max)" of Kwon et al., SOSP 2023, arXiv:2309.06180."""


def blocks(engine, request, tokens):  # type: ignore[no-untyped-def]
    """Blocks of the longest request that is allowed."""
    return request.samples * -(-max(engine.max_len, tokens) // engine.block)
