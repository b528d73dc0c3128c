"""What PyTorch's allocator takes for steps of training: never less than lies there at once, less with layers away."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.shapes import gpt
from tierwise.core.errors import TierwiseError
from tierwise.machines.load import system
from tierwise.memory.caching import played
from tierwise.models.load import load_model
from tierwise.report.training_data import to_dict
from tierwise.report.training_report import described
from tierwise.training import Layout, framework, train_step
from tierwise.training.comings import comings
from tierwise.training.memory import parameters
from tierwise.training.recipe import method
from tierwise.training.reserved import fragmented, reserved_of

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


TRAINED = {
    "one device": ("llama-3.2-1b", "1xh100-sxm", "fsdp", Layout(micro_batch=1.0, global_batch=4.0, seq=4096.0)),
    "computed again": ("llama-3.2-1b", "1xh100-sxm", "fsdp",
                       Layout(micro_batch=1.0, global_batch=4.0, seq=4096.0, recompute=2.0)),
    "sharded": ("llama-3.1-8b", "8xh100-sxm", "fsdp",
                Layout(micro_batch=1.0, global_batch=8.0, seq=4096.0, dp=8.0, zero=3.0, recompute=2.0)),
    "a stage": ("opt-6.7b", "8xa100-sxm-80gb", "megatron-2022",
                Layout(micro_batch=1.0, global_batch=8.0, seq=2048.0, tp=2.0, pp=4.0)),
    "tensor parallel": ("llama-3.1-8b", "8xh100-sxm", "megatron",
                        Layout(micro_batch=1.0, global_batch=8.0, seq=8192.0, tp=4.0, dp=2.0, zero=1.0,
                               sequence_parallel=1.0)),
}  # fmt: skip


@pytest.mark.parametrize("what", TRAINED)
def test_tensors_that_come_and_go_are_those_of_the_account(what: str) -> None:
    """The most that lies there at once, replayed tensor by tensor, is the account's peak; what lies there between steps
    is its states; and segments hold no less."""
    name, machine, framework_, layout = TRAINED[what]
    model, how, flash = load_model(name), framework(framework_), framework_ != "megatron-2022"
    memory = train_step(model, system(machine), layout, how, flash).memory
    pool = played(comings(model, layout, how, flash))
    assert pool.most == pytest.approx(float(memory.peak) - how.overhead, rel=0.06)
    # What sharded layers gather comes and goes.
    states = sum(float(memory.parts[k]) for k in ("parameters", "gradients", "optimizer states"))
    gathered = 2.0 * float(parameters(model, layout)[0]["layer"]) * 2.0 if what == "sharded" else 0.0
    ends = 2.0 * 128256 * 4096 if what == "sharded" else 0.0
    assert pool.held == pytest.approx(states - gathered - ends, rel=0.01)
    assert pool.most <= pool.reserved <= 1.25 * pool.most
    assert fragmented(model, layout, how, flash) == pool.reserved - pool.most


WAYS = ("lora:r=16", "dora:r=16", "qlora:r=16", "prefix:n=200", "sliced:o_proj=0.05,down=0.02")


@pytest.mark.parametrize("way", WAYS)
def test_what_is_trained_beside_frozen_weights_lies_there_as_in_the_account(way: str) -> None:
    """Weights that are made for a product alone (unpacked ones, products of adapters) are nothing that stays."""
    model, layout, how = load_model("llama-3.2-1b"), Layout(global_batch=2.0, seq=2048.0), framework("fsdp")
    how = replace(how, recipe=method(way, how.recipe))
    memory, pool = train_step(model, system("1xh100-sxm"), layout, how).memory, played(comings(model, layout, how))
    states = sum(float(memory.parts[k]) for k in ("parameters", "gradients", "optimizer states"))
    assert pool.held == pytest.approx(states, rel=0.005)
    assert pool.most == pytest.approx(float(memory.peak) - how.overhead, rel=0.12)


# Readings of one process: MiB allocated and reserved at most, the layout, and what its arguments set.
LOGGED = {
    # Public log of a tutorial's gpt2_345m_dist_mp: Megatron-Core of September 2024 on four devices, gradients in fp16.
    "GPT-2 345M": (gpt(24, 1024.0, 16.0, vocab=50688.0), 2589.1, 2608.0, {"dropout": 1.0, "gradients": 2.0},
                   Layout(micro_batch=4.0, global_batch=16.0, seq=1024.0, tp=4.0, sequence_parallel=1.0)),
    # Printed in a public script that calls Pai-Megatron-Patch's run_mcore_llama3_1.sh (DO=true, AC=sel), four devices.
    "Llama 3.1 8B": ("llama-3.1-8b", 44819.1, 45930.0, {},
                     Layout(micro_batch=8.0, global_batch=8.0, seq=1024.0, tp=2.0, pp=2.0, zero=1.0, recompute=1.0)),
}  # fmt: skip


@pytest.mark.parametrize("what", LOGGED)
def test_what_is_reserved_beyond_what_is_allocated_is_of_the_size_that_was_logged(what: str) -> None:
    name, allocated, reserved, fields, layout = LOGGED[what]
    model = load_model(name) if isinstance(name, str) else name
    how = framework("megatron")
    how = replace(how, recipe=replace(how.recipe, **fields))
    pool = played(comings(model, layout, how))
    assert pool.most / 2**20 == pytest.approx(allocated, rel=0.07)
    assert pool.reserved / 2**20 == pytest.approx(reserved, rel=0.07)
    # Fragments: 0.7 and 2.5 % in the logs.
    assert abs(pool.reserved / pool.most - reserved / allocated) < 0.02


def test_freed_and_taken_again_in_other_sizes_leaves_fragments() -> None:
    """A second micro-batch finds blocks of the first; it never reserves less, and less than twice as much."""
    model, how = load_model("llama-3.2-1b"), framework("fsdp")
    one, four = (reserved_of(model, Layout(micro_batch=1.0, global_batch=b, seq=4096.0), how) for b in (1.0, 4.0))
    assert one <= four < 1.2 * one


def test_layouts_that_nothing_is_known_of_are_refused() -> None:
    for layout in (Layout(pp=2.0, interleave=2.0, global_batch=2.0), Layout(offload=1.0), Layout(ep=2.0, dp=2.0)):
        with pytest.raises(TierwiseError, match="allocator"):
            reserved_of(load_model("opt-1.3b"), layout, framework("megatron"))
    with pytest.raises(TierwiseError, match="one device"):
        reserved_of(load_model("opt-1.3b"), Layout(dp=2.0, global_batch=2.0), blind())


def test_reserved_memory_is_said_and_more_than_the_device_has_is_told() -> None:
    model, machine, how = load_model("llama-3.2-1b"), system("1xh100-sxm"), framework("fsdp")
    layout = Layout(micro_batch=1.0, global_batch=4.0, seq=4096.0)
    step = train_step(model, machine, layout, how)
    found, _ = to_dict(step, model, machine)
    assert found["memory"]["reserved"] == float(step.memory.peak) + fragmented(model, layout, how)
    assert any(name == "Reserved" for name, _, _ in described(found).numbers)
    assert not any("expandable_segments" in line for line in described(found).why)
    found["memory"]["capacity"] = 0.5 * (found["memory"]["peak"] + found["memory"]["reserved"])
    assert any("expandable_segments" in line for line in described(found).why)
    # Other vendors' devices have other allocators.
    other = system("1xtpu-v4")
    assert to_dict(train_step(model, other, layout, how), model, other)[0]["memory"]["reserved"] is None
