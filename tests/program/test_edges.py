"""Dependencies and lives of tensors, from the names that ops read and write."""

from __future__ import annotations

import numpy as np
import pytest
from tests.schedule.programs import layers, op

from tierwise.core.errors import TierwiseError
from tierwise.models.lower import lower
from tierwise.models.step import Step
from tierwise.models.types import Model
from tierwise.program.edges import edges, lives, stretches
from tierwise.program.program import Body, Program, Repeat
from tierwise.scenario.types import Plan


def named(program: Program) -> set[tuple[str, str, object]]:
    """(of, to, distance or "before")."""
    names = [p.name for s in stretches(program) for p in s.ops]
    return {(names[d.of], names[d.to], "before" if d.before else d.distance) for d in edges(program)}


def test_reads_wait_for_the_last_write_and_the_residual_comes_from_the_layer_before() -> None:
    program = layers(
        4.0, op("norm", "x y", "h x"), op("mlp", "h weight:w", "y"), op("sum", "y", "y.comm", kind="collective")
    )
    assert named(program) == {
        ("input.embed", "layer.norm", "before"),
        ("layer.norm", "layer.norm", 1),  # x, which the norm itself wrote a layer ago
        ("layer.sum", "layer.norm", 1),  # y as the collective left it, not as the mlp wrote it
        ("layer.norm", "layer.mlp", 0),
        ("layer.mlp", "layer.sum", 0),
        ("layer.norm", "output.head", "before"),
    }


def test_a_cache_is_that_of_its_own_layer_and_goes_on_only_where_it_is_carried() -> None:
    body = Body("layer", (op("scan", "x state:s", "y state:s"), op("add", "x y", "x")))
    stack = Repeat("layers", (body,), count=2.0)
    # Layers: each has a state of its own.
    assert not any("scan" in of and "scan" in to for of, to, _ in named(Program((stack,))))
    # Steps: the state of layer k goes to layer k of the next step, and to no other.
    steps = Repeat("steps", (Body("step", (stack,)),), count=5.0, carries={"s": 1})
    own = {x for x in named(Program((steps,))) if "scan" in x[0] and "scan" in x[1]}
    assert own == {(f"step.layer {k}.scan", f"step.layer {k}.scan", 1) for k in range(2)}


def test_lives_reach_from_the_write_to_the_last_read() -> None:
    program = layers(4.0, op("norm", "x y", "h x"), op("a", "h", "q"), op("b", "h q", "y"))
    names = [p.name for s in stretches(program) for p in s.ops]
    got = {(x.tensor, names[x.write]): (names[x.read], x.distance, x.later, x.path) for x in lives(program)}
    assert got == {
        ("x", "input.embed"): ("layer.norm", 0, True, ()),
        ("h", "layer.norm"): ("layer.b", 0, False, ("layers",)),
        ("x", "layer.norm"): ("output.head", 0, True, ("layers",)),
        ("q", "layer.a"): ("layer.b", 0, False, ("layers",)),
        ("y", "layer.b"): ("layer.norm", 1, False, ("layers",)),
        ("logits", "output.head"): ("output.head", 0, False, ()),
    }


def test_a_repeat_inside_another_needs_one_whole_count() -> None:
    inner = Repeat("layers", (Body("layer", (op("a", "x", "x"),)),), count=np.asarray([2.0, 3.0]))
    with pytest.raises(TierwiseError, match="'layers' inside another"):
        stretches(Program((Repeat("steps", (Body("step", (inner,)),), count=4.0),)))
    # One turn of a whole program is no repeat around it.
    assert [s.name for s in stretches(Program((Body("b", (inner,)),)).scaled(1.0))] == ["layers"]


def test_a_long_pattern_is_cut_where_it_repeats_itself() -> None:
    dense, sparse, full = (Body(x, (op(x, "x", "x"),)) for x in ("dense", "sparse", "full"))
    for pattern, want in (
        ((0,) * 3 + (1,) * 58, [(("dense.dense",), 3.0), (("sparse.sparse",), 58.0)]),
        ((0, 0, 2) * 9 + (1,), [(("dense 0.dense", "dense 1.dense", "full.full"), 9.0), (("sparse.sparse",), 1.0)]),
    ):
        program = Program((Repeat("layers", (dense, sparse, full), pattern),))
        got = [(tuple(p.name for p in s.ops), s.turns) for s in stretches(program)]
        assert got == want
        assert sum(len(ops) * float(n) for ops, n in got) == len(pattern)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["dense", "experts"])
def test_every_op_of_a_model_hangs_on_one_before(kind: str, request: pytest.FixtureRequest) -> None:
    model: Model = request.getfixturevalue(kind)
    program = lower(Step(model, Plan(), 2.0, 1.0, 64.0, "decode"))
    all_ops = [p for s in stretches(program) for p in s.ops]
    assert len(stretches(program)) == 3
    into = {d.to for d in edges(program)}
    assert into == set(range(1, len(all_ops))), [p.name for i, p in enumerate(all_ops) if i and i not in into]
    assert all(d.of < d.to or d.distance for d in edges(program))
