"""OneFlow (arXiv:2110.15032): how tensors are divided says which exchanges there are."""

from __future__ import annotations

from dataclasses import dataclass

from tierwise.papers.base import Layout, trained, training_rate
from tierwise.papers.catalog._gpt import VOCAB, gpt
from tierwise.papers.types import Claim, Paper

SEQ = 2048.0


@dataclass(frozen=True)
class Run:
    """A line of the authors' table: data, tensor and pipeline parallel degrees, sequences of a micro-batch and of a
    step, width, heads, layers; TFLOP/s of a GPU with OneFlow and with Megatron-LM."""

    dp: int
    tp: int
    pp: int
    micro: float
    batch: float
    width: float
    heads: float
    layers: int
    oneflow: float
    megatron: float

    @property
    def name(self) -> str:
        degrees = f"{self.dp} x {self.tp} x {self.pp}"
        return f"{degrees}, {self.batch:.0f} sequences, {self.layers} layers of {self.width:.0f}"


RUNS = (
    Run(1, 1, 1, 2, 2, 1536, 16, 16, 49.43, 43.25),
    Run(8, 1, 1, 2, 16, 1536, 16, 16, 48.03, 41.74),
    Run(16, 1, 1, 2, 32, 1536, 16, 16, 41.00, 30.21),
    Run(32, 1, 1, 2, 64, 1536, 16, 16, 38.71, 29.37),
    Run(1, 1, 1, 8, 8, 768, 12, 12, 37.98, 32.63),
    Run(1, 8, 1, 16, 16, 1536, 16, 16, 31.26, 28.99),
    Run(1, 16, 1, 16, 16, 3072, 32, 16, 7.25, 6.22),
    Run(1, 32, 1, 16, 16, 3072, 32, 32, 3.57, 2.60),
    Run(2, 4, 1, 8, 16, 1536, 16, 16, 37.20, 34.82),
    Run(4, 2, 1, 4, 16, 1536, 16, 16, 36.91, 33.81),
    Run(2, 8, 1, 8, 16, 2304, 24, 24, 23.81, 23.00),
    Run(4, 8, 1, 8, 32, 2304, 24, 24, 20.41, 20.03),
    Run(8, 1, 4, 2, 512, 1536, 16, 16, 40.09, 32.82),
    Run(1, 8, 4, 16, 512, 2304, 24, 24, 25.18, 21.80),
    Run(2, 4, 4, 8, 512, 2304, 24, 24, 36.85, 31.53),
    Run(2, 8, 2, 8, 512, 2304, 24, 24, 33.62, 29.69),
)


def rate(run: Run) -> float:
    """Teraflop/s of a GPU by the authors' count, which is Megatron's: layers twice forward, all scores."""
    devices = run.dp * run.tp * run.pp
    x = Layout(tp=float(run.tp), pp=float(run.pp), dp=float(run.dp), micro_batch=run.micro, global_batch=run.batch,
               seq=SEQ, recompute=2.0)  # fmt: skip
    machine = f"{devices // 8}xv100-16gb-8" if devices > 1 else "1xv100-sxm-16gb"
    step = trained(gpt(run.name, run.layers, run.width, run.heads), machine, x, "megatron-2022", flash=False,
                   precision="fp16")  # fmt: skip
    inner = 1.0 + SEQ / (6.0 * run.width) + VOCAB / (16.0 * run.layers * run.width)
    flops = 96.0 * run.batch * SEQ * run.layers * run.width**2 * inner
    return float(training_rate(step, flops)) / 1e12


_WHY = (
    "Tensor parallelism over servers with one port each comes out two to three times too fast: the factor on "
    "collectives of a layer, fitted to servers with a port for each device, puts 19 GB/s on a port of 12.5. OneFlow's "
    "own steps are 10 to 30 % faster than Megatron-LM's, to which the coefficients belong."
)


def claims(run: Run) -> tuple[Claim, ...]:
    """Both columns of a line."""
    return tuple(
        Claim(f"{by}, {run.name}", published, "TFLOP/s", "absolute", "authors' report, Achieved FLOP/s",
              lambda: rate(run), extra=True, why=_WHY)
        for by, published in (("OneFlow", run.oneflow), ("Megatron-LM", run.megatron))
    )  # fmt: skip


PAPER = Paper(
    slug="oneflow",
    title="OneFlow: Redesign the Distributed Deep Learning Framework from Scratch",
    source="arXiv:2110.15032",
    mechanism="Signatures say how tensors are divided, and communication follows from them.",
    claims=tuple(claim for run in RUNS for claim in claims(run)),
    assumptions=(
        "The authors' report on GPT (Oneflow-Inc/DLPerf, reports/GPT/dlperf_gpt_test_report_210512.md), in place of "
        "the paper's figures, which were not found as text: four servers of eight V100 SXM2 16 GB with one port of "
        "100 Gb/s; vocabulary 51,200; data x tensor x pipeline parallel degrees. Two lines that repeat others are "
        "left out.",
        "Micro-batches and heads of OneFlow/LanguageModeling/GPT/README.md; layers computed again, fp16.",
        "OneFlow is not measured; both columns are held against the coefficients of Megatron-LM.",
    ),
)  # fmt: skip
