"""PTD-P (arXiv:2104.04473): tensor, pipeline and data parallelism together, with stages interleaved so that the pipeline
idles less."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import tierwise.papers.catalog.deepspeed_inference as dense
from tierwise.papers.base import Layout, TrainStep, contrast, trained, training_rate
from tierwise.papers.types import Claim, Paper

VOCAB, SEQ = 51200.0, 2048.0
PEAK = 312e12  # FLOP/s of an A100 in 16 bits, as the paper takes it
FULL = 2.0  # recomputation, of every layer


@dataclass(frozen=True)
class Row:
    """A line of table 1: parameters in 1e9 and teraFLOP/s a GPU; the layout is that of the authors' scripts."""

    name: str
    layers: int
    width: float
    heads: float
    tp: float
    pp: float
    gpus: float
    batch: float
    micro: float
    interleave: float
    rate: float

    @property
    def flops(self) -> float:
        """Arithmetic of a step as the authors count it, recomputation included (their equation 3)."""
        inner = 1.0 + SEQ / (6.0 * self.width) + VOCAB / (16.0 * self.layers * self.width)
        return 96.0 * self.batch * SEQ * self.layers * self.width**2 * inner


ROWS = (
    Row("1.7B", 24, 2304, 24, 1, 1, 32, 512, 16, 1, 137), Row("3.6B", 30, 3072, 32, 2, 1, 64, 512, 16, 1, 138),
    Row("7.5B", 36, 4096, 32, 4, 1, 128, 512, 16, 1, 142), Row("18B", 40, 6144, 48, 8, 1, 256, 1024, 8, 1, 135),
    Row("39B", 48, 8192, 64, 8, 2, 512, 1536, 4, 1, 138), Row("76B", 60, 10240, 80, 8, 4, 1024, 1792, 2, 3, 140),
    Row("145B", 80, 12288, 96, 8, 8, 1536, 2304, 2, 2, 148), Row("310B", 96, 16384, 128, 8, 16, 1920, 2160, 1, 2, 155),
    Row("530B", 105, 20480, 128, 8, 35, 2520, 2520, 1, 3, 163),
    Row("1T", 128, 25600, 160, 8, 64, 3072, 3072, 1, 1, 163),
)  # fmt: skip
LARGEST = ROWS[-1]
# Figure 12: 175 billion parameters over 96 GPUs, 8 layers a stage, two of them at a time when interleaved.
INTERLEAVED = 4.0
BATCHES = (12.0, 24.0, 36.0, 48.0, 60.0)


@cache
def step(row: Row) -> TrainStep:
    model = dense.gpt(row.name, row.layers, row.width, row.heads)
    dp = row.gpus / row.tp / row.pp
    layout = Layout(tp=row.tp, pp=row.pp, dp=dp, interleave=row.interleave, micro_batch=row.micro,
                    global_batch=row.batch, seq=SEQ, recompute=FULL)  # fmt: skip
    return trained(model, f"{row.gpus:.0f}xa100-sxm-80gb", layout, "megatron-2022", flash=False)


def rate(row: Row) -> float:
    """Teraflop/s a GPU."""
    return float(training_rate(step(row), row.flops)) / 1e12


@cache
def seconds(batch: float, interleave: float) -> float:
    return float(step(Row("175B", 96, 12288, 96, 8, 12, 96, batch, 1, interleave, 0)).time)


def gain(batch: float) -> float:
    """Per cent more throughput with interleaved stages."""
    return 100.0 * (seconds(batch, 1.0) / seconds(batch, contrast(1.0, INTERLEAVED)) - 1.0)


PAPER = Paper(
    slug="megatron-lm-ptd-p",
    title="Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM",
    source="arXiv:2104.04473",
    mechanism="Tensor parallelism in a server, pipelines across servers, data parallelism over both; stages interleaved.",
    claims=(
        Claim("a trillion parameters on 3,072 GPUs", 502.0, "PFLOP/s", "absolute", "abstract",
              lambda: rate(LARGEST) * LARGEST.gpus / 1e3),
        Claim("a trillion parameters, of a GPU's peak", 52.0, "%", "absolute", "abstract",
              lambda: 1e14 * rate(LARGEST) / PEAK),
        Claim("throughput gained by interleaved stages", 10.0, "%", "at-least", "abstract; figure 12",
              lambda: max(map(gain, BATCHES)), metric="time"),
        *(
            Claim(f"{row.name} on {row.gpus:,.0f} GPUs", row.rate, "TFLOP/s", "absolute", "table 1",
                  lambda row=row: rate(row), extra=True)  # type: ignore[misc]
            for row in ROWS
        ),
    ),
    assumptions=(
        "Layouts, micro-batches, interleaving and full recomputation of the authors' scripts "
        "(NVIDIA/Megatron-LM, examples/sc21/run_table_1.sh and run_figure_12.sh); vocabulary 51,200, 2,048 tokens.",
        "FLOP/s are the authors' count (equation 3: recomputed layers, and attention without the causal half left out) "
        "over the time of a step.",
        "Attention is not fused, as in 2021. Coefficients are those of the nearest framework measured, Megatron-LM of "
        "2022; no row of table 1 is among the runs they were fitted to.",
        "The gain of interleaving is the largest of the five batches of figure 12, as the abstract's is "
        "('10+%'); table 1 and its 13 numbers are kept whole.",
    ),
)  # fmt: skip
