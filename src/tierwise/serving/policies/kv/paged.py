"""PagedAttention: blocks as they are needed. Source: Kwon et al., SOSP 2023, arXiv:2309.06180."""

SHARES = True  # blocks may be shared through a prefix cache


def blocks(engine, request, tokens):  # type: ignore[no-untyped-def]
    """Blocks that hold so many tokens; sequences of one prompt share those that it fills."""
    whole = min(tokens, request.prompt) // engine.block if request.samples > 1 else 0
    return whole + request.samples * (-(-tokens // engine.block) - whole)
