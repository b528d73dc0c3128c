"""What gradients of convolutions need: by hand, and as autograd keeps of blocks whose activations are smooth."""

from __future__ import annotations

import pytest

from tierwise.core.numerics import fmt
from tierwise.memory.units import IMAGE, Unit
from tierwise.models.blocks.conv import Conv
from tierwise.papers.catalog import mobiletl
from tierwise.training.needed import needed

FP32 = fmt("fp32")
# Bytes of storages that torch.autograd.graph.saved_tensors_hooks saw in a block of torch's own layers (1x1, batch norm,
# Hardswish, 3x3 a channel, batch norm, Hardswish, [squeeze and excitation,] 1x1, batch norm), one image of 96 x 14 x 14
# widened six times, PyTorch 2.13; without and with what squeezes.
AUTOGRAD = {False: 2_870_016, True: 3_329_088}


@pytest.mark.parametrize("squeezed", [False, True])
def test_a_block_with_smooth_activations_keeps_what_autograd_kept(squeezed: bool) -> None:
    found = needed(mobiletl.block(96.0), 14.0**2, FP32, smooth=True, scaled=(1,) if squeezed else ())
    assert found == pytest.approx(AUTOGRAD[squeezed], rel=0.006)  # means and deviations of norms, squeezed maps


def test_a_chain_by_hand() -> None:
    units = (
        Unit(Conv("a", 3.0, 8.0, 1.0, norm=True, activated=True), (IMAGE,)),
        Unit(Conv("b", 8.0, 2.0, 1.0), (0,)),
    )
    # The image, what the norm normalised, a bit an element, what the second convolution reads.
    assert needed(units, 64.0, FP32) == 64 * (3 * 4 + 8 * 4 + 8 / 8 + 8 * 4)
    assert needed(units, 64.0, FP32, smooth=True) == 64 * (3 + 8 + 8 + 8) * 4
    assert needed(units, 64.0, FP32, shifts=True) == 64 * (3 * 4 + 8 / 8 + 8 * 4)


def test_a_tensor_that_two_read_is_there_once() -> None:
    shared = (Unit(Conv("a", 3.0, 8.0, 1.0), (IMAGE,)), *(Unit(Conv(n, 8.0, 2.0, 1.0), (0,)) for n in "bc"))
    assert needed(shared, 64.0, FP32) == 64 * (3 + 8) * 4


def test_shares_saved_do_not_ask_for_the_width() -> None:
    for smooth in (False, True):
        assert mobiletl.saved((24.0, 56.0), smooth) == pytest.approx(mobiletl.saved((160.0, 7.0), smooth))
