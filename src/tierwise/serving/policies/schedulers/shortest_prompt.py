"""Shortest prompt first, with age: waiting a second counts as much as fifteen tokens, so no prompt starves. Source: Shi
et al., Nexus, arXiv:2507.06608, algorithm 2."""

AGE = 15.0  # tokens a second


def tokens(engine, request, tenant):  # type: ignore[no-untyped-def]
    """As vLLM V1."""
    return min(request.left, engine.left)


def order(engine, request, tenant):  # type: ignore[no-untyped-def]
    """Length less age; what the clock shows is the same for all."""
    return request.prompt + AGE * request.ready
