"""Flags of commands that play requests: each changes a number where it applies, and is refused where nothing would."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("numba")

from tierwise.cli import _app, main
from tierwise.scenario.fields import FIELDS

LENGTHS = ("--prompt", "lognormal:mean=600,cv=1", "--output", "lognormal:mean=60,cv=1")
ENGINES = ("llama-3.2-1b", "--on", "2xl40s", "--tp", "1")
PLAYED = (*ENGINES, "--rate", "60/s", "--requests", "80", *LENGTHS, "--max-seqs", "16", "--tokens", "512")
# Memory for few of them at once; and sessions whose earlier turns do not stay in it.
SCARCE = (*ENGINES, "--rate", "300/s", "--requests", "200", "--prompt", "600", "--output", "600", "--memory", "0.09")
SESSIONS = (*ENGINES, "--rate", "20/s", "--requests", "150", "--prompt", "900", "--output", "300", "--memory", "0.09",
            "--turns", "3", "--think", "2")  # fmt: skip
SCALED = (*ENGINES, "--rate", "70/s", "--requests", "2500", *LENGTHS, "--max-seqs", "16", "--autoscaler",
          "queue_length")  # fmt: skip
BOTH = ("llama-3.2-1b", "--on", "4xl40s", "--tp", "1", "--rate", "20/s", "--requests", "40", "--prefill-replicas", "1")

# What each flag is set to: of the requests played above, or (what is asked instead, value).
CASES: dict[str, Any] = {
    "clock": "0.7", "power_cap": "60W", "link_share": ((*PLAYED, "--tp", "2"), "0.5"), "tp": "2", "pp": "2",
    "dp": "2", "ep": (("gpt-oss-20b", *PLAYED[1:], "--tp", "2"), "2"),
    "weights": "fp8", "activations": ((*PLAYED, "--weights", "fp8"), "fp8"), "kv": "fp8", "eager": True,
    "technique": "slide_window:128", "engine": "sglang", "rate_scale": "2", "rate": "90/s", "requests": "70",
    "arrivals": "gamma:cv=3", "prompt": "500", "output": "50", "turns": "2", "think": ((*PLAYED, "--turns", "2"), "3"),
    "shared": "300", "search": "width=4,keep=2,depth=2,step=16", "seed": "1", "replicas": "1",
    "prefill_replicas": "1", "decode_replicas": (BOTH, "2"), "prefill_plan": (BOTH, "tp=2"),
    "scheduler": "prefill_first", "router": "random", "kv_manager": (SCARCE, "reserve_max"),
    "autoscaler": "queue_length", "startup": (SCALED, "1s"), "max_seqs": "8", "tokens": "256", "max_len": "600",
    "block": (SCARCE, "64"),
    "memory": (SCARCE, "0.1"), "prefix_cache": ((*PLAYED, "--shared", "300"), False), "host_cache": (SESSIONS, "8GB"),
    "disk_cache": (SESSIONS, "8GB"), "pooled": ((*SESSIONS, "--host-cache", "8GB"), True), "swap": (SCARCE, True),
    "prefill_share": "0.4", "draft": "3", "accept": ((*PLAYED, "--draft", "3"), "0.4"), "adapters": "4",
    "lora_rank": ((*PLAYED, "--adapters", "4"), "64"), "lora_modules": ((*PLAYED, "--adapters", "4"), "attention"),
    "fail": "0.3s:0:0.5s", "ttft": "1ms", "tpot": "1ms", "rent": "2/h",
}  # fmt: skip
# Where nothing would follow them, with what they would wait for.
IDLE = {
    "format": ("simple", "--trace"), "limit": ("3", "--trace"), "think": ("2", "--turns"), "accept": ("0.5", "--draft"),
    "startup": ("1s", "--autoscaler"), "pooled": (True, "--host-cache"), "lora_rank": ("8", "--adapters"),
    "lora_modules": ("qv", "--adapters"), "prefill_plan": ("tp=2", "--prefill-replicas"),
}  # fmt: skip
SHOWN = {"html", "trace_out", "table", "json", "save", "model", "read_as", "machine"}


def run(capsys: pytest.CaptureFixture[str], *args: str) -> tuple[int, str, str]:
    with pytest.raises(SystemExit) as stop:
        main(list(args))
    out = capsys.readouterr()
    return int(stop.value.code or 0), out.out, out.err


def given(name: str, value: Any) -> tuple[str, ...]:
    option = FIELDS[name].option
    return (option,) if value is True else (f"--no-{option[2:]}",) if value is False else (option, str(value))


def without(flags: tuple[str, ...], option: str) -> tuple[str, ...]:
    """Flags but for one and its value."""
    at = flags.index(option) if option in flags[1:] else len(flags)
    return (*flags[:at], *flags[at + 2 :])


def numbers(text: str) -> Any:
    """What was found, without what was asked."""
    told = ("metrics", "times", "load", "series", "cdf", "totals", "curves")
    answer = {k: v for k, v in json.loads(text).items() if k in told}
    answer.get("totals", {}).pop("wall_s", None)
    return answer


@cache
def kept() -> dict[tuple[str, ...], Any]:
    """What was found already, by what was asked."""
    return {}


def found(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    if args not in kept():
        code, out, err = run(capsys, *args, "--json", "-")
        assert code == 0, err
        kept()[args] = numbers(out)
    return kept()[args]


@pytest.mark.parametrize("name", CASES)
def test_a_flag_of_simulate_changes_a_number(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked, value = CASES[name] if isinstance(CASES[name], tuple) else (PLAYED, CASES[name])
    changed = (*without(asked, FIELDS[name].option), *given(name, value))
    assert found(capsys, "simulate", *changed) != found(capsys, "simulate", *asked)


@pytest.mark.parametrize("command", ["simulate", "goodput"])
@pytest.mark.parametrize("name", IDLE)
def test_a_flag_that_nothing_would_follow_is_refused(
    name: str, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    value, other = IDLE[name]
    code, _, err = run(capsys, command, *PLAYED, "--ttft", "1s", *given(name, value))
    assert code == 2 and FIELDS[name].option in err and other in err


def test_flags_of_requests_made_up_are_refused_beside_a_trace(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    trace = tmp_path / "t.csv"
    trace.write_text("arrival,prompt,output\n" + "".join(f"{0.05 * i},300,20\n" for i in range(20)))
    played = (*ENGINES, "--trace", str(trace))
    moved = {"rate_scale": "3", "limit": "5", "arrivals": "uniform:rate=9", "format": "simple", "concurrency": "2"}
    for name, value in moved.items():
        again = found(capsys, "simulate", *played, *given(name, value))
        assert (again != found(capsys, "simulate", *played)) is (name != "format"), name
    for name in ("requests", "prompt", "output", "turns", "think", "shared"):
        code, _, err = run(capsys, "simulate", *played, *given(name, "2"))
        assert code == 2 and "nothing beside --trace" in err
    for name, value in (("arrivals", "uniform"), ("rate_scale", "2")):
        closed = without(without(PLAYED, "--rate"), FIELDS[name].option)
        code, _, err = run(capsys, "simulate", *closed, "--concurrency", "4", *given(name, value))
        assert code == 2 and "nothing beside --concurrency" in err
    assert run(capsys, "simulate", *PLAYED, "--no-prefix-cache", "--host-cache", "1GB")[0] == 2
    assert run(capsys, "simulate", *PLAYED, "--pp", "2", "--prefill-share", "0.4")[0] == 2


def test_every_flag_of_simulate_is_in_the_test_of_what_flags_change() -> None:
    told = {o.name for o in _app([]).commands["simulate"].params if o.name in FIELDS}
    traced = {"trace", "format", "limit", "concurrency", "calibration"}
    assert told - SHOWN - traced == set(CASES)
    # Goodput takes the same, and what it adds decides what is good.
    more = {o.name for o in _app([]).commands["goodput"].params if o.name in FIELDS} - told
    assert more == {"attainment"}


GOOD = (*ENGINES, "--requests", "60", "--prompt", "400", "--output", "30", "--ttft", "60ms", "--tokens", "512")


@pytest.mark.parametrize(("name", "value"), [("ttft", "50ms"), ("tpot", "5ms"), ("attainment", "0.99"),
                                             ("rate", "20/s"), ("requests", "50"), ("seed", "3"), ("tokens", "1024"),
                                             ("arrivals", "gamma:cv=3"), ("weights", "fp8")])  # fmt: skip
def test_a_flag_of_goodput_changes_a_number(name: str, value: str, capsys: pytest.CaptureFixture[str]) -> None:
    changed = (*without(GOOD, FIELDS[name].option), *given(name, value))
    assert found(capsys, "goodput", *changed)["curves"] != found(capsys, "goodput", *GOOD)["curves"]


SERVE = ("llama-3.1-8b", "--on", "4xh100-sxm", "--rate", "20/s", "--prompt", "1000", "--output", "200", "--ttft",
         "500ms", "--tpot", "20ms")  # fmt: skip
FIT = ("mixtral-8x7b", "--on", "rtx-4090 + 64GB ddr5-5600")
PLANS = {
    "budget": "8/h", "prompt": "3000", "output": "900", "rate": "60/s", "rate_scale": "3", "ttft": "50ms",
    "tpot": "8ms", "objective": "throughput", "confidence": "50", "engine": "sglang", "mode": "disaggregated",
    "weights": "fp8", "kv": "fp8", "draft": "3", "tokens": "512", "sensitivity": True,
}  # fmt: skip
FITS = {"--batch": "4", "--engine": "ik_llama.cpp", "--weights": "q8_0", "--kv": "q8_0", "--context": "32k",
        "--output": "100", "--min-bits": "5", "--goal": "throughput"}  # fmt: skip


def planned(capsys: pytest.CaptureFixture[str], *args: str) -> Any:
    """What a plan is, without what was asked and how long it took."""
    if args not in kept():
        code, out, err = run(capsys, "plan", *args, "--json", "-")
        assert code in (0, 1) and out, err
        asked = ("made_by", "question", "scenario", "text", "seconds")
        kept()[args] = {k: v for k, v in json.loads(out).items() if k not in asked}
    return kept()[args]


@pytest.mark.parametrize("name", PLANS)
def test_a_flag_of_plan_serve_changes_a_number(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    changed = (*without(SERVE, FIELDS[name].option), *given(name, PLANS[name]), "--no-confirm")
    assert planned(capsys, "serve", *changed) != planned(capsys, "serve", *SERVE, "--no-confirm")


@pytest.mark.parametrize(("name", "value"), [("statistic", "p99"), ("router", "random"), ("seed", "1")])
def test_what_is_simulated_for_a_plan_follows_its_flags(
    name: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert planned(capsys, "serve", *SERVE, *given(name, value)) != planned(capsys, "serve", *SERVE)
    if name != "router":  # which launch files have
        code, _, err = run(capsys, "plan", "serve", *SERVE, *given(name, value), "--no-confirm")
        assert code == 2 and "--no-confirm" in err
    closed = (*without(SERVE, "--rate"), "--concurrency", "64", "--rate-scale", "2")
    assert run(capsys, "plan", "serve", *closed)[0] == 2


@pytest.mark.parametrize("flag", FITS)
def test_a_flag_of_plan_fit_changes_a_number(flag: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert planned(capsys, "fit", *FIT, flag, FITS[flag]) != planned(capsys, "fit", *FIT)


def test_popular_experts_are_no_fault_where_nothing_is_read_from_a_disk(capsys: pytest.CaptureFixture[str]) -> None:
    skewed, alike = (planned(capsys, "fit", *FIT, *more)["answer"] for more in (("--expert-skew", "1.0"), ()))
    assert skewed["tokens_per_s"] == pytest.approx(alike["tokens_per_s"])


@pytest.mark.parametrize("more", [("--technique", "quantize_kv:bits=2,group=32"), ("--engine", "sglang")])
def test_a_flag_of_compare_changes_a_number(more: tuple[str, ...], capsys: pytest.CaptureFixture[str]) -> None:
    asked = ("llama-3.1-8b --on h100-sxm --batch 8", "… --batch 64")
    plain, changed = (run(capsys, "compare", *asked, *x, "--json", "-")[1] for x in ((), more))
    assert json.loads(plain)["changes"] != json.loads(changed)["changes"]
