"""How long a new replica takes to get its weights: from disk, from host memory, or from a replica that runs."""

from __future__ import annotations

import numpy as np

from tierwise.core.errors import UnknownName
from tierwise.memory.account import weight_bytes
from tierwise.models.types import Model
from tierwise.serving.deployment import Replicas
from tierwise.serving.kv_paths import kv_paths

SOURCES = ("disk", "host", "peer")


def startup(model: Model, replicas: Replicas, source: str) -> float:
    """Seconds until every device of one new replica holds its part of the weights.

    ``disk``: one data-center drive serves the whole replica. ``host``: each device reads over its own host link.
    ``peer``: each device copies from its counterpart in a running replica over the link between them, as elastic
    serving of experts does (ElasticMoE, arXiv:2510.02613). An engine's own start (process, graphs, warm-up), which
    such systems do ahead, is not in it: give ``Deployment.startup`` seconds where it is.

    Raises:
        UnknownName: another source.
    """
    if source not in SOURCES:
        raise UnknownName("source of weights", source, SOURCES, f"Seconds (60s), or one of {', '.join(SOURCES)}.")
    ways = kv_paths(replicas)
    each = float(np.max(sum(weight_bytes(model, replicas.plan).values(), 0.0)))
    bandwidth = {"disk": ways.disk, "host": ways.swap, "peer": ways.transfer}[source]
    return each * float(replicas.plan.devices) / bandwidth if bandwidth > 0.0 else float("inf")
