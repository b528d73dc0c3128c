"""Launch files of a divided model say exactly what the placement says."""

from __future__ import annotations

import json
import re

import pytest

from tierwise import Batch, Scenario
from tierwise.launch.fit import Divided, divided, files, targets
from tierwise.launch.fit.llama_cpp import command, words
from tierwise.techniques.tiers import partial_offload

ON = "rtx4090 + ryzen-9-7950x 64GB ddr5 + nvme-gen4"
SAID = {"tokens_per_s": 10.0, "first_token_s": 1.0, "prompt": 1000.0}


def of(
    model: str, on: str = ON, shares: dict[str, float] | None = None, pp: int = 1, caches_on_host: float = 0.0,
    **moved: float,
) -> Divided:  # fmt: skip
    s = Scenario(model, on, Batch(1000.0, 24.0, 1.0), engine="llama.cpp")
    s = s.with_plan(weights="q4_k_m", tp=1, pp=pp, dp=1)
    if shares is None:
        s = s.apply(partial_offload(**moved))
    return divided(s, f"org/{model}", "q4_k_m", "q8_0", SAID, shares, {"host": caches_on_host}, 16e9)


def value(found: list[str], flag: str) -> str:
    return found[found.index(flag) + 1]


def layers_on_host(d: Divided) -> set[int]:
    """What llama.cpp does with -ngl: layers from the last one, the output layer counted first."""
    kept = int(value(words(d), "-ngl"))
    return {i for i in range(d.depth) if i < d.depth + 1 - kept}


@pytest.mark.parametrize("layers", [0.0, 1.0, 7.0, 32.0])
def test_ngl_counts_the_output_layer_first(layers: float) -> None:
    d = of("llama-3.1-8b", layers=layers)
    assert layers_on_host(d) == set(d.host_layers) == set(range(int(layers)))


def test_experts_of_the_first_layers_by_their_number() -> None:
    d = of("qwen3-30b-a3b", experts=20.0)
    assert value(words(d), "--n-cpu-moe") == "20" and "-ot" not in words(d)
    assert d.host_experts == tuple(range(20))
    # A model whose first layer is dense: layers count, not layers with experts.
    dense_first = of("deepseek-v2-lite", experts=5.0)
    assert value(words(dense_first), "--n-cpu-moe") == str(dense_first.host_experts[-1] + 1) == "6"


def test_spread_experts_and_feed_forward_parts_by_a_pattern() -> None:
    d = of("qwen3-30b-a3b", "2xrtx4090 + ryzen-9-7950x 64GB ddr5", pp=2, experts=20.0)
    pattern = value(words(d), "-ot").strip("'").removesuffix("=CPU")
    matched = {i for i in range(d.depth) if re.search(pattern, f"blk.{i}.ffn_up_exps.weight")}
    assert matched == set(d.host_experts) and len(matched) == 20
    assert {i < d.depth // 2 for i in matched} == {True, False}  # as many of each card
    feed = of("llama-3.1-8b", feed_forward=3.0)
    pattern = value(words(feed), "-ot").strip("'").removesuffix("=CPU")
    names = {(i, part) for i in range(32) for part in ("ffn_gate", "ffn_up", "ffn_down", "attn_q", "ffn_norm")
             if re.search(pattern, f"blk.{i}.{part}.weight")}  # fmt: skip
    assert names == {(i, p) for i in range(3) for p in ("ffn_gate", "ffn_up", "ffn_down")}


def test_sizes_and_caches_are_said() -> None:
    found = words(of("llama-3.1-8b", layers=4.0))
    assert value(found, "-c") == "1024" and value(found, "-ctk") == value(found, "-ctv") == "q8_0"
    assert value(found, "-t") == "16"
    assert "-nkvo" in words(of("llama-3.1-8b", caches=32.0))
    assert "llama-server" in command(of("llama-3.1-8b"))


def test_every_program_is_found_and_says_what_it_cannot() -> None:
    assert set(targets()) >= {"accelerate", "deepspeed", "ik_llama_cpp", "ktransformers", "llama_cpp", "mlx", "ollama",
                              "vllm"}  # fmt: skip
    for module in targets().values():
        assert module.TITLE and module.SOURCE and module.CANNOT
    made = files(of("qwen3-30b-a3b", experts=20.0))
    assert {"llama.cpp.sh", "ik_llama.cpp.sh", "ktransformers.sh", "README.md", "prediction.json"} <= set(made)
    assert "Modelfile" not in made and "nothing for ollama" in made["README.md"]
    assert json.loads(made["prediction.json"]) == SAID


def test_ollama_by_whole_layers() -> None:
    made = files(of("llama-3.1-8b", layers=7.0))["Modelfile"]
    assert "PARAMETER num_gpu 26" in made and "PARAMETER num_ctx 1024" in made


def test_programs_that_stream_are_told_shares() -> None:
    d = of("llama-3.1-8b", shares={"": 0.25, "host": 0.5, "nvme": 0.25})
    made = files(d)
    assert "llama.cpp.sh" not in made
    found = json.loads(made["accelerate_device_map.json"])
    layers = [found[f"model.layers.{i}"] for i in range(32)]
    assert [layers.count(x) for x in (0, "cpu", "disk")] == [8, 16, 8]
    config = json.loads(made["deepspeed.json"])["zero_optimization"]
    assert config["stage"] == 3 and config["offload_param"]["device"] == "nvme"
    assert config["offload_param"]["max_in_cpu"] == 8_000_000_000
    assert "accelerate_generate.json" not in made
    hosted = files(of("llama-3.1-8b", shares={"": 0.5, "host": 0.5}))
    assert "--cpu-offload-gb 8" in hosted["vllm.sh"]
    # Caches of sequences in work: Transformers keeps them on the host, vLLM does not.
    far = files(of("llama-3.1-8b", shares={"": 0.5, "host": 0.5}, caches_on_host=1.0))
    assert "vllm.sh" not in far and "offloaded" in far["accelerate_generate.json"]


def test_apple_silicon_gets_mlx() -> None:
    s = Scenario("llama-3.1-8b", "m3-max-64gb", Batch(1000.0, 24.0, 1.0), engine="llama.cpp")
    s = s.with_plan(weights="q4_k_m")
    made = files(divided(s, "org/m", "q4_k_m", "fp16", SAID))
    assert "mlx_lm.server" in made["mlx.sh"] and "ik_llama.cpp.sh" not in made
