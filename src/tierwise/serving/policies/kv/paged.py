"""PagedAttention: blocks as they are needed. Source: Kwon et al., SOSP 2023, arXiv:2309.06180."""

SHARES = True  # blocks may be shared through a prefix cache


def blocks(engine, request, tokens):  # type: ignore[no-untyped-def]
    """Blocks that hold so many tokens. Sequences of one prompt share those it fills, and copy the last, half-full one
    when they go apart."""
    if request.samples == 1 or tokens <= request.prompt:
        return -(-tokens // engine.block)
    whole = request.prompt // engine.block
    return whole + request.samples * (-(-tokens // engine.block) - whole)
