"""As many replicas as keep the queue of each short: one more while requests wait, one less when the rest would do."""

INTERVAL = 15.0  # seconds between two looks: the default sync period of Kubernetes' Horizontal Pod Autoscaler


def replicas(cluster, engines):  # type: ignore[no-untyped-def]
    """One more if more wait than replicas are up; one less if nobody waits and all that runs fits on one less."""
    up, starting, waiting, running, places = 0, 0, 0, 0, 0
    for e in engines:
        up += e.open
        starting += e.starting
        waiting += e.waiting
        running += e.running
        places = max(places, e.max_seqs)
    if waiting > up and starting == 0:
        return up + 1
    if waiting == 0 and 2 * running < places * (up - 1):
        return up + starting - 1
    return up + starting
