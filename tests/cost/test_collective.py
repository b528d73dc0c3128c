"""Collectives: the volumes theory demands, the better algorithm at each size, both levels of a cluster."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tierwise.core.errors import TierwiseError
from tierwise.cost import Target, efficiency, price
from tierwise.cost.types import Cost
from tierwise.machines import system
from tierwise.program.types import Op


def run(kind: str, size: object, group: object, name: str = "8xh100-sxm") -> Cost:
    s = system(name)
    op = Op("collective", kind, "comm", {"bytes": size, "group": group}, 0.0, (), (), "fp32",  # type: ignore[dict-item]
            options={"collective": kind})  # fmt: skip
    return price(op, Target(s, efficiency(s.device)))


def test_alone_costs_nothing() -> None:
    for kind in ("all_reduce", "all_gather", "all_to_all"):
        assert run(kind, 1e9, 1.0).time == 0.0


@settings(max_examples=40, deadline=None)
@given(st.floats(1e3, 1e10), st.sampled_from([2.0, 4.0, 8.0]))
def test_all_reduce_is_never_faster_than_its_lower_bound(size: float, group: float) -> None:
    """Without in-network sums each device must send and receive 2 (n-1)/n of the buffer; with them, one buffer."""
    link = system("8xh100-sxm").scale_up
    assert link is not None
    least = size if link.reduces else 2 * (group - 1) / group * size
    assert run("all_reduce", size, group).time >= least / link.bandwidth


def test_latency_rules_small_messages_and_bandwidth_large_ones() -> None:
    small = [run("all_reduce", s, 8.0).time for s in (1e3, 2e3)]
    large = [run("all_reduce", s, 8.0).time for s in (1e9, 2e9)]
    assert small[1] / small[0] < 1.05
    assert large[1] / large[0] == pytest.approx(2.0, rel=0.01)


def test_crossing_nodes_is_bound_by_the_network() -> None:
    inside, across = run("all_reduce", 1e9, 8.0, "16xh100-sxm"), run("all_reduce", 1e9, 16.0, "16xh100-sxm")
    s = system("16xh100-sxm")
    assert s.scale_out is not None
    assert across.bytes["network"] == pytest.approx(2 * (1 / 2) * 1e9 / 8)
    assert across.time - inside.time >= across.bytes["network"] / s.scale_out.bandwidth


def test_all_to_all_keeps_its_own_share() -> None:
    cost = run("all_to_all", 8e6, 8.0)
    assert cost.bytes["link"] == pytest.approx(7e6)
    cost = run("all_to_all", 16e6, 16.0, "16xh100-sxm")
    assert cost.bytes["link"] == pytest.approx(7e6)
    assert cost.bytes["network"] == pytest.approx(8e6)


def test_arrays_of_groups_agree_with_scalars() -> None:
    sizes, groups = np.array([1e4, 1e8]), np.array([1.0, 4.0, 16.0])[:, None]
    many = run("all_reduce", sizes, groups, "16xh100-sxm").time
    for i, g in enumerate((1.0, 4.0, 16.0)):
        for j, x in enumerate((1e4, 1e8)):
            assert many[i, j] == pytest.approx(run("all_reduce", x, g, "16xh100-sxm").time, rel=1e-12)


def test_devices_without_a_link_say_so() -> None:
    with pytest.raises(TierwiseError, match="no scale-up link"):
        run("all_reduce", 1e6, 2.0, "stm32f746")


def test_small_library_all_reduces_take_what_nccl_models_says() -> None:
    """LL ring over eight devices: 6.6 us and fourteen hops of 0.6 us (NCCL, src/graph/tuning.cc)."""
    s = system("8xh100-sxm")
    op = Op("collective", "all_reduce", "comm", {"bytes": 256.0, "group": 8.0}, 0.0, (), (), "fp32",
            options={"collective": "all_reduce", "library": True})  # fmt: skip
    cost = price(op, Target(s, replace(efficiency(s.device), fits={})))  # not the fitted protocols
    assert cost.overlapped["link"] == pytest.approx(6.6e-6 + 14 * 0.6e-6, rel=0.01)
