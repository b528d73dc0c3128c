"""How many tokens a text has, about, by the rule of ``tokens.yaml``."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

import numpy as np
import yaml

from tierwise.serving.traffic.trace import Floats


def tokens(texts: list[str]) -> Floats:
    """Whole tokens of each text (n,), at least 1 where there is any; nothing a chat template adds is counted."""
    per = _rule()
    plain = np.array([len(t.encode("ascii", "ignore")) for t in texts], np.float64)
    other = np.array([len(t) for t in texts], np.float64) - plain
    return np.asarray(np.ceil(plain * per["ascii"] + other * per["other"]), np.float64)


def notice() -> str:
    """The rule, for people."""
    per = _rule()
    return (f"tokens are estimated from the text: {per['ascii']} per ASCII character, {per['other']} per other "
            f"({per['source'].split(' ')[0]})")  # fmt: skip


@cache
def _rule() -> dict[str, Any]:
    text = files("tierwise.serving.traffic").joinpath("tokens.yaml").read_text(encoding="utf-8")
    rule: dict[str, Any] = yaml.safe_load(text)["tokens_per_character"]
    return rule
