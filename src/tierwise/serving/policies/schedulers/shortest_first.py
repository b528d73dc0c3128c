"""Shortest job first, knowing each answer's length: what a perfect predictor of lengths would be worth."""


def tokens(engine, request, tenant):  # type: ignore[no-untyped-def]
    """As vLLM V1."""
    return min(request.left, engine.left)


def order(engine, request, tenant):  # type: ignore[no-untyped-def]
    """Tokens still to compute."""
    return request.prompt + request.output
