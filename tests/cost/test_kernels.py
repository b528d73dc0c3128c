"""Which kernels an engine runs: by its version, the format and the device, and what connects devices."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tierwise.core.numerics import fmt
from tierwise.cost import Target, efficiency, price
from tierwise.cost.versions import release, same_release
from tierwise.machines import device, system
from tierwise.program.types import Op, Operand


@pytest.mark.parametrize(
    ("asked", "version", "basis"),
    [("", "0.22.0", "calibrated"), ("@0.22", "0.22.0", "calibrated"), ("@0.23.1", "0.22.0", "calibrated"),
     ("@0.24", "0.24.0", "transferred"), ("@0.31", "0.24.0", "transferred"), ("@0.11", "0.22.0", "calibrated")],
)  # fmt: skip
def test_a_version_has_the_kernels_of_the_newest_that_is_not_newer(asked: str, version: str, basis: str) -> None:
    """Attention of vLLM was recorded under 0.22 on the B200, and on its sibling under 0.24."""
    found = efficiency(device("b200-sxm"), f"vllm{asked}").fit("attention_decode", "bf16")
    assert found is not None and (found.version, found.basis) == (version, basis)


def test_versions_compare_as_numbers_and_untagged_checkouts_are_the_newest() -> None:
    names = ["0.9.2", "0.10", "0.24.0", "0.24.0rc1", "1.3.0rc20", "0.1.dev19262+gb6bbf29dd"]
    assert sorted(names, key=release) == [names[0], names[1], names[2], names[3], names[4], names[5]]
    assert same_release("0.24", "0.24.0") and not same_release("0.24", "0.2.4")


def test_prices_carried_to_a_sibling_or_a_version_are_less_sure() -> None:
    own = efficiency(device("h100-sxm"), "vllm").fit("matmul", "bf16")
    sibling = efficiency(device("h200-sxm"), "vllm").fit("matmul", "bf16")
    older = efficiency(device("h100-sxm"), "vllm@0.11").fit("moe", "bf16")
    same = efficiency(device("h100-sxm"), "vllm@0.24").fit("moe", "bf16")
    assert own and sibling and older and same
    for sure, unsure in ((own, sibling), (same, older)):
        assert unsure.interval[0] < sure.interval[0] and unsure.interval[1] > sure.interval[1]


def test_what_is_left_out_prices_nothing() -> None:
    b300 = device("b300-sxm")
    assert all(f.basis == "calibrated" for k, f in efficiency(b300).fits.items() if k[0] == "matmul" and k[2] == "vllm")
    left = efficiency(b300, "vllm@0.24.0", frozenset({"b300-sxm"}))
    assert all(f.basis == "transferred" and f.source for f in left.fits.values())
    no = efficiency(b300, "vllm@0.24.0", frozenset({"vllm@0.24.0"}))
    assert "0.24.0" not in {f.version for k, f in no.fits.items() if k[2].startswith("vllm")}


def experts(weights: str, tokens: float, ranks: float = 1.0) -> Op:
    """128 experts of which a token has 8, a rank's share of them; all are touched."""
    per = 3.0 * 4096.0 * 1536.0
    local, rows = 128.0 / ranks, tokens * 8.0 / ranks
    arithmetic = "bf16" if weights == "bf16" else "fp8"
    dims = {"tokens": rows, "hidden": 4096.0, "inner": 1536.0, "experts": local, "touched": local, "up": 2.0,
            "routed": tokens * 8.0, "reaching": tokens}  # fmt: skip
    acts, read = Operand("x", "act", rows * 4096.0, fmt("bf16")), Operand("w", "weight", local * per, fmt(weights))
    return Op("moe", "experts", "moe", dims, 2.0 * rows * per, (acts, read), (acts,), arithmetic)


@pytest.mark.parametrize("machine", ["h100-sxm", "h200-sxm"])
@pytest.mark.parametrize("engine", ["vllm", "sglang", "trtllm", ""])
@pytest.mark.parametrize("weights", ["fp8", "fp8-block"])
def test_experts_in_eight_bits_are_no_slower_than_in_sixteen(machine: str, engine: str, weights: str) -> None:
    """Half the bytes and twice the rate: engines run kernels on Hopper that make use of it from one batch to another.

    While experts have few tokens each nearly all of the time is reading, of which half is left."""
    one = system(machine)
    on = Target(one, efficiency(one.device, engine))
    for tokens, most in ((128.0, 0.75), (512.0, 0.8), (1024.0, 0.85)):
        wide, narrow = (float(np.asarray(price(experts(w, tokens), on).time)) for w in ("bf16", weights))
        assert narrow < most * wide


