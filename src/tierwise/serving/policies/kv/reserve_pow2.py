"""Contiguous room for the prompt and for at most twice the answer, from a buddy allocator: "Orca (Pow2)" of Kwon et
al., SOSP 2023, arXiv:2309.06180, section 6.1."""


def blocks(engine, request, tokens):  # type: ignore[no-untyped-def]
    """Blocks of the least power of two of tokens that holds the prompt and the answer, that rounded up likewise."""
    answer, room = 1, 1
    while answer < request.output:
        answer *= 2
    while room < max(request.prompt + answer, tokens):
        room *= 2
    return request.samples * -(-min(room, max(engine.max_len, tokens)) // engine.block)
