"""What PyTorch's allocator takes for zeroth-order steps: never less than lies there at once, less with layers away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tierwise.core.errors import TierwiseError
from tierwise.machines.load import system
from tierwise.models.load import load_model
from tierwise.training import Layout, framework, train_step
from tierwise.training.reserved import reserved_of

SIZES = ("opt-1.3b", "opt-6.7b", "opt-66b")


def blind():  # type: ignore[no-untyped-def]
    found = framework("fsdp")
    return replace(found, recipe=replace(found.recipe, gradients=0.0, master=0.0, optimizer="sgd", forwards=2.0,
                                         noise=4.0, score=8.0, precision="fp16"))  # fmt: skip


@pytest.mark.parametrize("name", SIZES)
def test_segments_hold_at_least_what_lies_there_at_once(name: str) -> None:
    model, how = load_model(name), blind()
    layout = Layout(global_batch=1.0, seq=2048.0, offload=2.0)
    memory = train_step(model, system("1xa100-sxm-80gb"), layout, how, False).memory
    own = float(memory.peak) - how.overhead
    assert own <= reserved_of(model, layout, how, False) <= 2.0 * own
    # Fused attention writes no scores.
    assert reserved_of(model, layout, how, True) < reserved_of(model, layout, how, False)


def test_layers_on_the_host_are_worth_their_bytes() -> None:
    model, how = load_model("opt-6.7b"), blind()
    here, away = (Layout(global_batch=1.0, seq=2048.0, offload=o) for o in (0.0, 2.0))
    saved = reserved_of(model, here, how) - reserved_of(model, away, how)
    # 32 layers of 12 h^2 in 16 bits, of which two stay.
    assert saved == pytest.approx(30 * 12 * 4096**2 * 2, rel=0.05)


def test_steps_with_a_backward_pass_are_refused() -> None:
    with pytest.raises(TierwiseError, match="zeroth"):
        reserved_of(load_model("opt-1.3b"), Layout(), framework("fsdp"))
