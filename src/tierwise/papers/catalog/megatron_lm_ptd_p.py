"""PTD-P (arXiv:2104.04473): tensor, pipeline and data parallelism together, with stages interleaved so that the
pipeline idles less."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

from tierwise.papers.base import Layout, TrainStep, contrast, trained, training_rate
from tierwise.papers.catalog._gpt import VOCAB, gpt
from tierwise.papers.types import Claim, Paper

SEQ = 2048.0
PEAK = 312e12  # FLOP/s of an A100 in 16 bits, as the paper takes it
FULL = 2.0  # recomputation, of every layer


@dataclass(frozen=True)
class Row:
    """A line of table 1 or 2: a layout, and teraFLOP/s a GPU."""

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
    zero: float = 0.0

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
# Table 2: the same work with and without model parallelism.
_175B, _530B = ("175B", 96, 12288.0, 96.0), ("530B", 105, 20480.0, 128.0)
PTD_P = (
    Row(*_175B, 8, 12, 384, 1536, 1, 1, 153), Row(*_175B, 8, 12, 768, 1536, 1, 1, 149),
    Row(*_175B, 8, 12, 1536, 1536, 1, 1, 141), Row(*_530B, 8, 35, 560, 2240, 1, 1, 171),
    Row(*_530B, 8, 35, 1120, 2240, 1, 1, 167), Row(*_530B, 8, 35, 2240, 2240, 1, 1, 159),
)  # fmt: skip
ZERO_3 = (
    Row(*_175B, 1, 1, 384, 1536, 4, 1, 144, 3), Row(*_175B, 1, 1, 768, 1536, 2, 1, 88, 3),
    Row(*_175B, 1, 1, 1536, 1536, 1, 1, 44, 3), Row(*_530B, 1, 1, 640, 2560, 4, 1, 138, 3),
    Row(*_530B, 1, 1, 1120, 2240, 2, 1, 98, 3), Row(*_530B, 1, 1, 2240, 2240, 1, 1, 48, 3),
)  # fmt: skip
# Figure 12: 175 billion parameters over 96 GPUs, 8 layers a stage, two of them at a time when interleaved.
INTERLEAVED = 4.0
BATCHES = (12.0, 24.0, 36.0, 48.0, 60.0)


@cache
def step(row: Row) -> TrainStep:
    model = gpt(row.name, row.layers, row.width, row.heads)
    dp = row.gpus / row.tp / row.pp
    layout = Layout(tp=row.tp, pp=row.pp, dp=dp, interleave=row.interleave, micro_batch=row.micro,
                    global_batch=row.batch, seq=SEQ, recompute=FULL, zero=row.zero)  # fmt: skip
    how = "megatron-deepspeed" if row.zero else "megatron-2022"
    return trained(model, f"{row.gpus:.0f}xa100-sxm-80gb", layout, how, flash=False)


def rate(row: Row) -> float:
    """Teraflop/s a GPU."""
    return float(training_rate(step(row), row.flops)) / 1e12


@cache
def seconds(batch: float, interleave: float) -> float:
    return float(step(Row("175B", 96, 12288, 96, 8, 12, 96, batch, 1, interleave, 0)).time)


def gain(batch: float) -> float:
    """Per cent more throughput with interleaved stages."""
    return 100.0 * (seconds(batch, 1.0) / seconds(batch, contrast(1.0, INTERLEAVED)) - 1.0)


_ZERO = (
    "The engine hides nearly all of the gathering beside a layer's work; the authors' runs of DeepSpeed of 2021 lose "
    "more of their rate the more devices share a layer and the smaller the micro-batch (44 of 144 TFLOP/s are left). "
    "FSDP of 2023 loses nothing at 512 (arXiv:2304.11277), so it is that software's, of which no run at hand says more."
)


def listed(rows: tuple[Row, ...], how: str, where: str, why: str = "") -> Iterator[Claim]:
    for row in rows:
        yield Claim(f"{row.name} on {row.gpus:,.0f} GPUs{how}", row.rate, "TFLOP/s", "absolute", where,
                    lambda row=row: rate(row), extra=True, why=why)  # type: ignore[misc]  # fmt: skip


PAPER = Paper(
    slug="megatron-lm-ptd-p",
    title="Efficient Large-Scale Language Model Training on GPU Clusters Using Megatron-LM",
    source="arXiv:2104.04473",
    mechanism="Tensor parallelism in a server, pipelines across servers, data parallelism over both.",
    claims=(
        Claim("a trillion parameters on 3,072 GPUs", 502.0, "PFLOP/s", "absolute", "abstract",
              lambda: rate(LARGEST) * LARGEST.gpus / 1e3),
        Claim("a trillion parameters, of a GPU's peak", 52.0, "%", "absolute", "abstract",
              lambda: 1e14 * rate(LARGEST) / PEAK),
        Claim("throughput gained by interleaved stages", 10.0, "%", "at-least", "abstract; figure 12",
              lambda: max(map(gain, BATCHES)), metric="time", blind=True,
              why="43 % at the smallest batch of figure 12, 5 % at the largest: a bubble of 11 micro-batches, or of 11 "
                  "quarters, beside 12 to 60 of them. Only links half as fast bring the middle below 10 %."),
        *listed(ROWS, "", "table 1"),
        *listed(PTD_P, ", PTD-P", "table 2"),
        *listed(ZERO_3, ", ZeRO-3 alone", "table 2", _ZERO),
    ),
    assumptions=(
        "Layouts, micro-batches, interleaving and full recomputation of the authors' scripts "
        "(NVIDIA/Megatron-LM, examples/sc21/run_table_1.sh and run_figure_12.sh); vocabulary 51,200, 2,048 tokens.",
        "FLOP/s are the authors' count (equation 3: recomputed layers, and attention without the causal half left out) "
        "over the time of a step.",
        "Attention is not fused, as in 2021. Coefficients are those of the nearest framework measured, Megatron-LM of "
        "2022, and for ZeRO-3 DeepSpeed's. No row of either table is among the runs they were fitted to; other runs of "
        "the models of 175B, 530B and 1T, on 64 to 512 GPUs with later software (arXiv:2205.05198), are.",
        "The gain of interleaving is the largest of the five batches of figure 12: the abstract says that it 'can' be "
        "'10+%'.",
        "Table 2, kept whole: model-parallel sizes of 96 and 280 are read as 8 x 12 and 8 x 35, as in table 1, not "
        "interleaved; ZeRO-3 shards over all devices.",
    ),
)  # fmt: skip
