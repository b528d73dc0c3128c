"""Sentences say what the numbers say."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import tierwise as tw
from tierwise.core.units import gb, seconds
from tierwise.report import explain_words as words
from tierwise.report.explain_data import to_dict
from tierwise.report.numbers import percents, with_units_kept

from .cases import ADVICE, SCALAR, result


def test_the_headline_of_a_language_model() -> None:
    r = result("llm")
    text = to_dict(r)["text"]["headline"]
    assert text.startswith("tiny-llm on 1 × Test chip 40GB answers 16 requests of 1,024 tokens in and 64 out in ")
    for number in (r.time, r.ttft, r.tpot):
        assert seconds(float(number)) in text


def test_headlines_of_other_work() -> None:
    assert "works through 32 images in" in to_dict(result("cnn"))["text"]["headline"]
    assert "works through 16 requests of 384 tokens in" in to_dict(result("encoder"))["text"]["headline"]
    assert "every" not in to_dict(result("no decode"))["text"]["headline"]


def test_what_does_not_fit_is_said_with_its_size() -> None:
    for kind in ("too large", "max, too large"):
        r = result(kind)
        d = to_dict(r)
        text = d["text"]["headline"]
        assert "does not fit" in text and gb(r.memory.peak) in text and gb(1.5e9) in text
        assert gb(r.memory.peak - 1.5e9) in text
        assert any("Were the memory large enough" in x for x in d["text"]["why"])
        assert "throughput" not in {name.lower() for name, _, _ in words.key_numbers(d)}


def test_reasons_name_the_bound_and_shares_add_up() -> None:
    d = to_dict(result("deep"), ADVICE)
    why = d["text"]["why"]
    shares = [int(x.split("(")[1].split(" %")[0]) for x in why if "of the whole" in x]
    assert len(shares) == 2 and sum(shares) == 100
    decode = d["phases"][1]
    assert decode["bound_by"] == "dram"
    sentence = next(x for x in why if x.startswith("Decode"))
    assert gb(decode["bytes_by_role"]["dram"]["weight"]) in sentence
    assert seconds(decode["seconds_by_bound"]["dram"]) in sentence
    text = next(a["text"] for a in d["advice"] if a["kind"] == "batch")
    assert "1.1× the step time (1.00 ms → 1.10 ms) for 1.8× the tokens a second" in text


@pytest.mark.parametrize("kind", SCALAR)
def test_grouping_loses_nothing(kind: str) -> None:
    for p in to_dict(result(kind))["phases"]:
        rows = words.grouped(p["ops"])
        for name in ("time_s", "share", "flops", "count"):
            assert sum(x[name] for x in rows) == pytest.approx(sum(x[name] for x in p["ops"]))
        assert sum(sum(x["bytes"].values()) for x in rows) == pytest.approx(
            sum(sum(x["bytes"].values()) for x in p["ops"])
        )


def test_equal_ops_of_a_layer_become_one_row() -> None:
    rows = words.grouped(to_dict(result("llm"))["phases"][0]["ops"])
    assert [(x["layer"], x["count"]) for x in rows if x["name"] == "norm"] == [("layer", 16.0), ("output", 1.0)]


def test_grouping_does_not_change_its_input() -> None:
    ops = to_dict(result("llm"))["phases"][0]["ops"]
    before = [dict(op) for op in ops]
    words.grouped(ops)
    assert ops == before


@given(st.lists(st.floats(0, 1e12), max_size=12))
def test_percents_add_up(values: list[float]) -> None:
    out = percents(values)
    assert len(out) == len(values)
    if sum(values) > 0:
        assert sum(out) == 100
        assert all(abs(p - 100 * v / sum(values)) <= 1 for p, v in zip(out, values, strict=True))
    else:
        assert out == [0] * len(values)


def test_numbers_stay_with_their_units() -> None:
    kept = with_units_kept("2 s of 3.5 GB, 12 % in 5 µs at 9 apples", "~")
    assert kept == "2~s of 3.5~GB, 12~% in 5~µs at 9 apples"


@pytest.mark.parametrize(("prompt", "said"), [(900.0, False), (1100.0, True)])
def test_more_context_than_a_model_was_made_for_is_said(prompt: float, said: bool) -> None:
    """GPT-2 has positions for 1,024 tokens (its config's n_positions); a plan that fits does not make it read more."""
    d = to_dict(tw.evaluate(tw.Scenario("gpt2", "h100-sxm", tw.Batch(batch=1, prompt=prompt, output=10))))
    assert d["summary"]["fits"]
    assert any("made for 1,024 tokens" in x for x in words.why(d)) == said


def test_the_measurement_that_would_narrow_most_is_a_sentence() -> None:
    from tierwise.machines import system
    from tierwise.report.measuring import text

    d = {"what": "a serving run of this model", "command": "tierwise calibrate", "time": 1.0,
         "factors": [0.72, 2.19], "factors_without": [0.98, 1.02]}  # fmt: skip
    whole = text(d, system("pi-5"))
    assert "(0.72× to 2.19×)" in whole and "8GB would narrow it most, to within 5 %:" in whole
    part = text({**d, "time": 0.8, "factors_without": [0.9, 1.3]}, system("pi-5"))
    assert "8GB, 80 % of the time, would narrow it most, to 0.90× to 1.30×:" in part
