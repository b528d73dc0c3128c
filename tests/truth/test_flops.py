"""FLOPs against PyTorch's own counter, over models that `transformers` builds on the meta device.

The counter sees matrix products and convolutions, as dense as the eager code runs them; so on our side the
elementwise, norm and embedding work is left out, and attention is counted over every column, masked or not,
from the dims its op carries. Real widths, few layers. Mixture-of-experts layers run `transformers`' batched
experts, which multiply each token with its own top-k experts and nothing else; Switch has its own loop and
runs for real on the CPU.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="FLOP truth needs torch and transformers: pip install tierwise[truth]")
pytest.importorskip("transformers", reason="FLOP truth needs transformers: pip install tierwise[truth]")

from reference import instantiate  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from transformers.modeling_outputs import MoEModelOutput  # noqa: E402

from tierwise.models.hf import from_config  # noqa: E402
from tierwise.models.load import CATALOG  # noqa: E402
from tierwise.models.lower import lower  # noqa: E402
from tierwise.models.step import Step  # noqa: E402
from tierwise.models.types import Model  # noqa: E402
from tierwise.program.types import Op  # noqa: E402
from tierwise.scenario.types import Plan  # noqa: E402

pytestmark = pytest.mark.truth

PROMPT, TARGET = 128, 32
TOLERANCE = 0.01


@dataclass(frozen=True)
class Case:
    """A catalog model cut to few layers.

    Attributes:
        name: of the catalog.
        kind: how it is run.
        changes: of its configuration.
        prompt: tokens of a sequence.
        real: run with storage on the CPU (control flow depends on data).
        batch: sequences.
    """

    name: str
    kind: str = "decoder"
    changes: Mapping[str, Any] = field(default_factory=dict)
    prompt: int = PROMPT
    real: bool = False
    batch: int = 2


def few(n: int, **more: Any) -> dict[str, Any]:
    return {"num_hidden_layers": n, **more}


CASES = (
    Case("llama-7b", changes=few(2)),
    Case("llama-3.1-8b", changes=few(2), prompt=512),
    Case("mistral-7b-v0.1", changes=few(2, sliding_window=200), prompt=256),
    Case("qwen2-7b", changes=few(2)),
    Case("mixtral-8x7b", changes=few(2)),
    Case("qwen3-30b-a3b", changes=few(2)),
    Case("qwen1.5-moe-a2.7b", changes=few(2)),
    Case("deepseek-v2-lite", "mla", few(3)),
    Case("deepseek-v3", "mla", few(4)),
    Case("gpt-oss-20b", changes=few(2), prompt=256),
    Case("gemma-2-9b", changes=few(2)),
    Case("gemma-3-1b", changes=few(6, sliding_window=100), prompt=256),
    Case("glm-4-9b", changes=few(2)),
    Case("glm-4.5-air", changes=few(3)),
    Case("gpt2", changes={"n_layer": 2}),
    Case("opt-1.3b", changes=few(2)),
    Case("bloom-560m", changes={"n_layer": 2}),
    Case("falcon-7b", changes=few(2)),
    Case("gpt-neox-20b", changes=few(2)),
    Case("phi-2", changes=few(2)),
    Case("phi-3.5-moe", changes=few(2)),
    Case("olmoe-1b-7b", changes=few(2)),
    Case("minimax-m2", changes=few(2)),
    Case("minimax-text-01", changes=few(2, layer_types=["linear_attention", "full_attention"]), prompt=512),
    Case("qwen3-next-80b-a3b", changes=few(4)),
    Case("mamba-1.4b", changes=few(2)),
    Case("falcon-mamba-7b", changes=few(2)),
    Case("mamba-codestral-7b", changes=few(2), prompt=256),
    Case("mamba2-2.7b", changes=few(2), prompt=512),
    Case("jamba-v0.1", changes=few(8)),
    Case("nemotron-3-nano-30b-a3b", changes={"num_hidden_layers": 6, "hybrid_override_pattern": "MEM*ME"}),
    Case("bamba-9b", changes=few(3, attn_layer_indices=[1]), prompt=256),
    # One sequence: a single token of several is broadcast against their states in the version tried (5.23).
    Case("rwkv-4-169m", changes=few(2), real=True, prompt=32, batch=1),
    Case("bert-base", "encoder", few(2)),
    Case("roberta-large", "encoder", few(2)),
    Case("t5-base", "seq2seq", {"num_layers": 2, "num_decoder_layers": 3}),
    Case("t5-v1.1-xl", "seq2seq", {"num_layers": 2, "num_decoder_layers": 2}),
    Case("switch-base-8", "seq2seq", {
        "num_layers": 2, "num_decoder_layers": 2, "num_sparse_encoder_layers": 1, "num_sparse_decoder_layers": 1,
        "expert_capacity": 4096,
    }, real=True),
    Case("whisper-small", "speech", {"encoder_layers": 2, "decoder_layers": 2}),
    Case("vit-base-patch16-224", "image", few(3)),
    Case("deit-base-distilled", "image", few(3)),
    Case("resnet-50", "image"),
    Case("clip-vit-large-patch14", "clip"),
    Case("qwen3.5-27b", "tower"),
)  # fmt: skip

Run = Callable[[Case, Model, Any], list[tuple[str, float, float]]]
TABLE: list[str] = []


@pytest.fixture(scope="module", autouse=True)
def table() -> Any:
    yield
    print(f"\n{'model':28s} {'phase':10s} {'ours':>12s} {'torch':>12s} {'error':>9s}")
    print("\n".join(TABLE))


@pytest.mark.parametrize("case", CASES, ids=lambda c: c.name)
def test_flops_are_what_pytorch_counts(case: Case) -> None:
    config = {**json.loads((CATALOG / f"{case.name}.json").read_text())["config"], **case.changes}
    if "layer_types" not in case.changes:
        config.pop("layer_types", None)
    ours, theirs = from_config(config, case.name), build(config, case.real)
    rows = RUNS[case.kind](case, ours, theirs)
    TABLE.extend(
        f"{case.name:28s} {phase:10s} {mine:12.5g} {real:12.5g} {mine / real - 1:+9.3%}" for phase, mine, real in rows
    )
    for phase, mine, real in rows:
        assert mine == pytest.approx(real, rel=TOLERANCE), phase


def test_absorbed_latent_attention_is_the_products_it_is_made_of() -> None:
    """`transformers` has no absorbed MLA, so it is written out here: what our decode prices, product by product.

    q·W_UK into the latent space, scores against latent and rotary keys, the weighted sum of latents, and W_UV.
    """
    config = json.loads((CATALOG / "deepseek-v3.json").read_text())["config"]
    ours = from_config({**config, "num_hidden_layers": 1}, "deepseek-v3")
    b, past, h = 4, 1000, config["num_attention_heads"]
    nope, rope, v = config["qk_nope_head_dim"], config["qk_rope_head_dim"], config["v_head_dim"]
    rank = config["kv_lora_rank"]
    query, rotated = torch.empty(h, b, nope, device="meta"), torch.empty(b, h, rope, device="meta")
    w_uk, w_uv = torch.empty(h, nope, rank, device="meta"), torch.empty(h, rank, v, device="meta")
    latent, rotary = torch.empty(b, past + 1, rank, device="meta"), torch.empty(b, past + 1, rope, device="meta")

    def absorbed() -> None:
        q = torch.bmm(query, w_uk).transpose(0, 1)
        scores = torch.bmm(q, latent.transpose(1, 2)) + torch.bmm(rotated, rotary.transpose(1, 2))
        torch.bmm(torch.bmm(scores, latent).transpose(0, 1), w_uv)

    names = {"attn.q_absorb", "attn.core", "attn.v_absorb"}
    graph = lower(Step(ours, Plan(), float(b), 1.0, float(past), "decode"))
    mine = sum(s.repeat * op.flops for s, op in graph.walk() if op.name in names)
    assert mine == pytest.approx(counted(absorbed), rel=1e-9)


def build(config: Mapping[str, Any], real: bool) -> Any:
    model = instantiate(config)
    for part in {id(m.config): m.config for m in model.modules() if hasattr(m, "config")}.values():
        part._attn_implementation = "eager"
        part._experts_implementation = "batched_mm"
    if real:
        model = model.to_empty(device="cpu")
        for p in model.parameters():
            torch.nn.init.normal_(p, std=0.02)
    return model.eval()


def decoder(case: Case, ours: Model, theirs: Any, decode_as: str = "decode") -> list[tuple[str, float, float]]:
    """A prompt with logits for every token, then one more token on its cache."""
    s = case.prompt
    prompt, token = ids(case, s), ids(case, 1)
    state: dict[str, Any] = {}

    def prefill() -> None:
        out = theirs(input_ids=prompt, use_cache=True)
        for name in ("past_key_values", "cache_params", "state"):
            if getattr(out, name, None) is not None:
                state[name] = getattr(out, name)

    def decode() -> None:
        theirs(input_ids=token, use_cache=True, **state)

    first = Step(ours, Plan(), case.batch, s, 0.0, "prefill", logits=s)
    second = Step(ours, Plan(), case.batch, 1.0, s, decode_as)
    return [("prefill", dense(first), counted(prefill)), ("decode", dense(second), counted(decode))]


def mla(case: Case, ours: Model, theirs: Any) -> list[tuple[str, float, float]]:
    """`transformers` never absorbs: it expands the whole cache each step, which is our prompt formula with a past."""
    return decoder(case, ours, theirs, decode_as="prefill")


def encoder(case: Case, ours: Model, theirs: Any) -> list[tuple[str, float, float]]:
    step = Step(ours, Plan(), case.batch, case.prompt, 0.0, "encode")
    return [("encode", dense(step), counted(lambda: theirs(input_ids=ids(case, case.prompt))))]


def seq2seq(case: Case, ours: Model, theirs: Any, inputs: Any = None) -> list[tuple[str, float, float]]:
    """Encoder and decoder prompt in one pass, then one more token."""
    s = case.prompt
    given = {"input_ids": ids(case, s)} if inputs is None else inputs
    state: dict[str, Any] = {}

    def prefill() -> None:
        out = theirs(**given, decoder_input_ids=ids(case, TARGET))
        state.update(
            past_key_values=out.past_key_values,
            encoder_outputs=MoEModelOutput(out.encoder_last_hidden_state),
        )

    def decode() -> None:
        theirs(decoder_input_ids=ids(case, 1), **state)

    if inputs is None:
        encode, context = Step(ours, Plan(), case.batch, s, 0.0, "encode"), float(s)
    else:
        context = float(ours.stack("audio").tokens)
        encode = Step(ours, Plan(), case.batch, context, 0.0, "audio")
    first = Step(ours, Plan(), case.batch, TARGET, 0.0, "prefill", TARGET, context, fresh_encoder=True)
    second = Step(ours, Plan(), case.batch, 1.0, TARGET, "decode", 1.0, context)
    return [
        ("prefill", dense(encode) + dense(first), counted(prefill)),
        ("decode", dense(second), counted(decode)),
    ]


def speech(case: Case, ours: Model, theirs: Any) -> list[tuple[str, float, float]]:
    frames = torch.zeros(case.batch, theirs.config.num_mel_bins, 3000, device="meta")
    return seq2seq(case, ours, theirs, {"input_features": frames})


def image(case: Case, ours: Model, theirs: Any) -> list[tuple[str, float, float]]:
    pixels = torch.zeros(case.batch, 3, 224, 224, device="meta")
    step = Step(ours, Plan(), case.batch, ours.stack("vision").tokens, 0.0, "vision")
    return [("image", dense(step), counted(lambda: theirs(pixel_values=pixels)))]


def clip(case: Case, ours: Model, theirs: Any) -> list[tuple[str, float, float]]:
    pixels, text = torch.zeros(case.batch, 3, 224, 224, device="meta"), ids(case, 77)
    seen = Step(ours, Plan(), case.batch, ours.stack("vision").tokens, 0.0, "vision")
    read = Step(ours, Plan(), case.batch, 77.0, 0.0, "encode")
    return [
        ("image", dense(seen), counted(lambda: theirs.get_image_features(pixel_values=pixels))),
        ("text", dense(read), counted(lambda: theirs.get_text_features(input_ids=text))),
    ]


def tower(case: Case, ours: Model, theirs: Any) -> list[tuple[str, float, float]]:
    """The image tower alone, on square images of 32 × 32 patches; how many is data, so it runs for real."""
    visual = theirs.model.visual.to_empty(device="cpu")
    width, side = visual.patch_embed.proj.weight[0].numel(), 32
    patches = torch.zeros(side * side, width, dtype=visual.dtype)
    step = Step(ours, Plan(), 1.0, side * side, 0.0, "vision")
    grid = torch.tensor([[1, side, side]])
    return [("image", dense(step), counted(lambda: visual(patches, grid_thw=grid)))]


RUNS: dict[str, Run] = {
    "decoder": decoder, "mla": mla, "encoder": encoder, "seq2seq": seq2seq, "speech": speech, "image": image,
    "clip": clip, "tower": tower,
}  # fmt: skip


def ids(case: Case, n: int) -> Any:
    return torch.ones(case.batch, n, dtype=torch.long, device="cpu" if case.real else "meta")


def counted(run: Callable[[], object]) -> float:
    """FLOPs of a run as PyTorch's counter sees them."""
    counter = FlopCounterMode(display=False)
    with torch.no_grad(), counter:
        run()
    return float(counter.get_total_flops())


