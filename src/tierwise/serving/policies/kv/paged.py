"""PagedAttention: blocks as they are needed. Source: Kwon et al., SOSP 2023, arXiv:2309.06180."""


def blocks(engine, request, tokens):  # type: ignore[no-untyped-def]
    """Blocks that hold so many tokens."""
    return -(-tokens // engine.block)
