"""The less loaded of two replicas drawn at random. Source: Mitzenmacher, IEEE TPDS 12(10), 2001."""

from tierwise.serving.policies.draw import uniform


def route(cluster, request, engines, among):  # type: ignore[no-untyped-def]
    """Two different ones are drawn by the run's seed and the request's turn."""
    n = len(among)
    a = int(uniform(cluster.seed, cluster.turn, 0) * n)
    b = (a + 1 + int(uniform(cluster.seed, cluster.turn, 1) * (n - 1))) % n
    return among[a] if engines[among[a]].load <= engines[among[b]].load else among[b]
