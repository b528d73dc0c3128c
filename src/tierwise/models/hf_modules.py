"""Which weights a list of module names or patterns covers, whatever names a checkpoint uses for its parts.

Plain names and simple patterns are taken apart into layer, role and projection; an expression with choices, classes or
repeats is matched against the names that checkpoints give the weight (:func:`tierwise.models.hf_names.spellings`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from tierwise.core.errors import TierwiseError
from tierwise.models.hf_names import spellings

_LAYER = re.compile(r"(?:^|\.)(?:layers|blocks|h)\.(\d{1,9}|\*)(?!\d)(.*)$")
_FFN = frozenset({"mlp", "expert", "shared_expert", "router"})
_EVERY = frozenset({"*"})

# In this order: the first that matches names the role.
_ROLES = (
    (re.compile(r"vis|multi_modal|mm_projector|patch_merge|image"), "vision"),
    (re.compile(r"shared_experts?_gate"), "router"),
    (re.compile(r"shared_expert"), "shared_expert"),
    (re.compile(r"experts"), "expert"),
    (re.compile(r"norm|bias|conv1d"), "norm"),
    (re.compile(r"linear_attn|mixer\.(in|out)_proj|mamba"), "ssm"),
    (re.compile(r"attn|attention|mixer\.[qkvo]_proj"), "attn"),
    (re.compile(r"router|(^|\.)gate$"), "router"),
    (re.compile(r"lm_head|(^|\.)head$"), "head"),
    (re.compile(r"embed"), "embed"),
    (re.compile(r"_proj|fc\d|w[123]$|dense_"), "mlp"),
)
_SAME = {
    "kv_a_proj_with_mqa": ("kv_a_proj",), "fused_qkv_a_proj_with_mqa": ("q_a_proj", "kv_a_proj"),
    "qkv_proj": ("q_proj", "k_proj", "v_proj"), "qkv": ("q_proj", "k_proj", "v_proj"),
    "out_proj": ("o_proj", "out_proj"), "gate_up_proj": ("gate_proj", "up_proj"), "w1": ("gate_proj",),
    "w2": ("down_proj",), "w3": ("up_proj",), "in_proj_qkv": ("in_proj.q", "in_proj.k", "in_proj.v"),
    "in_proj_z": ("in_proj.z",), "in_proj_a": ("in_proj.a",), "in_proj_b": ("in_proj.b",),
    "in_proj_qkvz": ("in_proj.q", "in_proj.k", "in_proj.v", "in_proj.z"), "in_proj_ba": ("in_proj.b", "in_proj.a"),
}  # fmt: skip
_EXPERTS = frozenset({"gate_proj", "up_proj", "down_proj", "gate_up_proj", "w1", "w2", "w3"})
_PART = re.compile(r"\.([a-z][a-z0-9_]*)$")
_WHOLE = frozenset({"self_attn", "attn", "attention", "mlp", "ffn", "experts", "shared_experts", "shared_expert",
                    "linear_attn", "mixer", "block_sparse_moe", "feed_forward"})  # fmt: skip


class Selection:
    """Module names or patterns, ready to be asked about weights.

    Understood: full names, ``*`` anywhere, and regular expressions behind ``re:`` (matched from the start of a name, as
    compressed-tensors and GPTQModel do). Single experts count for all of their layer's. Names of prediction modules
    are passed over, since those are not run by default.

    Args:
        patterns: as a quantization section lists them.
    """

    def __init__(self, patterns: Iterable[object]) -> None:
        self._found: dict[tuple[int, str], set[str]] = {}
        self._expressions: list[re.Pattern[str]] = []
        for pattern in patterns:
            if isinstance(pattern, str) and not pattern.startswith("mtp"):
                if _is_expression(pattern):
                    self._expressions.append(_compiled(pattern.removeprefix("re:")))
                else:
                    self._add(pattern)

    def has(self, layer: int, role: str, name: str, beside: bool = False) -> bool:
        """Whether the weight ``name`` of a role in a layer (-1: outside the layers) is covered.

        ``beside``: the layer has a dense MLP beside its experts, so that "mlp" does not mean them.
        """
        name = name.removesuffix(".bias")
        if any(e.match(full) for e in self._expressions for full in spellings(layer, role, name)):
            return True
        roles = [role, "*", "ffn"] if role in _FFN and not (beside and role != "mlp") else [role, "*"]
        for key in ((at, r) for at in (layer, -2) for r in roles):
            parts = self._found.get(key)
            if parts is not None and ("" in parts or name == "experts" or any(_same(p, name) for p in parts)):
                return True
        return False

    def _add(self, pattern: str) -> None:
        text = pattern.removeprefix("re:").replace("\\.", ".").replace(".*", "*").strip("^$").lower()
        if _ROLES[0][0].search(text):
            self._put(-2, frozenset({"vision"}), "")
            return
        match = _LAYER.search(text.replace("layers*", "layers.*").replace("**", "*"))
        layer, rest = -2, text
        if match:
            layer, rest = (-2 if match[1] == "*" else int(match[1])), match[2]
        rest = rest.replace("*", "").strip(".")
        if not rest:
            if match:
                self._put(layer, _EVERY, "")
            return
        part = _PART.search("." + rest)
        last = part[1] if part and part[1] not in _WHOLE else ""
        if "indexer" in rest:
            self._put(layer, frozenset({"attn"}), "index_")
            return
        for shape, role in _ROLES:
            if shape.search(rest):
                whole = role in ("router", "head", "embed") or (role == "expert" and last not in _EXPERTS)
                self._put(layer, frozenset({role}), "" if whole else last)
                return
        if rest.split(".")[-1] in _WHOLE:
            self._put(layer, frozenset({"ffn"}), "")

    def _put(self, layer: int, roles: frozenset[str], part: str) -> None:
        for role in roles:
            self._found.setdefault((layer, role), set()).update(_SAME.get(part, (part,)))


def _is_expression(pattern: str) -> bool:
    """More than a name with gaps in it, and not of an image tower, whose parts are not told apart."""
    plain = pattern.removeprefix("re:").replace("\\.", "").replace(".*", "").strip("^$")
    return pattern.startswith("re:") and any(c in plain for c in "()[]|?+{}\\") and not _ROLES[0][0].search(pattern)


def _compiled(expression: str) -> re.Pattern[str]:
    try:
        return re.compile(expression)
    except re.error as error:
        raise TierwiseError(f"quantization: the pattern {expression!r} is no regular expression: {error}") from None


def _same(part: str, name: str) -> bool:
    """A part may be finer than our weight (in_proj_qkv of in_proj) or coarser (index_ of index_q)."""
    return part == name or name.startswith(part) or part.startswith(name)
