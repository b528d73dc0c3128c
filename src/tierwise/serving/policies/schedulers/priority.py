"""The most urgent first, and the least urgent loses its place when blocks run out. Source: vllm-project/vllm,
``--scheduling-policy priority`` (there smaller is more urgent; in a trace larger is)."""


def tokens(engine, request, tenant):  # type: ignore[no-untyped-def]
    """As vLLM V1."""
    return min(request.left, engine.left)


def order(engine, request, tenant):  # type: ignore[no-untyped-def]
    """Urgency; equals keep the order of arrival."""
    return -float(request.priority)
