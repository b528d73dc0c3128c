"""What must be true of models that read part of their weights from a slow memory, whatever the numbers."""

from __future__ import annotations

import pytest

import tierwise as tw
from tierwise import techniques
from tierwise.models.load import load_model
from tierwise.papers.catalog import _dnns, cosma, endor, llm_in_a_flash, sirius_contextual_sparsity, tpi_llm


def copied(s: tw.Scenario) -> float:
    """Bytes that a step of decoding reads from the disk."""
    return float(tw.evaluate(s).phase("decode").traffic["nvme"])


def test_a_bitmap_is_one_bit_for_each_place() -> None:
    """Half of the values at 16 bits and a bit for all: nine of sixteen bits of the linear weights."""
    away = techniques.offload_weights(1.0, to="nvme")
    dense, sparse = copied(endor.base("opt-66b").apply(away)), copied(endor.sparse("opt-66b").apply(away))
    linear = 64 * 12 * 9216**2  # OPT-66B: 64 layers of four square products and two of four widths
    assert dense - sparse == pytest.approx(linear * 2.0 * (1.0 - 9.0 / 16.0), rel=5e-3)


def test_the_page_cache_is_never_faster_than_the_disk() -> None:
    for model in endor.MODELS:
        assert endor.direct(model) < endor.endor(model) < endor.accelerate(model)


def test_a_round_lies_between_its_sparse_tokens_and_whole_ones() -> None:
    """The whole model looks over a round once, so a token costs more than a sparse one and less than a whole one."""
    for row in (*sirius_contextual_sparsity.ROWS, sirius_contextual_sparsity.AWAY):
        sparse, both, full = (
            f(row)
            for f in (
                sirius_contextual_sparsity.sparse,
                sirius_contextual_sparsity.sirius,
                sirius_contextual_sparsity.full,
            )
        )
        assert sparse < both < full


def test_a_wider_window_holds_more_of_the_model() -> None:
    shares = [llm_in_a_flash.of_all(x) for x in (0.0, 0.24, 0.5, 1.0)]
    assert shares == sorted(shares) and shares[-1] == 1.0
    # Attention, embeddings and norms of OPT-6.7B stay.
    assert 0.3 < shares[0] < 0.4


def test_what_a_token_reads_anew_is_its_share_of_the_neurons() -> None:
    model = load_model(llm_in_a_flash.MODEL)
    neurons = float(model.parameters - llm_in_a_flash.narrow(model, 0.0).parameters)
    few = tw.Scenario(llm_in_a_flash.narrow(model, llm_in_a_flash.USED), llm_in_a_flash.GPU)
    fresh = copied(few.apply(techniques.offload_weights(llm_in_a_flash.fresh(), to="nvme")))
    assert fresh == pytest.approx(llm_in_a_flash.FRESH * neurons * 2.0, rel=0.02)


def test_streamed_layers_take_as_long_as_the_disk_and_little_more() -> None:
    """Everything but what a token looks up in the embedding crosses the disk; what is computed meanwhile is hidden."""
    for row in tpi_llm.ROWS:
        away = tpi_llm.base(row.model).apply(techniques.offload_weights(1.0, to="nvme"))
        read = copied(away) / 3.5e9
        assert read <= tpi_llm.streamed(row) * (1 + 1e-9) <= float(tw.evaluate(away).tpot) * (1 + 1e-9)
        assert tpi_llm.streamed(row) <= 1.2 * read


def test_networks_need_the_scratchpad_that_others_count() -> None:
    """Largest operands of one operator, in KiB, as an independent reproduction has them of TensorFlow Lite's graphs in
    8 bits, or in 32 bits over four; sums of 256 maps of 56 x 56 (twice read, once written) set that of ResNets."""
    found = {name: max(_dnns.TEN[name]().working) / 1024.0 for name in ("ResNet-50", "ResNeXt-50", "FCN")}
    assert found == {"ResNet-50": 2352.0, "ResNeXt-50": 9408.0 / 4.0, "FCN": 18816.0 / 4.0}
    assert found["ResNet-50"] == 3.0 * 256.0 * 56.0**2 / 1024.0


def test_no_order_moves_more_than_the_usual_one() -> None:
    for name in ("L-RASPP", "R(2+1)D-18", "ViT"):
        usual, least = cosma.both(name)
        assert 0.0 <= least < usual


def test_a_dense_block_spills_in_any_order() -> None:
    """Each of its layers reads all before it: what is joined does not fit beside what it is made of. The usual bytes
    are those that an independent reproduction found for the same network (2,609,152)."""
    usual, least = cosma.both("DenseNet-121")
    assert 0.0 < least < usual == 2_609_152.0
