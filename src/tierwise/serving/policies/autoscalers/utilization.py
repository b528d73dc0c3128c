"""As many replicas as bring the mean share of KV blocks in use to a target, as Kubernetes' Horizontal Pod Autoscaler
scales: replicas x measured / target, rounded up, unless within a tenth of it (its default tolerance)."""

INTERVAL = 15.0
TARGET = 0.7
TOLERANCE = 0.1


def replicas(cluster, engines):  # type: ignore[no-untyped-def]
    """ceil(replicas x mean use / target)."""
    up, starting, used = 0, 0, 0.0
    for e in engines:
        if e.open == 1:
            up += 1
            used += 1.0 - (e.free + e.spare) / e.blocks
        starting += e.starting
    ratio = used / max(up, 1) / TARGET
    if abs(ratio - 1.0) <= TOLERANCE:
        return up + starting
    return int(-(-(up * ratio) // 1))
