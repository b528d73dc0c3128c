"""Recorded tokens per second of llama.cpp beside predictions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tierwise import Batch, Plan, Scenario, evaluate
from tierwise.cli import main
from tierwise.core.numerics import fmt
from tierwise.measure.edge import check, lengths, power, summary
from tierwise.measure.edge_rows import NEURAL, EdgeGroup, engine_of, machine_of, micro_batch, stored, weights_of
from tierwise.measure.ops import read
from tierwise.memory.weights import weight_bytes
from tierwise.models.load import load_model

HEADER = "kind,device,ndev,backend,engine,model,quant,bpw,phase,prompt,gen,depth,batch,threads,power_w,unit,value\n"
# XiongjieDai/GPU-Benchmarks-on-LLM-Inference, llama-bench of May 2024, and two rows that nothing can answer.
ROWS = """llm,RTX 4090 24GB,1,CUDA,llama.cpp 4426e298 (2824),llama-3-8b,Q4_K_M,4.9,decode,0,512,0,1,,,tokens/s,130.58
llm,RTX 4090 24GB,1,CUDA,llama.cpp 4426e298 (2824),llama-3-8b,Q4_K_M,4.9,prefill,1024,0,0,1,,,tokens/s,6898.71
llm,A toaster,1,CPU,llama.cpp,llama-3-8b,Q4_K_M,4.9,decode,0,512,0,1,,,tokens/s,3
llm,RTX 4090 24GB,1,CUDA,llama.cpp,no such model,Q4_K_M,4.9,decode,0,512,0,1,,,tokens/s,3
tinyml,NUCLEO,1,,TFLM,resnet-8,int8,8,inference,,,,,,,uJ,100
"""


@pytest.fixture
def table(tmp_path: Path) -> Path:
    path = tmp_path / "edge.csv"
    path.write_text(HEADER + ROWS)
    return path


def test_rows_are_answered_or_count_as_wholly_wrong(table: Path) -> None:
    found = check(read(table))
    assert len(found.rows) == 4
    assert np.isfinite(found.predicted[:2]).all()
    assert (found.error[:2] < 0.35).all()
    assert (found.error[2:] == 1.0).all()
    assert {r.reason.split(" '")[0] for r in found.refused} == {"unknown machine", "unknown model"}
    assert summary(found)["answered"] == 2


def test_the_command_reports_by_phase_and_device(
    table: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.json"
    with pytest.raises(SystemExit) as stop:
        main(["validate", "edge", str(table), "--json", str(out)])
    assert not stop.value.code
    printed = capsys.readouterr().out
    assert "2 of 4 rows" in printed
    assert "device rtx-4090" in printed
    assert "energy of 1 rows" in printed
    saved = json.loads(out.read_text())
    assert saved["answered"] == 2
    assert saved["answers"][0]["low"] < saved["answers"][0]["predicted"] < saved["answers"][0]["high"]


def test_a_table_of_something_else_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "other.csv"
    path.write_text("a,b\n1,2\n")
    with pytest.raises(SystemExit) as stop:
        main(["validate", "edge", str(path)])
    assert stop.value.code == 2
    assert "device" in capsys.readouterr().err


def test_what_a_row_means() -> None:
    """The card in parentheses runs the model, unless processors do; those of a chip are a machine of their own."""
    assert machine_of("Pi CM5 - 16GB (Nvidia RTX 4070 Ti)", "GPU").device.name == "rtx-4070-ti"
    assert machine_of("Apple M2 Max CPU", "CPU").device.name == "apple-m2-max-cpu"
    assert machine_of("Apple M3 Max 40-core GPU 64GB", "Metal").device.name == "apple-m3-max-64gb"
    assert machine_of("RTX 4090 24GB", "CUDA", 4).count == 4
    assert engine_of("llama.cpp 1671 (8fe03ff)", "CUDA") == "llama.cpp@1671"
    assert engine_of("llama.cpp b6918", "Vulkan") == "llama.cpp-vulkan@6918"
    options = engine_of("llama.cpp 6077", "llama.cpp-rocwmma ROCm", "b= hipblaslt=1; mem = peak")
    assert options == "llama.cpp@6077+hipblaslt+rocwmma"
    assert engine_of("llama.cpp 6077", "llama.cpp-hip ROCm", "b= hipblaslt=; mem = peak") == "llama.cpp@6077"
    # The day stands for a build that is not stated: llama.cpp issue 13211 names 5228 on 30 April 2025.
    assert 5212 <= int(engine_of("llama.cpp", "CUDA", "someone 2025-04-30").partition("@")[2]) <= 5244
    assert engine_of("llama.cpp 6077", "CUDA", "2025-04-30") == "llama.cpp@6077"
    assert engine_of("llama.cpp", "CUDA", "2019-02-30, ub 512") == "llama.cpp"
    assert engine_of("ik_llama.cpp", "CUDA", "2025-04-30") == "ik_llama.cpp"  # its builds are others
    assert weights_of("Q4_K - Medium", "4.9").name == "q4_k"
    assert weights_of("F16", "5.27").name == "mxfp4"  # gpt-oss, whose experts stay in MXFP4


def test_a_micro_batch_holds_no_more_than_its_batch() -> None:
    assert micro_batch("", "b=-b 256 hipblaslt=; mem = peak VRAM+GTT") == 256.0
    assert micro_batch("128", "-b 256") == 128.0
    assert micro_batch("2048", "llama-bench -ub 2048") == 2048.0 and micro_batch("") == 512.0


@pytest.mark.parametrize(("prompt", "batch", "at_once"), [(512, 32, 2048), (512, 2, 1024), (8192, 4, 2048)])
def test_sequences_read_together_share_micro_batches(prompt: float, batch: float, at_once: float) -> None:
    card = machine_of("RTX 4090 24GB", "CUDA")
    g = EdgeGroup(np.array([0]), card, "llama.cpp", load_model("llama-3-8b"), fmt("q4_k"), "prefill", True, 2048.0, "")
    table = {"prompt": np.array([prompt]), "batch": np.array([batch]), "depth": np.array([0.0])}
    state, times, tokens = lengths(g, table)
    (chunk,) = state.chunks
    step = np.asarray(chunk.new) * np.asarray(chunk.count)
    assert step == at_once and np.asarray(times) * step == np.asarray(tokens) == prompt * batch


def test_an_older_build_is_priced_as_it_was() -> None:
    """Prompts of the end of 2023 went through other kernels."""
    now, then = (
        Scenario("llama-2-7b", "rtx-4090", Batch(512, 2), Plan(weights=fmt("q4_0")), engine=e)
        for e in ("llama.cpp", "llama.cpp@1671")
    )
    assert float(evaluate(then).ttft) != pytest.approx(float(evaluate(now).ttft), rel=0.02)


# llama.cpp pull requests 13014 (master, April 2025) and 6505 (its branch, April 2024, on a card a tenth faster).
OLD_EXPERTS = """llm,RTX 3090,1,CUDA,llama.cpp 5150,deepseek-v2-lite,Q4_0,4.6,prefill,512,0,0,1,,,tokens/s,1885.98
llm,RTX 3090,1,CUDA,llama.cpp 2650,mixtral-8x7b,Q3_K_S,3.5,prefill,512,0,0,1,,,tokens/s,1226.11
llm,RTX 3090,1,CUDA,llama.cpp 9000,deepseek-v2-lite,Q4_0,4.6,prefill,512,0,0,1,,,tokens/s,1885.98
"""


def test_experts_were_once_multiplied_one_after_the_other_on_cards(tmp_path: Path) -> None:
    """Many small experts cost older builds their launches, few large ones hardly any."""
    path = tmp_path / "experts.csv"
    path.write_text(HEADER + OLD_EXPERTS)
    small, large, now = check(read(path)).predicted / check(read(path)).measured
    assert 1.0 / 1.5 < small < 1.5
    assert 1.0 / 1.3 < large < 1.3
    assert now > 1.7 * small


def test_a_mean_power_is_of_the_run_with_its_loading(tmp_path: Path) -> None:
    """A short prompt to a large model is over before loading is: the mean is near what loading draws, far below what
    working does; without a size nothing is known of loading."""
    rows = "kind,device,backend,engine,model,quant,bpw,phase,prompt,gen,depth,power_w,unit,model_gib,value\n"
    for size, prompt in ((40.0, 1), (40.0, 4096), ("", 4096)):
        what = "llm,AMD Ryzen AI Max+ 395,llama.cpp-hip ROCm,llama.cpp 6077,llama-3.3-70b,Q4_K_M,4.8,prefill"
        rows += f"{what},{prompt},0,0,100,tokens/s,{size},50\n"
    path = tmp_path / "power.csv"
    path.write_text(rows)
    table = read(path)
    a = check(table)
    short, long, bare = power(a, table).ratio * 100.0
    assert short < 0.7 * long
    assert long < bare == pytest.approx(a.watts[2])


NEURAL_ROWS = """llm_npu,Snapdragon 8 Elite QRD,1,genie,QAIRT/genie,llama-3.2-3b,w4a16,,prefill,128,,,1,,,ms,82.05
llm_npu,Snapdragon 8 Elite QRD,1,genie,QAIRT/genie,llama-3.2-3b,w4a16,,decode,,,4096,1,,,tokens/s,28.03
llm_npu,Snapdragon 8 Elite QRD,1,genie,QAIRT/genie,llama-3.2-3b,w4,,decode,,,4096,1,,,tokens/s,13.8
llm_npu,Rockchip RK3588,1,NPU rkllm,rkllm 1.3.0,qwen2.5-1.5b,w8a8,,decode,128,64,128,1,,,tokens/s,16.69
llm_npu,Hexagon v79 (Snapdragon 8 Elite) HTP,1,HTP,llama.cpp b6733,llama-3.2-1b,Q4_0,,decode,,64,0,1,,,tokens/s,51.5
"""


def test_language_models_on_neural_units(tmp_path: Path) -> None:
    """Milliseconds of a prompt are tokens a second; activations in floats are slower than in integers; kernels that are
    not on file are refused; and none of these rows is one of llama.cpp's and MLX's."""
    path = tmp_path / "neural.csv"
    path.write_text(HEADER + NEURAL_ROWS)
    table = read(path)
    found = check(table, NEURAL)
    assert len(check(table).rows) == 0
    assert found.measured[0] == pytest.approx(128.0 / 82.05e-3)
    assert found.machine.tolist()[:4] == ["snapdragon-8-elite-npu"] * 3 + ["rk3588-npu"]
    assert np.isfinite(found.predicted).tolist() == [True] * 4 + [False]
    assert found.predicted[2] < found.predicted[1]
    # A token reads every weight: 1.3 GB of the 8-bit model's layers and head, over 34.1 GB/s.
    assert found.predicted[3] < 34.1e9 / 1.3e9
    assert "not on file" in found.refused[0].reason


@pytest.mark.parametrize(
    ("quant", "bits", "gigabytes"),
    [("F16", "5.275", 13.79), ("MXFP4", "4.63", 12.11)],  # ggml-org/gpt-oss-20b-GGUF and its F16 sibling, file sizes
)
def test_files_of_experts_trained_in_4_bits(quant: str, bits: str, gigabytes: float) -> None:
    """Experts keep their 4.25 bits, and what the file holds beyond them is in all else; the whole is the file."""
    weights = weights_of(quant, bits)
    model = stored(load_model("gpt-oss-20b"), weights)
    held = weight_bytes(model, Plan(weights=weights))
    assert sum(held.values()) == pytest.approx(gigabytes * 1e9, rel=0.01)
    assert model.formats["expert"].bits == pytest.approx(4.25)
    assert model.formats["*"].bits == pytest.approx({"F16": 16.0, "MXFP4": 8.6}[quant], rel=0.05)
    # What is read for a token is more than the mean bits say, since all but the experts is read for each.
    plain = load_model("llama-3-8b")
    assert stored(plain, weights_of("Q4_K_M", "4.9")).formats["*"].bits == 4.9


def test_fewer_bits_than_experts_were_trained_in_are_the_experts() -> None:
    weights = weights_of("IQ2_XXS", "2.56")
    model = stored(load_model("deepseek-v4-flash"), weights)
    assert model.formats["*"].bits == 8.5
    assert model.formats["expert"].bits < 2.56
    held = weight_bytes(model, Plan(weights=weights))
    assert sum(held.values()) == pytest.approx(84.62 * 2**30, rel=0.02)  # the file's size in llama-bench's table
