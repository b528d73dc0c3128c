"""Log-normal: what prompts and answers of people look like, a long tail to the right."""

from __future__ import annotations

import numpy as np

from tierwise.core.errors import TierwiseError
from tierwise.serving.traffic.trace import Floats


def draw(n: int, rng: np.random.Generator, *, mean: float, cv: float = 1.0, low: float = 0.0,
         high: float = np.inf) -> Floats:  # fmt: skip
    """Values (n,) of that mean and deviation over mean, those beyond ``low`` and ``high`` put on them."""
    if mean <= 0:
        raise TierwiseError("lognormal: mean: found 0; allowed: a number above 0")
    sigma2 = np.log1p(cv * cv)
    return np.clip(rng.lognormal(np.log(mean) - sigma2 / 2, np.sqrt(sigma2), n), low, high)
