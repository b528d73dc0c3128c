"""What commands of several engines say alike: formats, routers of one kind, benchmark clients that grew from vLLM's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tierwise.launch.asked import AskedEngine
from tierwise.launch.files import Router, Urls
from tierwise.serving.deployment import Deployment, Replicas

DTYPES = {"bf16": "bfloat16", "fp16": "float16", "fp32": "float32"}
"""Names of PyTorch, which ``--dtype`` takes."""


@dataclass(frozen=True)
class Formats:
    """Number formats as an engine names them; any other must be in the checkpoint.

    Attributes:
        weights: methods by which weights are quantized at load; ``arithmetic``: the activations that go with each.
        kv: types of the cache.
    """

    weights: Mapping[str, str]
    arithmetic: Mapping[str, str]
    kv: Mapping[str, str]

    def flags(self, want: AskedEngine) -> list[str]:
        """Arguments for what was asked, where there are any."""
        every = (("--dtype", DTYPES, want.activations), ("--quantization", self.weights, want.weights),
                 ("--kv-cache-dtype", self.kv, want.kv))  # fmt: skip
        return [part for flag, names, found in every if found in names for part in (flag, names[found])]

    def missing(self, want: AskedEngine) -> list[str]:
        """What was asked and has none, each as a sentence."""
        out = []
        if want.weights not in self.weights:
            out += in_checkpoint(want)
        if want.activations != self.arithmetic.get(want.weights):
            out += by_checkpoint(want)
        if want.kv.strip("/") and want.kv not in self.kv:
            out.append(f"KV cache in {want.kv}: `--kv-cache-dtype` has no such type; the files leave the model's own.")
        return out


def in_checkpoint(want: AskedEngine) -> list[str]:
    """Weights in a format that the checkpoint has to be in."""
    if not want.weights:
        return []
    return [f"Weights in {want.weights}: name a checkpoint quantized so; the engine reads the format from it."]


def by_checkpoint(want: AskedEngine) -> list[str]:
    """Activations in a format that no argument says."""
    if not want.activations or want.activations in DTYPES:
        return []
    return [f"Activations in {want.activations}: follows from how the checkpoint is quantized, not an argument."]


def length_of_drafts(group: Replicas) -> list[str]:
    """Multi-token prediction without how many tokens it predicts."""
    if not group.plan.mtp or group.settings.speculation.length:
        return []
    return ["`mtp`: multi-token prediction runs as speculative decoding; give it a length."]


# Policies of the routers that grew from SGLang's.
_POLICIES = {"round_robin": "round_robin", "power_of_two": "power_of_two", "prefix_aware": "cache_aware"}


def router(start: list[str], deployment: Deployment, urls: Urls, *, port: str, pairs: list[str]) -> Router | None:
    """What spreads requests over the engines at ``urls``; None where there is one.

    Args:
        start: the router's command. ``pairs``: its arguments where prefill is apart, engines that decode left out.
    """
    if sum(map(len, urls.values())) < 2:
        return None
    out = [*start, "--host", "0.0.0.0", "--port", port]
    out += ["--policy", _POLICIES.get(deployment.router, "round_robin")]
    if "prefill" in urls:
        out += [*pairs, *(part for url in urls["decode"] for part in ("--decode", url))]
    else:
        out += ["--worker-urls", *urls["both"]]
    return Router(tuple(out), install=True)


def routing(deployment: Deployment, name: str) -> list[str]:
    """What the deployment asks of such a router, of that name, that the command does not say."""
    if deployment.router in _POLICIES:
        return []
    return [f"Router `{deployment.router}`: {name} has no such policy; the files say round_robin."]


def random_requests(load: Mapping[str, float]) -> list[str]:
    """Lengths, number and arrival of made-up requests; ``load`` has prompt, output, requests and rate or
    concurrency."""
    out = ["--random-input-len", f"{load['prompt']:.0f}", "--random-output-len", f"{load['output']:.0f}"]
    out += ["--num-prompts", f"{load['requests']:.0f}"]
    out += ["--request-rate", f"{load['rate']:g}"] if "rate" in load else []
    return out + (["--max-concurrency", f"{load['concurrency']:.0f}"] if "concurrency" in load else [])
