"""Weights of a new replica: bytes over the bandwidth of where they come from."""

from dataclasses import replace

import pytest

from tierwise.core.errors import UnknownName
from tierwise.machines import system
from tierwise.models.load import load_model
from tierwise.scenario.types import Plan
from tierwise.serving.deployment import Replicas
from tierwise.serving.startup import startup

MODEL = load_model("mixtral-8x7b")
ONE = Replicas(system("8xh100-sxm"), Plan(tp=2.0))


def test_weights_cross_the_link_once() -> None:
    # 46.7 G parameters in 16 bits, as published; two links of 450 GB/s at whatever share of it they reach.
    assert startup(MODEL, ONE, "peer") == pytest.approx(46.7e9 * 2.0 / (2.0 * 450e9), rel=0.35)
    assert startup(MODEL, ONE, "peer") > 46.7e9 * 2.0 / (2.0 * 450e9)


def test_a_nearer_source_is_faster_and_more_links_are() -> None:
    peer, host, disk = (startup(MODEL, ONE, s) for s in ("peer", "host", "disk"))
    assert peer < host < disk
    wide = replace(ONE, plan=Plan(tp=4.0))
    assert startup(MODEL, wide, "host") == pytest.approx(host / 2.0, rel=0.02)
    assert startup(MODEL, wide, "disk") == pytest.approx(disk, rel=0.02)


def test_another_source_is_refused() -> None:
    with pytest.raises(UnknownName, match="disk, host, peer"):
        startup(MODEL, ONE, "tape")
