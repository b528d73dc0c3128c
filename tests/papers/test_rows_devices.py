"""What must be true of the mechanisms of papers on chips and small devices, whatever their numbers are."""

from __future__ import annotations

import pytest

from tierwise.core.numerics import fmt
from tierwise.papers.base import work_in_patches
from tierwise.papers.catalog import instinfer, leyolo, mcunetv2, once_for_all, sambanova_sn40l


def test_an_expert_is_copied_in_the_time_its_bytes_take() -> None:
    # 13.5 GB over a link of 31.5 GB/s, and over two such links' worth; eight sockets' memories are faster than both.
    a100, h100, node = (sambanova_sn40l.copying(m) for m in (sambanova_sn40l.A100, sambanova_sn40l.H100,
                                                             sambanova_sn40l.NODE))  # fmt: skip
    assert a100 == pytest.approx(2.0 * h100, rel=0.02)
    assert 13.4e9 / 32e9 < a100 < 13.5e9 / 31e9
    assert 13.4e9 / 0.8e12 < node < h100


def test_copies_matter_less_behind_long_answers() -> None:
    def gain(tokens: float) -> float:
        server, node = sambanova_sn40l.A100, sambanova_sn40l.NODE
        return sambanova_sn40l.answered(server, 8, tokens) / sambanova_sn40l.answered(node, 8, tokens)

    alone = sambanova_sn40l.running(sambanova_sn40l.A100, 200) / sambanova_sn40l.running(sambanova_sn40l.NODE, 200)
    assert gain(20) > gain(200) > alone


def test_a_drive_that_attends_beats_files_and_reads_less_still() -> None:
    assert instinfer.sparse() > instinfer.dense() > instinfer.flexgen()
    # No faster than the flash gives the cache of 256 requests in the middle of their answers.
    cache = 256 * 1536 * 2 * 40 * 5120 * 2.0
    assert instinfer.dense() < 256 / (cache / 11.2e9)


def test_arithmetic_of_convolutions_grows_with_the_area() -> None:
    small, large = (leyolo.gigaflops(leyolo.NANO, side) for side in (320.0, 640.0))
    assert large == pytest.approx(4.0 * small)


def test_networks_have_the_parameters_of_their_tables() -> None:
    # 9.1 million, of these 2.6 in the classifier and the layer before it.
    assert 8.8e6 < float(once_for_all.network().parameters) < 9.4e6
    assert mcunetv2.patches() < mcunetv2.whole()


def test_patches_compute_their_borders_again_and_nothing_behind_them() -> None:
    units, stage = mcunetv2.network()
    (alone, all_alone), (some, all_) = (work_in_patches(units, mcunetv2.COARSE**2, fmt("int8"), stage, n)
                                        for n in (1, 4))  # fmt: skip
    assert some > alone and all_ - some == pytest.approx(all_alone - alone)
    # MobileNetV2 has 300 million multiply-adds, 1.3 of them its classifier's.
    assert all_alone == pytest.approx(300e6, rel=0.01)
