"""SambaNova SN40L (arXiv:2405.07518): expert models wait in memory beside each socket and are copied to its HBM when a
prompt asks for them; whole layers run as one kernel."""

from __future__ import annotations

from functools import cache

import tierwise as tw
from tierwise import techniques
from tierwise.models.load import load_model
from tierwise.papers.base import KERNELS, contrast, scenario
from tierwise.papers.types import NEEDS_FEATURE, Claim, Paper
from tierwise.result import Result

EXPERT, EXPERTS = "llama-2-7b", 150
NODE, A100, H100 = "8xsn40l", "dgx-a100", "dgx-h100"
# One link to the host, as the authors count it for a server: 32 and 64 GB/s by datasheet.
LINK = {A100: "1xa100-sxm-80gb", H100: "1xh100-sxm"}
PROMPT = 200.0
# Rows of table V: prompts, tokens written, over the A100s, over the H100s.
OVERALL = ((8, 20, 6.6, 3.7), (1, 20, 4.8, 2.8), (8, 200, 4.2, 2.7), (1, 200, 3.9, 2.6))
ALONE = ((20, 2.0, 1.5), (200, 3.2, 2.3))


@cache
def run(machine: str, batch: float, tokens: float) -> Result:
    """An expert, or the router, tensor parallel over the eight devices of a node."""
    engine = KERNELS if machine == NODE else "trtllm"
    traffic = tw.Batch(prompt=PROMPT, output=tokens, batch=batch)
    return tw.evaluate(scenario(EXPERT, machine, traffic, tw.Plan(tp=8.0), engine=engine))


def running(machine: str, tokens: float) -> float:
    """Seconds in which an expert answers one prompt."""
    return float(run(machine, 1, tokens).time)


@cache
def copying(machine: str) -> float:
    """Seconds in which all weights of an expert reach the memory that they run in: of a step that copies them first,
    what it takes longer."""
    traffic = tw.Batch(prompt=1, output=2, batch=1)
    if machine == NODE:
        here, away = scenario(EXPERT, NODE, traffic, tw.Plan(tp=8.0)), "ddr"
    else:
        here, away = scenario(EXPERT, LINK[machine], traffic, tw.Plan(), under=[techniques.roofline()]), "host"
    there = here.apply(techniques.offload_weights(1.0, to=away))
    return float(tw.evaluate(there).tpot - tw.evaluate(here).tpot)


def answered(machine: str, prompts: float, tokens: float) -> float:
    """Seconds for prompts that ask for an expert each: the router, then one copy and answer after the other."""
    return float(run(machine, prompts, 1).time) + prompts * (copying(machine) + running(machine, tokens))


_FUSION = "Kernels of one operator each, started by a host, on this chip: what starting one costs is not published."
_WHY = (
    "The authors take NVIDIA's published latencies of NeMo for the servers, which were not found; 6 ms a token of an "
    "A100 server follow from their table, and 4.6 of an H100 one."
)


def _overall(row: tuple[float, float, float, float], server: str, published: float) -> Claim:
    prompts, tokens = row[:2]
    name = f"over {server}, {prompts:g} prompt{'s' if prompts > 1 else ''} of {tokens:g} tokens"
    return Claim(name, published, "x", "ratio", "table V" if row != OVERALL[0] else "abstract; table V",
                 lambda: answered(server, prompts, tokens) / answered(contrast(server, NODE), prompts, tokens),
                 extra=row != OVERALL[0], why=_WHY)  # fmt: skip


def _alone(tokens: float, server: str, published: float) -> Claim:
    return Claim(f"over {server}, an expert alone, {tokens:g} tokens", published, "x", "ratio", "table V",
                 lambda: running(server, tokens) / running(contrast(server, NODE), tokens),
                 extra=True, why=_WHY)  # fmt: skip


PAPER = Paper(
    slug="sambanova-sn40l",
    title="SambaNova SN40L: Scaling the AI Memory Wall with Dataflow and Composition of Experts",
    source="arXiv:2405.07518",
    mechanism="Whole layers fused on chip; expert models wait in DDR on the socket and are copied to HBM when asked.",
    claims=(
        Claim("parameters of Samba-CoE", 1.0, "T", "count", "abstract",
              lambda: EXPERTS * float(load_model(EXPERT).parameters) / 1e12),
        Claim("fused over unfused on eight sockets, least", 2.0, "x", "ratio", "abstract", missing=NEEDS_FEATURE,
              why=_FUSION),
        Claim("fused over unfused on eight sockets, most", 13.0, "x", "ratio", "abstract", missing=NEEDS_FEATURE,
              why=_FUSION),
        Claim("smaller by, in machines", 19.0, "x", "up-to", "abstract", lambda: 8 * 1.5 * 1024 / (8 * 80.0),
              metric="capacity", identity=True, why="memory of eight sockets' DDR over that of eight GPUs"),
        Claim("switching to another expert, over an H100 server", 15.0, "x", "ratio", "abstract; table V",
              lambda: copying(H100) / copying(contrast(H100, NODE))),
        Claim("switching to another expert, over an A100 server", 31.0, "x", "ratio", "abstract; table V",
              lambda: copying(A100) / copying(contrast(A100, NODE)),
              why="The authors' node copies at more than 1 TB/s, where the chip's makers gave 1.6 TB/s for sixteen "
                  "sockets elsewhere, so 0.8 for these eight."),
        *(_overall(row, server, row[i]) for row in OVERALL for i, server in ((2, A100), (3, H100))),
        *(_alone(row[0], server, row[i]) for row in ALONE for i, server in ((1, A100), (2, H100))),
    ),
    assumptions=(
        "150 experts and a router, each Llama-2-7B in 16 bits, tensor parallel over eight devices; the router answers "
        "a batch at once, experts one prompt after the other (sections II and VI-C).",
        "A server's experts cross one link to the host at its datasheet's rate, 32 GB/s (A100) and 64 (H100), as the "
        "authors estimate them (section VI-C); a socket's DDR has the rate of the chip's file, not the paper's more "
        "than 1 TB/s a node.",
        f"Servers run TensorRT-LLM, which NeMo's published latencies are of; prompts of {PROMPT:g} tokens, for theirs "
        "is not stated.",
    ),
)  # fmt: skip
