"""Static batches, as FasterTransformer and plain generation loops run them: a batch comes in together, nobody joins it,
and places of answers that are done stay taken until the last one is. Source: described in Yu et al., OSDI 2022."""

HOLD = True  # places of those that are done stay taken
UNLIMITED = True  # no token budget


def tokens(engine, request, tenant):  # type: ignore[no-untyped-def]
    """Prompts come in only while nothing decodes; then a token each."""
    if request.left == 1 and request.made > 0:
        return 1
    return request.left if engine.decoding == 0 and engine.running == engine.prompts else 0
