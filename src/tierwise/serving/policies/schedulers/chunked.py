"""vLLM V1: what runs goes first, a token for each that decodes and a chunk for each that prefills; then what waits,
as far as the token budget lasts. Source: vllm-project/vllm, vllm/v1/core/sched/scheduler.py."""


def tokens(engine, request, tenant):  # type: ignore[no-untyped-def]
    """Tokens of this request in the step that is put together: as many as the budget still holds."""
    return min(request.left, engine.left)
