"""Sarathi-Serve: every decoding sequence gets its token, then prompts already begun fill the rest of the budget, then
new ones; nothing stalls. Source: Agrawal et al., OSDI 2024, arXiv:2403.02310."""


def tokens(engine, request, tenant):  # type: ignore[no-untyped-def]
    """Chunks leave room for the tokens of all that decode, wherever they stand in the order of admission."""
    if request.left == 1 and request.made > 0:
        return 1
    decoding = engine.running - engine.prompts - engine.decoding
    return min(request.left, engine.left - max(decoding - 1, 0))
