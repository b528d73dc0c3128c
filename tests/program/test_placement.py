"""Placement: what lies elsewhere is copied, exactly once, and an op waits for it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tierwise.core.errors import BadField
from tierwise.core.numerics import fmt
from tierwise.program.placement import IN, OUT, Placement, placed
from tierwise.program.program import Body, Program, Repeat
from tierwise.program.types import Op, Operand

HALF = fmt("fp16")


Tensors = dict[str, tuple[str, float]]


def op(name: str, reads: Tensors, writes: Tensors, kind: str = "matmul") -> Op:
    def made(operands: Tensors) -> tuple[Operand, ...]:
        return tuple(Operand(n, role, size, HALF) for n, (role, size) in operands.items())

    return Op(kind, name, "attn", {}, 0.0, made(reads), made(writes), "fp16")


PROJECT = op("qkv", {"x": ("act", 8.0), "w": ("weight", 100.0)}, {"q": ("act", 8.0)})
CACHE = op("rope", {"q": ("act", 8.0)}, {"q": ("act", 8.0), "k": ("kv", 4.0)}, "elementwise")
ATTEND = op("core", {"q": ("act", 8.0), "k": ("kv", 1000.0)}, {"o": ("act", 8.0)}, "attention")
OUTPUT = op("out", {"o": ("act", 8.0), "w": ("weight", 64.0)}, {"x": ("act", 8.0)})
BODY = (PROJECT, CACHE, ATTEND, OUTPUT)


def program(placement: Placement) -> Program:
    return placed(Program((Repeat("layers", (Body("layer", BODY),), count=3.0),)), placement)


def ops(what: Program) -> dict[str, Op]:
    return {x.name: x for _, x in what.walk()}


def test_a_placement_that_says_nothing_changes_nothing() -> None:
    plain = Program((Body("layer", BODY),))
    assert placed(plain, Placement()) is plain


def waits(of: Op) -> set[str]:
    return {o.name for o in of.reads}


def test_weights_elsewhere_are_copied_before_their_op_and_wait_for_nothing() -> None:
    found = ops(program(Placement().with_tensors("weights", {"host": 0.25})))
    copy = found["qkv.weight_from_host"]
    assert (copy.kind, copy.stream, copy.after, copy.reads) == ("copy", IN, (), ())
    assert (copy.options["from"], copy.options["to"]) == ("host", "")
    assert copy.dims["bytes"] == 0.25 * 100 * 2
    (buffer,) = copy.writes
    assert (buffer.role, buffer.bytes) == ("copy", 50.0)
    assert waits(found["qkv"]) == {"x", "w", buffer.name} and found["qkv"].bytes == PROJECT.bytes
    assert found["core"] == ATTEND


def test_a_cache_elsewhere_is_read_from_there_and_written_to_it() -> None:
    found = ops(program(Placement().with_tensors("kv", {"host": 1.0})))
    assert found["core.kv_from_host"].dims["bytes"] == 2000
    back = found["rope.kv_to_host"]
    assert (back.stream, waits(back), back.writes, back.dims["bytes"]) == (OUT, {"k"}, (), 8.0)


def test_weights_alone_are_gathered() -> None:
    away = Placement(gathered=True).with_tensors("weights", {"host": 1.0}).with_tensors("kv", {"host": 1.0})
    found = ops(program(away))
    assert found["qkv.weight_from_host"].options["gathered"] is True
    assert "gathered" not in found["core.kv_from_host"].options


def test_an_op_computed_where_its_cache_lies_sends_only_its_activations() -> None:
    found = ops(program(Placement().with_tensors("kv", {"pim": 1.0}).with_ops("attention", "pim")))
    assert found["core"].stream == "pim" and found["core"].options["on"] == "pim"
    there, back = found["core.results_from_memory"], found["core.results_to_memory"]
    assert (there.dims["bytes"], waits(there)) == (16.0, {"q"})
    assert {o.name for o in there.writes} <= waits(found["core"])
    # Whoever reads the result waits for the copy, the last to write it.
    assert (back.dims["bytes"], back.options["to"], [o.name for o in back.writes]) == (16.0, "", ["o"])
    assert not [name for name in found if name.startswith("core.kv")]


def test_the_weights_of_a_role_go_before_those_of_all() -> None:
    both = Placement().with_tensors("weights", {"host": 1.0}).with_tensors("attn", {"nvme": 0.5})
    found = ops(program(both))
    assert "qkv.weight_from_host" not in found and found["qkv.weight_from_nvme"].dims["bytes"] == 100.0
    assert both.share("", "attn", "weights") == 0.5


@given(
    st.lists(st.floats(0.0, 1.0), min_size=1, max_size=4),
    st.floats(0.0, 1.0),
)
def test_every_byte_that_lies_elsewhere_is_copied_once(parts: list[float], whole: float) -> None:
    total = sum(parts)
    shares = {f"node{i}": (p / total if total else 0.0) * whole for i, p in enumerate(parts)}
    out = program(Placement().with_tensors("weights", shares))
    copied = sum(float(x.dims["bytes"]) * float(p.repeat) for p, x in out.walk() if x.kind == "copy")
    assert copied == pytest.approx(3 * whole * 164 * 2 if total else 0.0, rel=1e-9, abs=1e-6)
    # What an op itself reads and writes is what it was.
    assert out.bytes_of("weight") == Program((Repeat("layers", (Body("layer", BODY),), count=3.0),)).bytes_of("weight")


def test_bodies_inside_bodies_and_repeats_get_theirs() -> None:
    inner = Repeat("inner", (Body("a", BODY[:2]), Body("b", BODY[2:])), (0, 1, 1), 5.0)
    away = Placement().with_tensors("weights", {"host": 1.0})
    nested = placed(Program((Body("outer", (PROJECT, inner, OUTPUT)),)), away)
    copied = {(w.path, x.name): float(w.repeat) for w, x in nested.walk() if x.kind == "copy"}
    assert copied == {
        ((), "qkv.weight_from_host"): 1.0,
        (("inner",), "qkv.weight_from_host"): 5.0,
        (("inner",), "out.weight_from_host"): 10.0,
        ((), "out.weight_from_host"): 1.0,
    }


def test_fractions_may_be_arrays() -> None:
    found = ops(program(Placement().with_tensors("weights", {"host": np.array([0.0, 0.5, 1.0])})))
    assert np.array_equal(np.asarray(found["qkv.weight_from_host"].dims["bytes"]), [0.0, 100.0, 200.0])


@pytest.mark.parametrize("places", [{"host": 1.5}, {"host": 0.7, "nvme": 0.7}, {"host": -0.1}])
def test_fractions_that_cannot_be_are_refused(places: dict[str, float]) -> None:
    with pytest.raises(BadField, match="add up to at most 1"):
        Placement().with_tensors("weights", places)


def test_a_placement_can_be_hashed_and_says_what_it_is() -> None:
    placement = Placement().with_tensors("kv", {"host": 0.6}).with_ops("attention", "pim")
    assert hash(placement) == hash(Placement((("kv", (("host", 0.6),)),), (("attention", "pim"),)))
    assert str(placement) == "kv 60 % on host, attention computed on pim"
