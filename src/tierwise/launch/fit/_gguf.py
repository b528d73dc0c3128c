"""What llama.cpp and its forks are told alike."""

from __future__ import annotations

from collections.abc import Sequence

from tierwise.launch.fit import Divided

# Tensors of a layer by their names in a GGUF file (llama.cpp, src/llama-arch.cpp).
EXPERTS, FEED = "ffn_(up|down|gate)_exps", "ffn_(up|down|gate)"
ALL = 99  # layers that people say for all


def placement(d: Divided) -> list[str]:
    """``-ngl`` counts the output layer first and then layers from the last one; ``--n-cpu-moe`` counts layers from the
    first; ``-ot`` puts tensors whose name matches on a device, whatever ``-ngl`` says."""
    words = ["-ngl", str(d.depth + 1 - len(d.host_layers) if d.host_layers else max(ALL, d.depth + 1))]
    left = [n for n in d.routed if n not in d.host_layers]
    if d.host_experts:
        count = d.host_experts[-1] + 1
        if list(d.host_experts) == [n for n in left if n < count] and not d.host_layers:
            words += ["--n-cpu-moe", str(count)]
        else:
            words += ["-ot", f"'{tensors(d.host_experts, EXPERTS)}=CPU'"]
    if d.host_feed:
        words += ["-ot", f"'{tensors(d.host_feed, FEED)}=CPU'"]
    if d.host_caches:
        words += ["-nkvo"]
    return words


def tensors(layers: Sequence[int], name: str) -> str:
    """A regular expression for a tensor of some layers."""
    return rf"blk\.({'|'.join(map(str, layers))})\.{name}"


def sizes(d: Divided) -> list[str]:
    """Context, micro-batch, threads and caches. Batches hold at least a micro-batch."""
    words = ["-c", str(d.context * d.batch), "-ub", str(d.ubatch), "-b", str(max(2048, d.ubatch))]
    if d.batch > 1:
        words += ["-np", str(d.batch)]
    if d.threads and not d.whole:
        words += ["-t", str(d.threads)]
    if not d.whole and not d.from_disk:
        words += ["--no-mmap"]  # weights in pinned memory are copied at the link's own rate
    return words


def kv(name: str) -> str:
    """A format as ``-ctk`` and ``-ctv`` take it."""
    return {"fp16": "f16", "fp32": "f32"}.get(name, name)


def path(d: Divided) -> str:
    """Where the file is expected: named as people name them."""
    return f"{d.model.rsplit('/', 1)[-1]}-{d.weights.upper() or 'own'}.gguf"
