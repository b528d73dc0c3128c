"""Contiguous room for exactly what a request becomes, as if that were known, from a buddy allocator: "Orca (Oracle)"
of Kwon et al., SOSP 2023, arXiv:2309.06180, section 6.1."""


def blocks(engine, request, tokens):  # type: ignore[no-untyped-def]
    """Blocks of the least power of two of tokens that holds the request when it is done."""
    room = 1
    while room < max(request.prompt + request.output, tokens):
        room *= 2
    return request.samples * -(-min(room, max(engine.max_len, tokens)) // engine.block)
