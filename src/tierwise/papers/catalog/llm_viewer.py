"""LLM-Viewer: every operator of a model under the roofline, by its arithmetic and its bytes.

The survey's first table lists the layers of Llama-2-7B on an A6000 at 2048 tokens; the op graph must agree
with it row by row.
"""

from tierwise import Batch, evaluate, techniques
from tierwise.papers.base import scenario
from tierwise.papers.types import Claim, Paper
from tierwise.result import PricedOp

SCENARIO = scenario(
    "llama-2-7b", "rtx-a6000", Batch(prompt=2048, output=3, batch=1),
    under=[techniques.unfuse_attention(), techniques.roofline()],
)  # fmt: skip


def op(phase: str, name: str) -> PricedOp:
    return next(p for p in evaluate(SCENARIO).phase(phase).ops if p.op.name == name)


def work(phase: str, name: str) -> float:
    return float(op(phase, name).cost.flops)


def moved(phase: str, name: str) -> float:
    """Bytes from and to the GPU's memory."""
    return float(op(phase, name).cost.bytes[SCENARIO.resolved().machine.device.memory.name])


def rate(phase: str, name: str) -> float:
    """FLOP per second that the bound allows."""
    cost = op(phase, name).cost
    return float(cost.flops / cost.time)


def _row(what: str, published: float, unit: str, value: object, kind: str = "count", why: str = "") -> Claim:
    return Claim(what, published, unit, kind, "Table I", value, extra=True, why=why)  # type: ignore[arg-type]


_SUM = "the sum of the table's rows for scores, softmax and values, which are one op here"
PAPER = Paper(
    slug="llm-viewer",
    title="LLM Inference Unveiled: Survey and Roofline Model Insights",
    source="arXiv:2402.16363",
    mechanism="Per-operator arithmetic, bytes and roofline bound of a transformer.",
    claims=(
        _row("prefill, output projection: operations", 69.0, "GFLOP", lambda: work("prefill", "attn.o_proj") / 1e9),
        _row("prefill, output projection: bytes", 67.0, "MB", lambda: moved("prefill", "attn.o_proj") / 1e6),
        _row("prefill, output projection: rate", 155.0, "TFLOP/s", lambda: rate("prefill", "attn.o_proj") / 1e12,
             "absolute"),
        _row("prefill, down projection: operations", 185.0, "GFLOP", lambda: work("prefill", "mlp.down") / 1e9),
        _row("prefill, down projection: bytes", 152.0, "MB", lambda: moved("prefill", "mlp.down") / 1e6),
        _row("prefill, attention: operations", 34.0 + 34.0, "GFLOP", lambda: work("prefill", "attn.core") / 1e9,
             why=_SUM),
        _row("prefill, attention: bytes", 302.0 + 537.0 + 302.0, "MB", lambda: moved("prefill", "attn.core") / 1e6,
             why=_SUM),
        _row("decode, output projection: bytes", 34.0, "MB", lambda: moved("decode", "attn.o_proj") / 1e6),
        _row("decode, output projection: rate", 768.0, "GFLOP/s", lambda: rate("decode", "attn.o_proj") / 1e9,
             "absolute"),
        _row("decode, down projection: bytes", 90.0, "MB", lambda: moved("decode", "mlp.down") / 1e6),
        _row("decode, attention: operations", 17.0 + 17.0, "MFLOP", lambda: work("decode", "attn.core") / 1e6,
             why=_SUM),
    ),
    assumptions=(
        "Table I as recalled; its rows agree with the counting rules of the authors' analyzer, which were checked",
        "A6000 at its datasheet's rates, batch 1, 2048 tokens, attention unfused and over all pairs",
        "rows for norms and residual additions are not compared: they are one fused kernel here",
    ),
)  # fmt: skip
