"""Techniques: each does to bytes, FLOPs and memory what its paper says it does, and leaves the rest alone."""

import pytest

import tierwise as tw
from tierwise import techniques as t
from tierwise.core.errors import TierwiseError
from tierwise.models.types import Model


@pytest.fixture
def base(dense: Model) -> tw.Scenario:
    return tw.Scenario(dense, "8xh100-sxm", tw.Batch(prompt=8192, output=2, batch=16), tw.Plan())


def decode(s: tw.Scenario, role: str) -> float:
    return float(tw.evaluate(s).phase("decode").reads(role))


def cache_reads(s: tw.Scenario) -> float:
    core = next(p for p in tw.evaluate(s).phase("decode").ops if p.op.name == "attn.core")
    return float(core.op.bytes_of("kv"))


def test_the_scenario_remembers_and_is_not_changed(base: tw.Scenario) -> None:
    changed = base.apply(t.quantize_kv(bits=2, group=32), t.quantize_weights("int4-g128"))
    assert base.techniques == () and len(changed.techniques) == 2


def test_kv_bits(base: tw.Scenario) -> None:
    quantized = base.apply(t.quantize_kv(bits=2, group=32))
    assert cache_reads(quantized) / cache_reads(base) == pytest.approx(3 / 16)
    kept = base.apply(t.quantize_kv(bits=2, group=32, residual=8192.0))
    assert cache_reads(kept) == pytest.approx(cache_reads(base))
    assert tw.compare(base, quantized).memory.kv.value == pytest.approx(3 / 16)


def test_eviction_stores_and_reads_less(base: tw.Scenario) -> None:
    half = base.apply(t.evict_kv(keep=0.5))
    assert cache_reads(half) == pytest.approx(cache_reads(base) / 2)
    assert tw.evaluate(half).memory.kv == pytest.approx(tw.evaluate(base).memory.kv / 2)


def test_sparse_reading_keeps_storage(base: tw.Scenario) -> None:
    sparse = base.apply(t.sparse_attention(budget=1024))
    assert cache_reads(sparse) == pytest.approx(cache_reads(base) * 1024 / 8192)
    assert tw.evaluate(sparse).memory.kv == pytest.approx(tw.evaluate(base).memory.kv)
    chosen = base.apply(t.sparse_attention(budget=1024, selector_bits=4))
    keys = 4 * 8 * 8192 * 4 * 64  # a nibble of every key element, 16 sequences: half a byte × 16
    per_layer = keys / 4
    assert cache_reads(chosen) - cache_reads(sparse) == pytest.approx(per_layer)


def test_low_rank_caches_keep_a_window(base: tw.Scenario) -> None:
    full = tw.evaluate(base).memory.kv
    low = tw.evaluate(base.apply(t.low_rank_kv(0.25))).memory.kv
    window = tw.evaluate(base.apply(t.low_rank_kv(0.25, window=32))).memory.kv
    assert low == pytest.approx(full / 4)
    assert window - low == pytest.approx(full * 32 / 8193)


def test_rematerialization_trades_bytes_for_arithmetic(base: tw.Scenario) -> None:
    remat = base.apply(t.rematerialize_kv())
    before, after = (tw.evaluate(s).phase("decode").flops for s in (base, remat))
    assert after > before
    # Grouped-query keys and values are narrower than the input here, so storing the input costs memory.
    assert cache_reads(remat) / cache_reads(base) == pytest.approx(1024 / 512)


def test_a_relayed_prefix_is_read_once(base: tw.Scenario) -> None:
    shared, relayed = base.apply(t.share_prefix(4096)), base.apply(t.share_prefix(4096, relay=True))
    assert cache_reads(shared) == pytest.approx(cache_reads(base))
    assert cache_reads(relayed) / cache_reads(base) == pytest.approx((16 * 4096 + 4096) / (16 * 8192))
    stored = tw.evaluate(shared).memory.kv / tw.evaluate(base).memory.kv
    assert stored == pytest.approx((16 * 4097 + 4096) / (16 * 8193))
    assert tw.evaluate(shared).ttft < tw.evaluate(base).ttft


def test_layers(base: tw.Scenario) -> None:
    cut, shared = base.apply(t.prune_layers(2)), base.apply(t.share_layers(2))
    mlp = tw.evaluate(base).memory.weights["mlp"]
    assert tw.evaluate(cut).memory.weights["mlp"] == pytest.approx(mlp / 2)
    assert tw.evaluate(shared).memory.weights["mlp"] == pytest.approx(mlp / 2)
    assert tw.evaluate(shared).phase("decode").flops == pytest.approx(tw.evaluate(base).phase("decode").flops)
    with pytest.raises(TierwiseError, match="some, not all"):
        base.apply(t.prune_layers(4))


def test_structured_sparsity_halves_bytes_and_doubles_the_rate(base: tw.Scenario) -> None:
    sparse = base.apply(t.sparsify_weights(0.5, structured=True))
    up = [next(p for p in tw.evaluate(s).phase("prefill").ops if p.op.name == "mlp.up") for s in (base, sparse)]
    assert up[1].op.bytes_of("weight") == pytest.approx(up[0].op.bytes_of("weight") / 2)
    assert up[1].cost.overlapped["compute"] == pytest.approx(up[0].cost.overlapped["compute"] / 2)


def test_ladder_hides_communication_but_not_arithmetic(base: tw.Scenario) -> None:
    plain = base.with_plan(tp=8.0)
    ladder = plain.apply(t.ladder_residual())
    a, b = tw.evaluate(plain), tw.evaluate(ladder)
    alone = a.phase("decode").total(lambda p: 0.0 if p.op.kind == "collective" else p.cost.time)
    assert alone <= b.tpot < a.tpot


def test_library_collectives_wait_longer_for_small_messages(base: tw.Scenario) -> None:
    sharded = base.with_plan(tp=8.0).with_traffic(batch=1.0)
    library = sharded.apply(t.library_collectives())

    def links(s: tw.Scenario) -> float:
        return float(tw.evaluate(s).phase("decode").bounds["link"])

    assert links(library) > 2 * links(sharded)
    assert links(library.with_traffic(batch=1e5)) <= links(sharded.with_traffic(batch=1e5)) * 1.5


def test_eager_launches_bind_small_steps(base: tw.Scenario) -> None:
    small = base.with_traffic(batch=1.0, prompt=16.0)
    eager = tw.evaluate(small.apply(t.eager()))
    assert eager.tpot > tw.evaluate(small).tpot
    assert eager.phase("decode").bound_by in ("launch", "host")
    assert eager.phase("decode").cost.launch > eager.phase("decode").cost.device


def test_windows_and_static_patterns(base: tw.Scenario) -> None:
    assert cache_reads(base.apply(t.slide_window(1024.0))) == pytest.approx(cache_reads(base) / 8)
    assert cache_reads(base.apply(t.sparsify_attention(0.25))) == pytest.approx(cache_reads(base) / 4)


def test_every_technique_is_found_by_its_place_and_documented() -> None:
    found = t.all_techniques()
    assert {"quantize_kv", "shard", "prune_layers"} <= set(found)
    assert all(f.__doc__ for f in found.values())
    with pytest.raises(AttributeError, match="quantize_kv"):
        _ = t.quantise_kv
