"""vLLM before V1: prompts that wait go first, whole, in steps of their own; sequences decode when none can come in.
Source: vllm-project/vllm 0.4, vllm/core/scheduler.py; Kwon et al., SOSP 2023, arXiv:2309.06180."""

WAITING_FIRST = True


def tokens(engine, request, tenant):  # type: ignore[no-untyped-def]
    """A whole prompt if the budget still holds it; a token for a sequence only in a step without prompts."""
    if request.left > 1 or request.made == 0:
        # A prompt longer than the budget could never come in otherwise: it gets a step to itself, in pieces.
        return request.left if request.left <= engine.left or engine.left == engine.budget else 0
    return 1 if engine.prompts == 0 else 0
