"""The replica that has least left to do counting this request, of which its cache may hold a part: a long prefix draws
requests, a queue repels them. Sources: SGLang's cache-aware router; Srivatsa et al., Preble, arXiv:2407.00023."""

PREFIX = True  # look up what each replica's cache holds of the request


def route(cluster, request, engines, among):  # type: ignore[no-untyped-def]
    """Least load plus tokens of the prompt to compute; ties go to the longest match, then the first."""
    best, least = among[0], engines[among[0]].load + request.prompt - engines[among[0]].match
    for k in among[1:]:
        cost = engines[k].load + request.prompt - engines[k].match
        if cost < least or (cost == least and engines[k].match > engines[best].match):
            best, least = k, cost
    return best
