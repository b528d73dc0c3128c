"""What must be true of the mechanisms of papers on serving, whatever the numbers."""

from __future__ import annotations

import numpy as np
import pytest

pytest.importorskip("numba")

from tierwise.core.errors import TierwiseError
from tierwise.papers import run
from tierwise.papers.catalog import (
    infinite_llm,
    nexus,
    relayattention,
    vattention,
    vllm_pagedattention,
)
from tierwise.papers.serving import full_batch, full_rate
from tierwise.papers.types import Claim, Paper
from tierwise.serving.outcome import DONE
from tierwise.serving.policies import load as policy


def test_a_part_that_is_not_installed_is_said_and_stops_no_other_claim() -> None:
    def without() -> float:
        raise TierwiseError("simulating needs numba")

    claims = (Claim("a", 1.0, "x", "ratio", "here", without), Claim("b", 1.0, "x", "ratio", "here", lambda: 1.0))
    first, second = run(Paper("p", "P", "arXiv:0", "none", claims))
    assert (first.state, first.error) == ("needs-feature", "simulating needs numba")
    assert (second.state, second.error) == ("reproduced", "")


class Engine:
    block, max_len = 16, 2048


class Request:
    def __init__(self, prompt: int, output: int, samples: int = 1) -> None:
        self.prompt, self.output, self.samples = prompt, output, samples


@pytest.mark.parametrize("prompt", [1, 100, 1000])
@pytest.mark.parametrize("output", [1, 25, 33, 1000])
def test_reservations_hold_the_request_and_the_better_informed_the_smaller(prompt: int, output: int) -> None:
    q = Request(prompt, output)
    most, twice, exact = (policy("kv", f"reserve_{name}").function("blocks") for name in ("max", "pow2", "exact"))
    assert most is not None and twice is not None and exact is not None
    for tokens in (1, prompt, prompt + output):
        least = -(-(prompt + output) // Engine.block)
        assert least <= exact(Engine, q, tokens) <= twice(Engine, q, tokens) <= most(Engine, q, tokens)
        assert exact(Engine, q, tokens) == exact(Engine, q, 1), "reserved once, for good"
        three = exact(Engine, Request(prompt, output, 3), tokens)
        assert three == 3 * exact(Engine, q, tokens)


def test_more_run_at_once_the_less_is_reserved() -> None:
    runs = {k: vllm_pagedattention.run(k, requests=400) for k in ("paged", *vllm_pagedattention.ORCA.values())}
    batch = {k: full_batch(r) for k, r in runs.items()}
    rate = {k: full_rate(r) for k, r in runs.items()}
    order = ["reserve_max", "reserve_pow2", "reserve_exact", "paged"]
    assert sorted(batch, key=batch.__getitem__) == order == sorted(rate, key=rate.__getitem__)
    assert all((r.requests.state == DONE).all() for r in runs.values())
    # Room for so many whole requests of the longest kind, and no more.
    most = 12e9 / (819200.0 * vllm_pagedattention.LONGEST)
    assert batch["reserve_max"] <= most


def test_reserving_costs_nothing_when_room_is_plenty() -> None:
    a, b = (vllm_pagedattention.run(k, "opt-175b", "alpaca", requests=400) for k in ("reserve_exact", "reserve_pow2"))
    assert np.array_equal(a.requests.last, b.requests.last)


def test_a_relayed_prompt_never_costs_time_and_gains_with_its_length() -> None:
    gains = [
        relayattention.chat(n, False, requests=300).totals["end"]
        / relayattention.chat(n, True, requests=300).totals["end"]
        for n in (64, 512, 2048)
    ]
    assert 1.0 <= gains[0] < gains[1] < gains[2]


def test_a_faster_kernel_gains_at_most_its_own_ratio_and_more_the_more_it_reads() -> None:
    gains = [vattention.decode_gain(b) for b in (1.0, 4.0, 16.0)]
    assert gains == sorted(gains) and gains[-1] < vattention.KERNEL
    assert vattention.decode_gain(8.0, kernel=1.0) == pytest.approx(1.0)


def test_pooled_rooms_add_up() -> None:
    one = infinite_llm.capacity(1.0)
    assert infinite_llm.capacity(4.0) == pytest.approx(4.0 * one, rel=1e-3)
    # As one tensor-parallel instance the same GPUs keep the weights once, so they hold more.
    assert infinite_llm.devices_for(3.9 * one) <= 4.0


def test_the_shortest_prompt_goes_first_until_others_have_waited_long() -> None:
    order = policy("schedulers", "shortest_prompt").function("order")
    assert order is not None

    class Waiting:
        def __init__(self, prompt: int, ready: float) -> None:
            self.prompt, self.ready = prompt, ready

    assert order(Engine, Waiting(100, 1.0), None) < order(Engine, Waiting(5000, 0.0), None)
    assert order(Engine, Waiting(100, 1000.0), None) > order(Engine, Waiting(5000, 0.0), None)


def test_prompts_beside_decoding_leave_tokens_undisturbed() -> None:
    case = nexus.CASES[0]
    together, beside = (nexus.run(*case, 1.0, split) for split in (0.0, 0.7))
    assert all((r.requests.state == DONE).all() for r in (together, beside))
    assert float(np.nanmax(beside.requests.longest)) < float(np.nanmax(together.requests.longest))
