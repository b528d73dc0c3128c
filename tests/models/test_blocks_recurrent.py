"""Blocks with a state of fixed size: what decoding reads, how work grows, how tensor parallelism divides it."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tierwise.core.numerics import fmt
from tierwise.models.blocks.delta_net import GatedDeltaNet
from tierwise.models.blocks.linear_attention import LinearAttention
from tierwise.models.blocks.rwkv import ChannelMix, MatrixTimeMix, TimeMix
from tierwise.models.blocks.scan import chunk_flops
from tierwise.models.blocks.ssm import Mamba, Mamba2
from tierwise.models.step import Step
from tierwise.models.types import Block, Model
from tierwise.program.types import Op
from tierwise.scenario.types import Plan

MODEL = Model("toy", "toy", 1024.0, 0.0, ())

BLOCKS: dict[str, Block] = {
    "mamba": Mamba(1024.0, 2048.0, 16.0, 64.0),
    "mamba-both-ways": Mamba(192.0, 384.0, 16.0, 12.0, directions=2),
    "mamba2": Mamba2(1024.0, 32.0, 64.0, 128.0, 8.0),
    "delta": GatedDeltaNet(2048.0, 16.0, 32.0, 128.0, 128.0),
    "lightning": LinearAttention(1024.0, 8.0, 128.0, 128.0, chunk=256.0),
    "gla": LinearAttention(1024.0, 4.0, 128.0, 256.0, decay_rank=16.0),
    "rwkv-time": TimeMix(1024.0, 1024.0),
    "rwkv-matrix": MatrixTimeMix(1024.0),
    "rwkv-channel": ChannelMix(1024.0, 4096.0),
}


def step(phase: str, seqs: float = 4.0, new: float = 1.0, past: float = 0.0, **plan: float) -> Step:
    return Step(MODEL, Plan(**plan), seqs, new, past, phase)


def scans(block: Block, s: Step) -> list[Op]:
    return [op for op in block.ops(s) if op.kind == "scan"]


def traffic(block: Block, s: Step, role: str) -> float:
    return float(sum(op.bytes_of(role) for op in block.ops(s)))


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_decoding_moves_the_state_whatever_the_context(block: Block) -> None:
    short, long = (traffic(block, step("decode", past=p), "state") for p in (100.0, 1e6))
    assert short == long > 0
    assert traffic(block, step("decode", past=1e6), "kv") == 0


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_decoding_reads_and_writes_exactly_what_is_kept(block: Block) -> None:
    if getattr(block, "directions", 1) == 2:
        pytest.skip("a backward scan has no decoding")
    s = step("decode", seqs=4.0, past=64.0)
    kept = 4.0 * sum(x.elements * x.format.bytes for x in block.state(s))
    assert traffic(block, s, "state") == pytest.approx(2.0 * kept)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_a_first_prompt_reads_no_state_and_a_later_chunk_does(block: Block) -> None:
    first, later = (traffic(block, step("prefill", new=256.0, past=p), "state") for p in (0.0, 256.0))
    assert later == pytest.approx(2.0 * first)


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
def test_prompt_work_is_linear_in_tokens(block: Block) -> None:
    one, four = (sum(op.flops for op in block.ops(step("prefill", new=n))) for n in (1024.0, 4096.0))
    assert four == pytest.approx(4.0 * one)


@pytest.mark.parametrize("name", ["mamba2", "delta", "lightning"])
def test_chunked_work_is_at_least_the_products_with_the_state(name: str) -> None:
    (op,) = scans(BLOCKS[name], step("prefill", new=4096.0))
    d = op.dims
    tokens = d["batch"] * d["tokens"]
    assert op.flops > 4.0 * tokens * d["heads"] * d["key"] * d["value"]
    # Quadratic work is bounded by the chunk: as attention over half a chunk each way, twice for the delta rule.
    assert op.flops < tokens * d["heads"] * (6 * d["key"] * d["value"] + 6 * d["chunk"] * (d["key"] + d["value"]))


def test_mamba2_in_chunks_is_the_paper_s_count() -> None:
    """With N = P = Q, the four products of state-space duality cost 2 T N² each (arXiv:2405.21060, theorem 6.1).

    Two of them are causal, so half of each is work.
    """
    n = 64.0
    assert chunk_flops("linear", 1.0, 1.0, n, n, n) == pytest.approx(2 * (2 * n * n) + 2 * n * (n + 1))


class Tally:
    """A number that counts the operations done with it."""

    done = 0

    def _op(self, *_: object) -> Tally:
        Tally.done += 1
        return self

    __add__ = __sub__ = __mul__ = exp = _op


def updates(rule: str, key: int, value: int) -> int:
    """Operations on the state of one head for one token, by doing them."""
    Tally.done = 0
    x = Tally()
    for _ in range(value):
        for _ in range(key):
            if rule == "selective":
                _ = (x * x).exp() * x + (x * x), x + x * x
            elif rule == "linear":
                _ = x * x + x * x, x + x * x
            elif rule == "delta":
                _ = x * x, x + x * x, x + x * x, x + x * x
    return Tally.done


@pytest.mark.parametrize(("rule", "name"), [("selective", "mamba"), ("linear", "mamba2"), ("delta", "delta")])
def test_one_token_costs_the_operations_of_its_update(rule: str, name: str) -> None:
    (op,) = scans(BLOCKS[name], step("decode", seqs=1.0, past=10.0))
    d = op.dims
    beside = 4.0 * d["channels"] if rule == "selective" else 0.0
    assert op.flops == d["heads"] * updates(rule, int(d["key"]), int(d["value"])) + beside


def test_the_chunked_delta_rule_is_its_pairs_of_tokens() -> None:
    chunk, key, value = 64, 128, 96
    below = sum(1 for i in range(chunk) for j in range(i))
    seen = below + chunk
    products = 2 * below * (key + key + value) + 2 * seen * (key + value) + 6 * chunk * key * value
    assert chunk_flops("delta", 1.0, 1.0, key, value, float(chunk)) * chunk == products


def test_selective_scan_counts_seven_vector_operations_per_state_number() -> None:
    (op,) = scans(BLOCKS["mamba"], step("prefill", seqs=2.0, new=100.0))
    assert op.flops == 2 * 100 * 2048 * (7 * 16 + 4)
    assert op.arithmetic == "fp32"


def test_tensor_parallelism_divides_heads_state_and_work() -> None:
    for name in ("mamba", "mamba2", "delta", "lightning", "gla"):
        block = BLOCKS[name]
        whole, part = step("prefill", new=512.0), step("prefill", new=512.0, tp=4.0)
        (a,), (b,) = scans(block, whole), scans(block, part)
        assert b.flops == pytest.approx(a.flops / 4.0), name
        kept = [sum(x.elements for x in block.state(s)) for s in (whole, part)]
        assert kept[1] == pytest.approx(kept[0] / 4.0), name
        assert any(op.kind == "collective" for op in block.ops(part)), name
        assert not any(op.kind == "collective" for op in block.ops(whole)), name


def test_groups_beyond_their_number_are_copied() -> None:
    block = Mamba2(1024.0, 32.0, 64.0, 128.0, groups=1.0)
    _, groups = block.local(step("prefill", tp=8.0))
    assert groups == 1.0


def test_the_state_is_stored_in_its_own_format() -> None:
    block = Mamba2(1024.0, 32.0, 64.0, 128.0, state_format=fmt("fp32"))
    by_name = {s.name: s.format.bits for s in block.state(step("decode"))}
    assert by_name == {"ssm_state": 32.0, "conv_state": 16.0}


def test_two_directions_scan_twice_with_their_own_weights() -> None:
    one = Mamba(192.0, 384.0, 16.0, 12.0)
    both = replace(one, directions=2)
    s = step("prefill", new=196.0)
    assert sum(o.flops for o in scans(both, s)) == 2 * sum(o.flops for o in scans(one, s))
    extra = sum(w.elements for w in both.weights()) - sum(w.elements for w in one.weights())
    assert extra == 384 * 5 + 384 * 44 + 12 * 384 + 384 + 384 * 16 + 384


@pytest.mark.parametrize("block", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("phase", ["prefill", "decode"])
def test_arrays_give_what_scalars_give(block: Block, phase: str) -> None:
    seqs, new, past, tp = (
        np.array([1.0, 3.0, 8.0]),
        np.array([1.0, 40.0, 700.0]),
        np.array([0.0, 9.0, 5e4]),
        2.0,
    )
    many = list(block.ops(step(phase, seqs, new, past, tp=tp)))
    for i in range(3):
        one = list(block.ops(step(phase, seqs[i], new[i], past[i], tp=tp)))
        assert [o.name for o in one] == [o.name for o in many]
        for a, b in zip(one, many, strict=True):
            assert np.broadcast_to(b.flops, 3)[i] == pytest.approx(a.flops)
            assert np.broadcast_to(b.bytes, 3)[i] == pytest.approx(a.bytes)
