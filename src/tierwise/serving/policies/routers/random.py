"""Any replica, each as likely."""

from tierwise.serving.policies.draw import uniform


def route(cluster, request, engines, among):  # type: ignore[no-untyped-def]
    """A replica drawn by the run's seed and the request's turn."""
    return among[int(uniform(cluster.seed, cluster.turn, 0) * len(among))]
