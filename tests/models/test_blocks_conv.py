"""Convolutions and patch embeddings: work against textbook numbers, tokens against the image's size."""

from __future__ import annotations

import pytest

from tierwise.models.blocks.conv import Conv
from tierwise.models.blocks.patch import PatchEmbed
from tierwise.models.load import load_model
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.scenario.types import Plan

MODEL = Model("toy", "toy", 64.0, 0.0, ())

# Multiply-adds of one 224 × 224 image: ResNet from torchvision's table of weights (the paper's table 1 leaves
# out shortcuts and rounds down), DeiT (arXiv:2012.12877, table 5: 1.3, 4.6 and 17.5 or 17.6e9), ViT-L/16
# (61.6e9 in torchvision's table).
PUBLISHED = {
    "resnet-18": (1.81e9, 0.01),
    "resnet-50": (4.09e9, 0.01),
    "resnet-101": (7.80e9, 0.01),
    "resnet-152": (11.51e9, 0.01),
    "deit-tiny": (1.3e9, 0.04),
    "deit-small": (4.6e9, 0.02),
    "deit-base": (17.6e9, 0.02),
    "vit-large-patch16-224": (61.6e9, 0.02),
}


def step(new: float, seqs: float = 1.0, model: Model = MODEL) -> Step:
    return Step(model, Plan(), seqs, new, 0.0, "vision")


@pytest.mark.parametrize("name", PUBLISHED)
def test_one_image_takes_the_published_multiply_adds(name: str) -> None:
    model = load_model(name)
    graph = lower(step(model.stack("vision").tokens, model=model))
    macs = sum(s.repeat * op.flops for s, op in graph.walk() if op.kind in ("conv", "matmul", "attention")) / 2.0
    published, tolerance = PUBLISHED[name]
    assert macs == pytest.approx(published, rel=tolerance)


def test_depthwise_costs_one_channel_per_output() -> None:
    dense = next(iter(Conv("c", 64.0, 64.0, 3.0).ops(step(196.0))))
    depthwise = next(iter(Conv("c", 64.0, 64.0, 3.0, groups=64.0).ops(step(196.0))))
    assert depthwise.flops == dense.flops / 64.0 == 2 * 196 * 64 * 9


def test_dims_recount_the_flops() -> None:
    for name in ("resnet-18", "resnet-50", "whisper-tiny", "vit-base-patch16-224", "qwen3.5-27b", "vig-tiny"):
        model = load_model(name)
        stack = next(s for s in model.stacks if s.stream in ("vision", "audio"))
        for _, op in lower(Step(model, Plan(), 3.0, stack.tokens, 0.0, stack.stream)).walk():
            if op.kind == "conv":
                d = op.dims
                outputs = d["batch"] * d["out_h"] * d["out_w"] * d["c_out"]
                assert op.flops == pytest.approx(2 * outputs * d["c_in"] / d["groups"] * d["kh"] * d["kw"]), op.name


def test_a_finer_grid_has_more_positions_and_a_stride_reads_more_than_it_writes() -> None:
    op = next(iter(Conv("stem", 3.0, 64.0, 7.0, 2.0, scale=16.0).ops(step(49.0))))
    assert (op.dims["out_h"], op.dims["out_w"]) == (112.0, 112.0)
    assert op.reads[0].elements == 224 * 224 * 3
    assert op.writes[0].elements == 112 * 112 * 64


def test_class_tokens_are_no_patches() -> None:
    op = next(iter(PatchEmbed(3.0, 16.0, 768.0, 197.0, 1.0).ops(step(197.0, 2.0))))
    assert op.flops == 2 * 2 * 196 * 768 * 3 * 256


@pytest.mark.parametrize("name", ["vit-base-patch16-224", "deit-base-distilled", "clip-vit-base-patch32", "vim-tiny",
                                  "vig-tiny", "resnet-50", "qwen3.5-27b"])  # fmt: skip
def test_tokens_follow_the_image(name: str) -> None:
    stack = load_model(name).stack("vision")
    side = {"qwen3.5-27b": 768.0}.get(name, 224.0)
    assert stack.tokens_at(side) == stack.tokens == stack.tokens_at(None)
    patches = stack.tokens - stack.extra_tokens
    assert stack.tokens_at(2.0 * side) - stack.extra_tokens == pytest.approx(4.0 * patches)


def test_resnet_work_follows_the_image() -> None:
    model = load_model("resnet-50")
    stack = model.stack("vision")
    small, large = (
        sum(s.repeat * op.flops for s, op in lower(step(stack.tokens_at(n), model=model)).walk() if op.kind == "conv")
        for n in (224.0, 448.0)
    )
    assert large == pytest.approx(4.0 * small)


def test_attention_grows_faster_than_a_scan_with_resolution() -> None:
    """The point of Vim and ViG: per-image work of a ViT grows with the square of its tokens."""

    def growth(name: str) -> float:
        model = load_model(name)
        tokens = [model.stack("vision").tokens_at(n) for n in (224.0, 1248.0)]
        small, large = (lower(step(t, model=model)).flops for t in tokens)
        return float(large / small / (tokens[1] / tokens[0]))

    assert growth("vim-tiny") == pytest.approx(1.0, abs=0.05)
    assert growth("vig-tiny") == pytest.approx(1.0, abs=0.05)
    assert growth("deit-tiny") > 3.0
