"""What a replica gives into the averaging of its gradients: counted by hand, and by the step that pays for it."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tests.training.shapes import a100s, gpt
from tierwise.models.blocks.conv import Conv
from tierwise.models.blocks.lstm import LSTM
from tierwise.models.family import stack
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Layer, Model
from tierwise.papers.base import exchanged
from tierwise.scenario.types import Plan
from tierwise.training import Layout, TrainingFramework, train_step
from tierwise.training.averaging import message, sent
from tierwise.training.recipe import compression

PLAIN = TrainingFramework("plain")
WIDTH, LAYERS, VOCAB = 1024.0, 2, 51200.0
MODEL = gpt(LAYERS, WIDTH, 16.0, tied=False)


def how(compress: str) -> TrainingFramework:
    return replace(PLAIN, compress=compression(compress))


def net(*blocks: object) -> Model:
    return Model("net", "net", 64.0, 0.0, (stack("net", [Layer("layer", tuple(blocks))]),))  # type: ignore[arg-type]


def test_a_kernel_of_a_convolution_is_a_matrix_of_its_outputs_by_all_else() -> None:
    # 64 x (3 x 3 x 3), a norm's scale and shift in full; a rank is no higher than a side.
    model = net(Conv("c", 3.0, 64.0, 3.0, norm=True))
    for rank in (1, 4, 27, 100):
        assert exchanged(model, f"powersgd:{rank}") == 4.0 * (min(rank, 27) * (64 + 27) + 128)
    assert exchanged(model, "none") == 4.0 * (64 * 27 + 128)


def test_a_recurrent_layer_sends_its_two_matrices_and_two_biases() -> None:
    model = net(LSTM(650.0, 650.0))
    assert exchanged(model, "powersgd:2") == 4.0 * (2 * 2 * (2600 + 650) + 2 * 2600)
    assert exchanged(model, "none") == 4.0 * (2 * 2600 * 650 + 2 * 2600)


def test_a_recurrent_layer_reads_its_weights_for_every_token_of_a_sequence_again() -> None:
    ops = {op.name: op for _, op in lower(Step(net(LSTM(64.0, 64.0)), Plan(), 2.0, 10.0, 0.0, "prefill")).walk()}
    first, again = (ops[f"lstm.{name}"] for name in ("input", "recurrent"))
    assert first.flops == again.flops == 2.0 * 20 * 64 * 256
    kept = [sum(float(r.bytes) for r in op.reads if r.role == "weight") for op in (first, again)]
    assert kept[1] == 10 * kept[0]


def test_tables_and_heads_are_thin_too_and_the_step_pays_for_them() -> None:
    rank = 4.0
    matrices = LAYERS * rank * (4 * 2 * WIDTH + 2 * 5 * WIDTH)
    ends = 2 * rank * (VOCAB + WIDTH)
    small = float(sent(MODEL, Layout(), how("powersgd:4"))) / 4.0
    vectors = small - matrices - ends
    assert 0 < vectors < 0.001 * float(MODEL.parameters)  # norms, biases, positions
    # Eight replicas by themselves: twice the rank is about twice the wire beside latencies; both less than whole.
    shape = Layout(dp=8.0, global_batch=8.0, seq=256.0, overlap=0.0)
    parts = {c: float(train_step(MODEL, a100s(8), shape, how(c)).parts["gradients on the wire"])
             for c in ("none", "powersgd:4", "powersgd:256")}  # fmt: skip
    assert parts["powersgd:4"] < parts["powersgd:256"] and parts["powersgd:4"] < parts["none"]


def test_other_ways_follow_the_number_of_elements_alone() -> None:
    count = 1e6
    assert message(how("none"), count) == PLAIN.recipe.reduced * count
    assert message(how("topk:0.01"), count) == pytest.approx(0.01 * 8.0 * count)
    assert message(how("int8"), count) == pytest.approx(count * (1 + 4 / 256))
    assert message(how("powersgd:2"), 7.0) == 28.0


def test_gradients_that_are_never_made_are_not_sent_and_those_projected_later_are() -> None:
    """Of a matrix as many rows as the rank (arXiv:2406.17660); GaLore projects what was averaged whole."""
    rank, plain = 64.0, float(sent(MODEL, Layout(), PLAIN))

    def with_(optimizer: str) -> TrainingFramework:
        return replace(PLAIN, recipe=replace(PLAIN.recipe, optimizer=optimizer, projection=rank))

    rows, moments = (float(sent(MODEL, Layout(), with_(o))) for o in ("grass", "galore"))
    assert moments == plain
    # Four maps of attention and two of the feed-forward layer, whose shorter side is the width.
    left = LAYERS * (4 * WIDTH + 2 * 4 * WIDTH) * (WIDTH - rank)
    assert plain - rows == pytest.approx(PLAIN.recipe.reduced * left)
    # And less of the wire is waited for, divided or not.
    shape = Layout(dp=8.0, global_batch=8.0, seq=256.0, overlap=0.0)
    for zero, part in ((0.0, "gradients on the wire"), (1.0, "gradients on the wire"), (3.0, "parameters on the wire")):
        few, all_ = (float(train_step(MODEL, a100s(8), replace(shape, zero=zero), with_(o)).parts[part])
                     for o in ("grass", "galore"))  # fmt: skip
        assert few < all_
    # Groups that each hold everything average what was made, too.
    whole = replace(shape, zero=1.0, shard=1.0)
    few, all_ = (float(train_step(MODEL, a100s(8), whole, with_(o)).parts["gradients on the wire"])
                 for o in ("grass", "galore"))  # fmt: skip
    assert few < all_
