"""Deep Optimizer States (arXiv:2410.21316): the device updates every second group of optimizer states itself, which
come in from the host's memory and go out again while the host updates the others."""

from __future__ import annotations

from functools import cache

from tierwise.models.blocks.attention import Attention
from tierwise.models.blocks.ends import Embedding, Head
from tierwise.models.blocks.mlp import MLP
from tierwise.models.family import pre_norm, stack
from tierwise.models.types import Model
from tierwise.papers.base import Layout, contrast, trained
from tierwise.papers.types import Claim, Paper

VOCAB = 50304.0
# A node of Polaris (one socket, two channels of memory a process) and one of two sockets with 48 cores each.
POLARIS, H100 = "4xa100-sxm-40gb + epyc-7543", "4xh100-sxm + 2x xeon-8480"
# Layers, width, inner width, heads (arguments that the logs print); machine; seconds of an iteration with updates on
# the host, and on both.
RUNS = {
    "7B on four A100": (32, 4096.0, 11008.0, 32.0, POLARIS, 4.23, 2.74),
    "8.3B on four A100": (72, 3072.0, 11008.0, 32.0, POLARIS, 6.41, 4.14),
    "13B on four A100": (40, 5120.0, 13824.0, 40.0, POLARIS, 7.53, 4.73),
    "20B on four H100": (40, 5120.0, 20480.0, 64.0, H100, 7.27, 2.98),
}
GROUPS = 4.0  # of queries' heads share keys and values: num_key_value_heads in the logs is the number of those heads
ALONE = Layout(dp=4.0, global_batch=4.0, seq=2048.0, zero=3.0, recompute=2.0, offload=1.0)
SHARED = Layout(dp=4.0, global_batch=4.0, seq=2048.0, zero=3.0, recompute=2.0, offload=1.0, device_update=0.5)


@cache
def model(run: str) -> Model:
    depth, width, inner, heads = RUNS[run][:4]
    layer = pre_norm("layer", width, Attention(width, heads, GROUPS, width / heads), MLP(width, inner))
    ends = {"before": (Embedding(VOCAB, width),), "after": (Head(width, VOCAB),)}
    return Model(run, "llama", width, VOCAB, (stack("decoder", [layer] * int(depth), **ends),))


def on_host(run: str) -> float:
    """Seconds of an iteration whose backward pass waits for gradients to reach the host, which updates all states."""
    return float(trained(model(run), RUNS[run][4], ALONE, "megatron-deepspeed", flash=False, reduced=2.0,
                         waits=1.0).time)


def on_both(run: str) -> float:
    """Seconds with copies beside the pass, and with every second group of states updated on the device."""
    return float(trained(model(run), RUNS[run][4], SHARED, "megatron-deepspeed", flash=False, reduced=2.0).time)


def gain(run: str) -> float:
    return on_host(run) / contrast(on_host, on_both)(run)


_HOST = (
    "A shared update takes 0.95 ns a parameter of a process on the A100 and 0.90 in the logs, 0.31 and 0.34 on the "
    "H100. Forward and backward pass take longer in the logs, 4 to 9 ms for each layer's forward pass however small it "
    "is, so the host starts kernels and gathers weights more slowly than is priced; and about 0.4 s of each iteration "
    "lie in none of its phases."
)
_FLUSH = (
    f"{_HOST} Gradients hold up the backward pass for 0.5 to 0.9 ns a parameter on the A100's host and 0.9 on the "
    "H100's; a copy at half of the link's rate and a cast at the memory's are 0.3 and 0.1."
)
_BOTH = "Both sides are mostly the host's memory, whose rate cancels."


def _rows(run: str) -> tuple[Claim, ...]:
    *_, base, both = RUNS[run]
    logs = "authors' logs (mauryaavinash95/deep-optimizer-states-results)"
    ratio = Claim(f"{run}, updates on both over the host alone", round(base / both, 2), "x", "ratio", logs,
                  lambda: gain(run), extra=True, blind=True, why=_BOTH)  # fmt: skip
    return (
        Claim(f"{run}, updates on the host", base, "s", "absolute", logs, lambda: on_host(run), extra=True, why=_FLUSH),
        Claim(f"{run}, updates on both", both, "s", "absolute", logs, lambda: contrast(on_host, on_both)(run),
              extra=True, why=_HOST),
        *((ratio,) if RUNS[run][4] == POLARIS else ()),
    )  # fmt: skip


PAPER = Paper(
    slug="deep-optimizer-states",
    title="Deep Optimizer States: Towards Scalable Training of Transformer Models Using Interleaved Offloading",
    source="arXiv:2410.21316",
    mechanism="Host and device update optimizer states side by side; those of the device come in and go out meanwhile.",
    claims=(
        Claim("iteration speed over other offloading", 2.5, "x", "ratio", "abstract",
              lambda: gain("20B on four H100"), why=_FLUSH),
        *(row for run in RUNS for row in _rows(run)),
    ),
    assumptions=(
        "Megatron-DeepSpeed with ZeRO-3, one sequence of 2048 tokens a GPU, full recomputation, unfused attention, "
        "states in fp32, groups of 100 million parameters, each process bound to a GPU's cores and memory (arguments "
        "and configuration that the logs print). Four heads of keys and values: with them the models have the "
        "parameters that the logs count, 5.95, 9.14, 11.32 and 15.33 billion.",
        "2.5 is that of the 20B on the H100, the largest gain in the logs; its ratio is the abstract's claim.",
        "Updates on the host: prefetch0, flush_async0, DeepSpeed as it was, whose gradients are waited for. Updates on "
        "both: prefetch1, flush_async1, gaps 2: every second group on the device.",
        "What the host's memory reaches in an update was chosen on the logs of the A100 with updates on the host "
        "(training/offload.py), so those of one phase of four iterations are no test; shared updates and the H100 are.",
        "The H100's host has 48 cores a socket (numactl in its logs): taken for sockets of Xeon 8480, whose memory is "
        "the same.",
    ),
)  # fmt: skip