def test_vllm_has_other_kernels_where_experts_are_dealt_over_devices() -> None:
    one = system("h200-sxm")
    on = Target(one, efficiency(one.device, "vllm"))
    plain = replace(on, efficiency=efficiency(one.device, "vllm:vllm_fp8moe_triton_tritonexperts"))
    dealt = replace(on, efficiency=efficiency(one.device, "vllm:vllm_fp8moe_flashinfer_cutlass_flashinferexperts"))
    whole, part = experts("fp8-block", 256.0), experts("fp8-block", 256.0, 8.0)
    assert price(whole, on).time == price(whole, plain).time
    assert price(part, on).time == pytest.approx(price(part, dealt).time)
    assert price(part, on).time != pytest.approx(price(part, plain).time, rel=1e-3)


@pytest.mark.parametrize("machine", ["2xrtx-4090", "2xa10", "2xrtx-pro-6000", "2xl40s", "2xrtx-pro-6000-server"])
def test_two_cards_get_three_fifths_of_their_slots(machine: str) -> None:
    """NCCL reached 20.1 of 31.5 GB/s on PCIe 4 (L40S) and 37.8 of 63 on PCIe 5 (RTX PRO 6000 Server)."""
    two = system(machine)
    size = 256.0 * 2.0**20
    op = Op("collective", "ar", "comm", {"bytes": size, "group": 2.0}, 0.0, (), (), "bf16",
            options={"collective": "all_reduce", "library": True})  # fmt: skip
    cost = price(op, Target(two, efficiency(two.device)))
    assert two.scale_up is not None
    assert size / float(np.asarray(cost.time)) / two.scale_up.bandwidth == pytest.approx(0.6, abs=0.1)


def test_what_the_slots_of_one_machine_carry_says_little_of_another() -> None:
    """Among eight L40S all-reduces came to 1.5 GB/s, among eight cards elsewhere to 22 to 41: the host's affair."""
    known = efficiency(device("l40s")).fit("collective", "all_reduce-host")
    other = efficiency(device("rtx-4090")).fit("collective", "all_reduce-host")
    assert known and other and (known.basis, other.basis) == ("calibrated", "transferred")
    assert other.interval[1] / other.interval[0] > 2.0 * known.interval[1] / known.interval[0]


@pytest.mark.parametrize("name, group, rate", [
    ("8xrtx-5090", 8.0, 28.0), ("8xrtx-5090", 4.0, 35.0), ("8xa100-pcie-80gb", 3.0, 20.0),
])  # fmt: skip
def test_cards_on_slots_keep_about_half_of_them_in_any_number(name: str, group: float, rate: float) -> None:
    """GB/s that owners published (NVIDIA/nccl#1639, nccl-tests#178), in machines like none that was recorded."""
    machine, size = system(name), 4e9
    op = Op("collective", "ar", "comm", {"bytes": size, "group": group}, 0.0, (), (), "bf16",
            options={"collective": "all_reduce"})  # fmt: skip
    for engine in ("", "vllm"):
        cost = price(op, Target(machine, efficiency(machine.device, engine)))
        reached = 2.0 * (group - 1.0) / group * size / float(np.asarray(cost.time)) / 1e9
        assert reached == pytest.approx(rate, rel=0.5)


def test_twice_the_special_function_units_shorten_softmax_alone() -> None:
    """Blackwell Ultra doubled them: prefill gains, and no more than the exponentials' share of the work."""
    from tierwise.cost.attention import softmax_rate

    one = system("b200-sxm")
    engines = tuple(replace(e, exponentials=32.0) if e.kind == "vector" else e for e in one.device.engines)
    twice = replace(one, device=replace(one.device, engines=engines))
    rates = [softmax_rate(Target(s, efficiency(s.device))) for s in (one, twice)]
    assert 1.0 < rates[1] / rates[0] < 2.0
    assert system("b300-sxm").device.engines[1].exponentials == 32.0
