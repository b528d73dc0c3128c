"""How long a request may be that an engine has room for: what its launch file says, so that it starts."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tierwise.serving.constants import CONSTANTS
from tierwise.serving.deployment import Deployment, Replicas
from tierwise.serving.pricing import pool_of

# Tokens to which a length that memory limits is rounded down.
STEP = 256
# The longest context that is looked at where a model has no limit of its own.
LONGEST = 2.0**20


def fitted(deployment: Deployment, least: float = 0.0) -> Deployment:
    """The deployment with requests no longer than its engines' caches hold.

    An engine refuses to start when one request of ``max_model_len`` tokens is larger than the room it finds for caches
    (vLLM: "... GiB KV cache is needed, which is larger than the available KV cache memory").

    Args:
        least: tokens of a request that must be served, which the safety margin does not go below.
    """
    return replace(deployment, groups=tuple(_fitted(deployment, g, least) for g in deployment.groups))


def _fitted(deployment: Deployment, group: Replicas, least: float) -> Replicas:
    asked = float(group.settings.max_len or min(deployment.model.max_context, LONGEST))
    held = float(np.max(pool_of(deployment.model, group, asked).longest))
    if held >= asked / CONSTANTS["room.margin"]:
        return group
    # Room is known to a few per cent only, and on a full device these are many tokens.
    safe = max(CONSTANTS["room.margin"] * held, min(held, least))
    if safe >= asked:
        return group
    length = np.floor(safe / STEP) * STEP if safe - least >= STEP else np.floor(safe)
    return replace(group, settings=replace(group.settings, max_len=int(max(length, 1.0))))
