"""vAttention: contiguous in virtual memory, backed by pages of the device's memory as they are needed; a page of each
layer's keys and values holds far more tokens than a block. Source: Prabhu et al., ASPLOS 2025, arXiv:2405.04437."""

PAGE_BYTES = 2 * 2**20  # the granularity of CUDA's virtual memory, for each of K and V of each layer (section 5)


def blocks(engine, request, tokens):  # type: ignore[no-untyped-def]
    """Blocks of the pages that hold so many tokens."""
    return request.samples * -(-tokens // (engine.page * engine.block)) * engine.page
