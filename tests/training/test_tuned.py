"""Memory of tuning convolutional networks: by hand, by bounds, and against a network whose size is published."""

from __future__ import annotations

from itertools import pairwise

import pytest

from tierwise.core.numerics import fmt
from tierwise.memory.units import IMAGE, Unit
from tierwise.models.blocks.conv import Conv
from tierwise.papers.catalog import on_device_mde_gap9 as depth
from tierwise.papers.catalog import on_device_training_256kb as mcunet
from tierwise.training.tuned import Tuning, tuned, whole

SIDE = 8.0  # of the grid; 64 positions


def _chain(activated: bool = False) -> tuple[Unit, ...]:
    widths = (3.0, 4.0, 16.0, 2.0)
    return tuple(
        Unit(Conv(f"c{i}", a, b, 1.0, bias=True, activated=activated), (i - 1 if i else IMAGE,))
        for i, (a, b) in enumerate(pairwise(widths))
    )


def test_a_chain_by_hand() -> None:
    # On the way forward two neighbours lie there at once. Tuning the last convolution keeps what it reads (16 x 64
    # bytes) and needs the gradient of its result (2 x 64 x 4) and of its 32 weights and 2 biases.
    m = tuned(_chain(), SIDE**2, Tuning({2: 1.0}), fmt("int8"))
    assert m.forward == (4 + 16) * 64
    assert m.peak == max(m.forward, 16 * 64 + 2 * 64 + 2 * 64 * 4, 16 * 64 + 2 * 64 * 4 + (32 + 2) * 4)
    assert m.weights == (12 + 64 + 32) + (4 + 16 + 2) * 4
    assert m.tuned == 32 + 2 * 4
    assert m.gradients == 0.0


def test_held_gradients_are_of_what_changes() -> None:
    m = tuned(_chain(), SIDE**2, whole(_chain()), fmt("fp32"), held=True)
    assert m.gradients == m.weights == m.tuned


def test_biases_keep_no_operands() -> None:
    biases = tuned(_chain(), SIDE**2, Tuning({}, biases=1), fmt("int8"))
    weights = tuned(_chain(), SIDE**2, Tuning({1: 1.0}, biases=1), fmt("int8"))
    assert biases.peak < weights.peak
    assert biases.tuned == (16 + 2) * 4


@pytest.mark.parametrize("share", [0.5, 0.75])
def test_a_share_of_the_channels_keeps_that_share(share: float) -> None:
    # Beside it lie the gradients of the last convolution's result and operand, whatever the share.
    all_, some = (tuned(_chain(), SIDE**2, Tuning({2: s}, biases=0), fmt("fp32"), held=True) for s in (1.0, share))
    assert all_.peak - some.peak == pytest.approx((1.0 - share) * 16 * 64 * 4)


def test_signs_of_activations_are_bits() -> None:
    plain, signs = (tuned(_chain(a), SIDE**2, whole(_chain()), fmt("fp32"), held=True) for a in (False, True))
    assert 0 < signs.peak - plain.peak <= (4 + 16 + 2) * 64 / 8


def test_a_network_that_forks_holds_what_is_read_later() -> None:
    # The first result, joined to the last one, waits until then.
    skip = (*_chain(), Unit(Conv("back", 4.0 + 2.0, 2.0, 1.0), (0, 2)))
    assert tuned(_chain(), SIDE**2, Tuning({2: 1.0}), fmt("int8")).forward == (4 + 16) * 64
    assert tuned(skip, SIDE**2, Tuning({3: 1.0}), fmt("int8")).forward == (4 + 16 + 2) * 64


def test_more_layers_take_more() -> None:
    for net in (depth.network(), mcunet.network()[0]):
        peaks = [tuned(net, 16.0, Tuning({i: 1.0 for i in range(first, len(net)) if net[i].conv}), fmt("int8")).peak
                 for first in (len(net) - 1, len(net) // 2, 0)]  # fmt: skip
        assert peaks == sorted(peaks) and peaks[0] < peaks[-1]


def test_mcunet_has_the_weights_of_the_published_graph() -> None:
    # Sizes of all tensors *_weight and *_bias of tinyengine's assets/49kb-int8-graph.json.
    assert mcunet.memory(mcunet.sparse()).weights == 464_816 + 6_018 * 4
    assert len(mcunet.network()[1]) == 43


def test_the_whole_network_would_not_fit() -> None:
    assert mcunet.sram(whole(mcunet.network()[0])) > 512
    assert mcunet.sram(mcunet.sparse()) < 256
