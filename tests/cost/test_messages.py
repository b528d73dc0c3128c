"""Which of an engine's all-reduces takes a message, and what is left to the library."""

from __future__ import annotations

import numpy as np
import pytest

from tierwise.cost import Target, efficiency, price
from tierwise.cost.messages import OF_WAY, limits
from tierwise.machines import system
from tierwise.program.types import Op

MIB = 2.0**20


def seconds(size: float, group: float, name: str, engine: str, library: bool = False, graphs: bool = True) -> float:
    s = system(name)
    op = Op("collective", "all_reduce", "comm", {"bytes": np.array([size]), "group": group}, 0.0, (), (), "bf16",
            options={"collective": "all_reduce", "library": library})  # fmt: skip
    return float(np.asarray(price(op, Target(s, efficiency(s.device, engine), graphs=graphs)).time)[0])


@pytest.mark.parametrize("name, engine, most", [
    ("8xa100-sxm-80gb", "vllm@0.14.0", 8 * MIB - 1), ("8xa100-sxm-80gb", "sglang@0.5.10", 8 * MIB),
    ("8xb200-sxm", "vllm@0.24.0", 128 * MIB), ("8xb300-sxm", "vllm@0.24.0", 64 * MIB),
    ("8xb200-sxm", "trtllm", 32 * MIB),
])  # fmt: skip
def test_larger_messages_are_the_librarys(name: str, engine: str, most: float) -> None:
    above, ours = (seconds(x, 8.0, name, engine) for x in (most + 1, most))
    assert above == pytest.approx(seconds(most + 1, 8.0, name, engine, library=True))
    assert ours != pytest.approx(above, rel=1e-3)


def test_two_passes_begin_where_the_engine_says() -> None:
    """vLLM reads everything from all below 256 KiB for eight devices; the second barrier costs as much as it all."""
    one, two = (seconds(x * 2.0**10, 8.0, "8xb200-sxm", "vllm") for x in (255.0, 256.0))
    assert two > 1.5 * one
    assert seconds(256.0 * 2**10, 4.0, "8xb200-sxm", "vllm") < two


def test_limits_follow_version_and_compute_capability() -> None:
    """vLLM had no table for 10.3 at first: all up to 8 MiB by its own kernel, as on devices without multicast."""
    b200, old, new = (limits("vllm", v, "blackwell", d) for v, d in
                      (("0.18.0", "b200-sxm"), ("0.10.0", "b300-sxm"), ("0.24.0", "b300-sxm")))  # fmt: skip
    assert b200["cast_8"] == 128 * MIB and new["cast_8"] == 64 * MIB and old["cast_8"] == 0.0
    assert old["twice_8"] == 8 * MIB - 1 > new["twice_8"] > b200["twice_8"]
    assert limits("sglang", "0.5.10", "hopper", "h100-sxm")["twice_8"] == 8 * MIB
    assert limits("sglang", "", "hopper", "h100-sxm")["twice_8"] == 16 * MIB
    assert limits("llama.cpp", "", "hopper", "h100-sxm") == {}


@pytest.mark.parametrize("engine", ["trtllm@1.3.0rc20", "sglang@0.5.14"])
def test_a_way_that_was_not_recorded_of_a_kernel_goes_as_others_on_the_device_do(engine: str) -> None:
    """On the A100 TensorRT-LLM 1.0 adds in one pass or leaves it to NCCL; its later versions also add in two, and so
    does the SGLang that has its kernel."""
    device = system("a100-sxm-80gb").device
    asked, old, typical = (efficiency(device, e).fit("custom_allreduce", "graph") for e in (engine, "trtllm@1.0.0", ""))
    assert asked is not None and old is not None and typical is not None
    assert asked["start"] == old["start"] != typical["start"] and old["twice_8"] == 0.0 < asked["twice_8"]
    assert [asked[n] for n in OF_WAY["twice"]] == [typical[n] for n in OF_WAY["twice"]]
    two, library = (seconds(4 * MIB, 8.0, "8xa100-sxm-80gb", engine, library=x) for x in (False, True))
    assert two < library


def test_groups_between_those_of_the_table_go_as_the_next_larger() -> None:
    assert seconds(300e3, 6.0, "8xb200-sxm", "vllm") > 1.5 * seconds(300e3, 4.0, "8xb200-sxm", "vllm")
    assert seconds(1e6, 7.0, "8xa100-sxm-80gb", "vllm") < seconds(1e6, 8.0, "8xa100-sxm-80gb", "vllm")


def test_where_no_engine_is_named_the_fastest_way_is_taken() -> None:
    sizes = 2.0 ** np.arange(8, 31)
    times = np.array([seconds(x, 8.0, "8xh100-sxm", "") for x in sizes])
    library = np.array([seconds(x, 8.0, "8xh100-sxm", "", library=True) for x in sizes])
    assert np.all(times <= library * (1 + 1e-9)) and np.all(np.diff(times) > 0)


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_a_launch_hides_behind_large_messages_and_paces_small_ones(engine: str) -> None:
    small, large = ([seconds(x, 8.0, "8xh100-sxm", engine, graphs=g) for g in (True, False)] for x in (1e3, 1e9))
    assert small[1] > 3.0 * small[0]
    assert large[1] == pytest.approx(large[0], rel=1e-6)
