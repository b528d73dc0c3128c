"""Fair between tenants: the one that was served least goes first, and who comes back after a pause starts from the
least served of those present. Sources: Sheng et al., Fairness in Serving Large Language Models (VTC), OSDI 2024,
arXiv:2401.00588; Cao et al., Locality-aware Fair Scheduling (DLPM), arXiv:2501.14312, which counts tokens computed
so that a cached prefix costs its tenant nothing."""

BY_TENANT = True


def tokens(engine, request, tenant):  # type: ignore[no-untyped-def]
    """As vLLM V1."""
    return min(request.left, engine.left)


def order(engine, request, tenant):  # type: ignore[no-untyped-def]
    """Tokens this engine has computed for the tenant."""
    return tenant.served