def dense(step: Step) -> float:
    """FLOPs of our graph's matrix products and convolutions, nothing masked left out."""
    return float(sum(segment.repeat * products(op) for segment, op in lower(step).walk()))


def products(op: Op) -> float:
    d = op.dims
    if op.kind == "matmul":
        return float(2.0 * d["m"] * d["n"] * d["k"] * d.get("batch", 1.0))
    if op.kind == "attention":
        per_column = 2.0 * d["batch"] * d["heads"] * d["q"] * (d["head_dim"] + d["v_dim"])
        # Beyond scores and values an op may expand a latent cache; masked columns are not in its FLOPs.
        expansion = op.flops - per_column * d["kv"]
        return float(per_column * d["columns"] + expansion)
    if op.kind in ("moe", "conv"):
        return float(op.flops)
    if op.kind == "scan":
        return scan_products(op)
    return 0.0


def scan_products(op: Op) -> float:
    """The part of a recurrence that `transformers`' fallback code writes as matrix products, over whole chunks.

    Mamba: the output ``C h``. Mamba-2 and Lightning Attention: all of it over a prompt, B and C repeated for
    every head; at least the output when decoding. Gated DeltaNet: all but the triangular solve over a prompt;
    nothing when decoding. RWKV: no products.
    """
    d, t = op.dims, op.dims["batch"] * op.dims["tokens"]
    rule, chunked, state = op.options["rule"], op.options["chunked"], d["key"] * d["value"]
    if rule == "linear" and chunked:
        return float(t * d["heads"] * (2.0 * d["chunk"] * (d["key"] + d["value"]) + 4.0 * state))
    if rule == "delta" and chunked:
        return float(t * d["heads"] * (2.0 * d["chunk"] * (2.0 * d["key"] + d["value"]) + 6.0 * state))
    return float(2.0 * t * d["heads"] * state) if rule in ("selective", "linear") else 0.0
