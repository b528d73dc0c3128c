"""Kernels that engines share: coefficients follow the kernel where an engine's version was not recorded."""

from __future__ import annotations

import pytest

from tierwise.cost import efficiency
from tierwise.cost.libraries import stand_ins
from tierwise.machines import system


def test_a_version_that_was_not_recorded_has_the_kernel_of_its_library() -> None:
    """vLLM 0.24 runs on Blackwell what SGLang ran: TensorRT-LLM's kernels, not those of vLLM 0.22."""
    device = system("b300-sxm").device
    kernel, without = "vllm_flashinfer_trtllmdecode", frozenset({"vllm@0.24.0"})
    own = efficiency(device, f"vllm@0.24.0:{kernel}").fit("attention_decode", "bf16")
    stands = efficiency(device, f"vllm@0.24.0:{kernel}", without).fit("attention_decode", "bf16")
    older = efficiency(device, "vllm@0.24.0", without).fit("attention_decode", "bf16")
    shared = efficiency(device, "sglang:trtllm_mha").fit("attention_decode", "bf16")
    assert own is not None and stands is not None and older is not None and shared is not None
    assert own.version == "0.24.0" and older.version == "0.22.0"
    assert stands.values == shared.values and stands.basis == "transferred" and own.basis == "calibrated"
    assert stands.interval[1] / stands.interval[0] > shared.interval[1] / shared.interval[0]


def test_a_kernel_that_changed_under_its_name_is_another() -> None:
    """SGLang 0.5.10 still had vLLM's all-reduce; what was recorded on the H100 is the one after it."""
    device = system("h100-sxm").device
    new, old = (efficiency(device, f"sglang@{v}").fit("custom_allreduce", "graph") for v in ("0.5.14", "0.5.10"))
    vllm = efficiency(device, "vllm").fit("custom_allreduce", "graph")
    assert new is not None and old is not None and vllm is not None
    kernel = ("start", "step", "low", "each", "middle_extra", "middle_step", "middle")
    assert all(old[k] == vllm[k] for k in kernel) and any(new[k] != vllm[k] for k in kernel)


@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm"])
def test_what_was_recorded_is_never_replaced(engine: str) -> None:
    for name in ("a100-sxm-80gb", "h100-sxm", "b200-sxm", "l40s"):
        found = efficiency(system(name).device, engine)
        assert not stand_ins(engine, "", "", found.fits)


def test_with_an_eight_bit_cache_queries_must_be_of_one_width() -> None:
    """SGLang hands over queries of 16 bits and vLLM of 8, under any of the names that recordings gave its kernels."""
    found = efficiency(system("b300-sxm").device, "vllm@0.24.0", frozenset({"vllm@0.24.0"}))
    stands = stand_ins("vllm", "0.24.0", "vllm_flashinfer_trtllmdecode", found.fits)
    of = {k[1]: f for k, f in stands.items() if k[0] == "attention_decode"}
    assert set(of) == {"bf16", "kv8"}
    older = efficiency(system("b200-sxm").device, "vllm@0.22.0").fit("attention_decode", "kv8")
    assert older is not None and of["kv8"].version == "0.22.0" and of["bf16"].version == "0.5.14"


def test_kernels_of_few_tokens_are_their_librarys_not_their_engines() -> None:
    """TensorRT-LLM runs few tokens on the generated kernels that SGLang calls, and all others on CUTLASS."""
    found = efficiency(system("b300-sxm").device, "trtllm", frozenset({"b200-sxm"}))
    kernel = "moe_torch_flow_min_latency"
    few = stand_ins("trtllm", "", kernel, found.fits)["moe", "nvfp4", f"trtllm:{kernel}"]
    sglang, cutlass = found.fits["moe", "nvfp4", "sglang"], found.fits["moe", "nvfp4", "trtllm"]
    assert few.values == sglang.values != cutlass.values


def test_where_eight_bits_were_not_recorded_a_kernel_is_as_in_sixteen() -> None:
    """With one scale a tensor the main loop of 8-bit experts is that of 16-bit ones; launched as the engine's version
    does it: tiles by the number of tokens."""
    found = efficiency(system("b300-sxm").device, "vllm@0.22.0", frozenset({"b200-sxm"}))
    stands = stand_ins("vllm", "0.22.0", "vllm_fused_moe", found.fits)["moe", "fp8", "vllm:vllm_fused_moe"]
    wide = found.fits["moe", "bf16", "sglang:sglang_fused_moe_triton"]
    assert ("moe", "fp8", "sglang:sglang_fused_moe_triton") not in found.fits
    assert stands.values == {**wide.values, "by_tokens": 3.0} and stands.dtype == "fp8"
    older = stand_ins("vllm", "0.14.0", "vllm_fused_moe", found.fits)["moe", "fp8", "vllm:vllm_fused_moe"]
    assert older.values["by_tokens"] == 2.0


def test_what_an_engine_tunes_is_priced_tuned_and_its_recording_as_recorded() -> None:
    """TensorRT-LLM tries its NVFP4 kernels when it starts; recorded was the first. The same as others' stays."""
    for name, changed in (("b200-sxm", True), ("rtx-pro-6000-server", False)):
        device = system(name).device
        runs, held = (efficiency(device, e).fit("matmul", "fp4") for e in ("trtllm", "trtllm:torch_flow"))
        vllm = efficiency(device, "vllm").fit("matmul", "fp4")
        assert runs is not None and held is not None and vllm is not None
        assert (runs.values != held.values) == changed and (runs.values == vllm.values) == changed


def test_launches_by_the_host_say_nothing_of_kernels_in_graphs() -> None:
    """vLLM's block-scaled products on an H100 were timed one by one, 60 to 180 us each; SGLang runs DeepGEMM's too."""
    device = system("h100-sxm").device
    vllm, sglang = (efficiency(device, e).fit("matmul", "fp8-block") for e in ("vllm", "sglang"))
    assert vllm is not None and sglang is not None and float(vllm.values["host"]) > 50e-6
    begins = [float(f.values["launch"]) + float(f.values["quantize"]) for f in (vllm, sglang)]
    assert begins[0] < 1.5 * begins[1]
