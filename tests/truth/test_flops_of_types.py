"""FLOPs and caches of every decoder type of `transformers`, cut to few layers, against its own code on the meta device.

As in ``test_flops``, products are counted as dense as the eager code runs them. A cache is compared by its elements:
keys, values, latents and indexers' keys of each layer, whatever format an engine keeps them in.
"""

from __future__ import annotations

import json
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="FLOP truth needs torch and transformers: pip install tierwise[truth]")
transformers = pytest.importorskip("transformers", reason="FLOP truth needs transformers")

from test_class_defaults import TOLD  # noqa: E402
from test_flops import counted, dense  # noqa: E402

from tierwise.core.errors import TierwiseError  # noqa: E402
from tierwise.models.hf import from_config  # noqa: E402
from tierwise.models.step import Step  # noqa: E402
from tierwise.models.types import Model  # noqa: E402
from tierwise.scenario.types import Plan  # noqa: E402

pytestmark = pytest.mark.truth

# A chunk of the recurrences, so that none is padded; and half of it as every window.
PROMPT, WINDOW, LAYERS, BATCH = 256, 128, 8, 2
EVERY, LEAST = 3, 20
TOLERANCE = 0.01
# The eager code does other work than the model has, or keeps more.
OTHERWISE = {
    "llama4_text": "all experts multiply every token",
    "rwkv": "one token is broadcast against the states of several",
    "doge": "a decode step maps every cached value again",
    "openai-gpt": "keeps no cache",
    "gpt_neo": "layers with a window keep everything",
    "deepseek_v4": "buffers of what is yet to be compressed",
}


def types() -> list[tuple[str, str]]:
    from transformers.models.auto import modeling_auto as auto

    names = auto.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
    return [(kind, name if isinstance(name, str) else name[0]) for kind, name in sorted(names.items())]


def built(kind: str, name: str) -> tuple[Any, Any] | None:
    """(configuration, model) of few layers, where the class allows that, with short windows."""
    from transformers import CONFIG_MAPPING

    for sizes in ({"num_hidden_layers": LAYERS}, {}):
        try:
            config = CONFIG_MAPPING[kind](**sizes)
            for part in (config, config.get_text_config(decoder=True)):
                if isinstance(getattr(part, "sliding_window", None), int):
                    part.sliding_window = WINDOW
            with torch.device("meta"):
                model = getattr(transformers, name)(config)
        except Exception:  # many classes cannot be built from their defaults alone, or not with any depth
            continue
        for part in {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values():
            part._attn_implementation = "eager"
            part._experts_implementation = "batched_mm"
        return config, model.eval()
    return None


def kept(cache: Any) -> int | None:
    """Elements that an attention cache holds; None where layers keep states of other kinds."""
    total = 0
    for layer in getattr(cache, "layers", ()):
        names = {n for n, v in vars(layer).items() if isinstance(v, torch.Tensor) and v.numel()}
        if names - {"keys", "values", "indexer_keys", "_sliding_window_tensor"} or "Linear" in type(layer).__name__:
            return None
        total += sum(getattr(layer, n).numel() for n in names if not n.startswith("_"))
    return total or None


def cached(model: Model, step: Step) -> float:
    runs = [run for stack in model.stacks if stack.stream == "text" and stack.active for run in stack.runs()]
    return float(sum(n * s.elements * step.seqs for kind, n in runs for b in kind.blocks for s in b.state(step)
                     if s.role == "kv"))  # fmt: skip


def rows(kind: str, name: str) -> dict[str, float] | None:
    """Relative differences by phase; None where either side refuses or the reading says that it differs."""
    if (found := built(kind, name)) is None:
        return None
    config, theirs = found
    try:
        ours = from_config({**json.loads(config.to_json_string(use_diff=False)), "architectures": [name]}, kind)
    except TierwiseError:
        return None
    if ours.task != "generate" or any(word in note for note in ours.notes for word in TOLD):
        return None
    prompt, token = (torch.ones(BATCH, n, dtype=torch.long, device="meta") for n in (PROMPT, 1))
    state: dict[str, Any] = {}

    def prefill() -> None:
        state["out"] = theirs(input_ids=prompt, use_cache=True)

    def decode() -> None:
        held = {n: v for n in ("past_key_values", "cache_params") if (v := getattr(state["out"], n, None)) is not None}
        theirs(input_ids=token, use_cache=True, **held)

    try:
        real = counted(prefill)
        cache = getattr(state["out"], "past_key_values", None)
        entries = kept(cache)
        again = counted(decode)
    except Exception:  # what depends on data does not run without it
        return None
    step = Step(ours, Plan(), float(BATCH), float(PROMPT), 0.0, "prefill", logits=float(PROMPT))
    out = {"prefill": dense(step) / real - 1.0}
    if again:  # latent attention expands the whole cache there, which is our formula of prompts with a past
        one = [dense(Step(ours, Plan(), float(BATCH), 1.0, float(PROMPT), p)) for p in ("decode", "prefill")]
        out["decode"] = min((mine / again - 1.0 for mine in one), key=abs)
    if entries:
        out["cache"] = cached(ours, Step(ours, Plan(), float(BATCH), 1.0, PROMPT - 1.0, "decode")) / entries - 1.0
    return out


def test_work_and_caches_of_decoder_types_are_those_of_their_code(capsys: pytest.CaptureFixture[str]) -> None:
    found = {kind: r for kind, name in types()[::EVERY] if kind not in OTHERWISE and (r := rows(kind, name))}
    off = {f"{kind} {phase}": f"{v:+.1%}" for kind, r in found.items() for phase, v in r.items() if abs(v) > TOLERANCE}
    with capsys.disabled():
        print(f"\n{sum(map(len, found.values()))} numbers of {len(found)} types; off: {off}")
    assert len(found) >= LEAST
    assert not off


@pytest.mark.parametrize("kind", ["zamba", "zamba2"])
def test_keys_of_a_wider_input_than_queries_are_multiplied_whole(kind: str) -> None:
    found = rows(kind, dict(types())[kind])
    assert found is not None and max(map(abs, found.values())) < TOLERANCE
