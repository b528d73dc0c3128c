"""Attention as engines compute it: latent prompts, and sparse attention under a mask."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tierwise.cost.nodes import at
from tierwise.engines import load
from tierwise.machines import system
from tierwise.models.attending import attending
from tierwise.models.load import load_model
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.types import Op
from tierwise.scenario.types import Plan
from tierwise.steps.price import engine_on


def cores(model: Model, past: float, phase: str = "prefill", new: float = 512.0) -> list[Op]:
    step = Step(model, Plan(), 1.0, new, past, phase)
    return [op for _, op in lower(step).walk() if op.name.rpartition("@")[0].endswith("core") or "attn.core" in op.name]


def test_prompts_in_the_latent_space_multiply_as_decoding_does() -> None:
    """GLM-4.7-Flash: 20 heads of 256 expanded, of 576 and 512 in the latent space, as llama.cpp's log says."""
    model = load_model("glm-4.7-flash")
    expanded, latent = (cores(m, 4096.0)[-1].dims for m in (model, attending(model, latent_prompts=True)))
    assert (expanded["head_dim"], expanded["v_dim"], expanded["kv_heads"]) == (256.0, 256.0, 20.0)
    assert (latent["head_dim"], latent["v_dim"], latent["kv_heads"]) == (576.0, 512.0, 1.0)
    assert latent["kv"] == expanded["kv"]
    # Decoding was so before.
    assert cores(model, 4096.0, "decode", 1.0)[-1].dims == cores(
        attending(model, latent_prompts=True), 4096.0, "decode", 1.0)[-1].dims  # fmt: skip
    assert attending(model, latent_prompts=True).parameters == model.parameters


@pytest.mark.parametrize(("name", "ratio"), [("deepseek-v4-flash", 4.0), ("deepseek-v3.2", 1.0)])
def test_under_a_mask_attention_grows_with_the_context(name: str, ratio: float) -> None:
    """What an indexer chose is a part of what is multiplied, and what is multiplied is all of the past."""
    model = load_model(name)

    def most(m: Model, past: float) -> float:
        return max(float(np.max(op.dims["kv"])) for op in cores(m, past, "decode", 1.0))

    chosen = {past: most(model, past) for past in (16384.0, 65536.0)}
    masked = {past: most(attending(model, masked=True), past) for past in (16384.0, 65536.0)}
    assert chosen[16384.0] == pytest.approx(chosen[65536.0], rel=0.01)
    assert masked[65536.0] - masked[16384.0] == pytest.approx((65536.0 - 16384.0) / ratio, rel=0.01)


def test_an_engine_s_file_says_how_it_attends() -> None:
    model, card = load_model("deepseek-v4-flash"), system("rtx-4090")
    assert load("llama.cpp").latent_prompts and load("llama.cpp").masked
    assert not load("vllm").latent_prompts and not load("vllm").masked
    assert load("ik_llama.cpp").masked and not load("ik_llama.cpp").latent_prompts
    by = {name: engine_on(model, Plan(), card, name).model for name in ("llama.cpp", "vllm")}
    assert by["vllm"] == model
    assert by["llama.cpp"] == attending(model, latent_prompts=True, masked=True)


def test_a_host_s_processors_run_the_kernels_its_engine_names() -> None:
    """Experts that SGLang leaves to the host are kt-kernel's work, at its share of the memory's bandwidth."""
    assert load("sglang").host == "ktransformers"
    machine = system("rtx-4090 + xeon-6454s")
    found = {name: at(engine_on(load_model("qwen3-30b-a3b"), Plan(), machine, name).target, "host")
             for name in ("sglang", "vllm")}  # fmt: skip
    assert found["sglang"].efficiency.engine == "ktransformers"
    assert found["vllm"].efficiency.engine != "ktransformers"
    assert replace(found["sglang"].system, name="") == replace(found["vllm"].system, name="")
