"""``tierwise plan serve`` as a user runs it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tierwise.cli import main

ASKED = [
    "llama-3.1-8b",
    "--on",
    "4xh100-sxm",
    "--prompt",
    "1000",
    "--output",
    "200",
    "--ttft",
    "500ms",
    "--tpot",
    "20ms",
]


def plan(*args: str) -> int:
    with pytest.raises(SystemExit) as caught:
        main(["plan", *args])
    return int(caught.value.code or 0)


def test_an_answer_with_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    html, data, out = tmp_path / "plan.html", tmp_path / "plan.json", tmp_path / "deploy"
    asked = [*ASKED, "--rate", "10/s", "--mode", "aggregated"]
    assert plan("serve", *asked, "--html", str(html), "--json", str(data), "--out", str(out)) == 0
    said = capsys.readouterr().out
    assert said.strip().startswith("Serve llama-3.1-8b with")
    for part in ("Finalists", "Pareto front", "Why not", "If things change", "What this rests on"):
        assert part in said
    d = json.loads(data.read_text())
    assert d["schema"] == "tierwise.plan/1" and d["met"]
    a = d["answer"]
    assert a["simulated"]["meets"] and a["simulated"]["ttft_s"]["mean"] <= 0.5
    assert a["devices"] == a["engines"]["count"] * a["engines"]["tp"] * a["engines"]["pp"] * a["engines"]["dp"]
    assert a["usd_per_hour"] == pytest.approx(a["devices"] * d["question"]["machines"][0]["usd_per_hour"])
    assert d["question"]["machines"][0]["price_source"]
    assert (out / "README.md").is_file() and "meta-llama/Llama-3.1-8B" in (out / "README.md").read_text()
    assert f"--tensor-parallel-size {a['engines']['tp']}" in (out / "vllm" / "serve-server.sh").read_text().replace(
        "=", " "
    )


def test_the_page_stands_alone(tmp_path: Path) -> None:
    html = tmp_path / "plan.html"
    assert plan("serve", *ASKED, "--no-confirm", "--html", str(html)) == 0
    page = html.read_text()
    assert not re.search(r"(src|href)=.(?!#)|https?://(?!www\.w3\.org)[^\"<]*\.(js|css)|@import", page)
    assert "{{" not in page and "Cost against speed" in page


def test_json_alone_is_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("serve", *ASKED, "--no-confirm", "--json", "-") == 0
    assert json.loads(capsys.readouterr().out)["goal"] == "serve"


def test_nobody_meets_the_targets(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("serve", *ASKED[:-4], "--ttft", "1ms", "--tpot", "0.1ms", "--no-confirm") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert said.startswith("Nothing within 4 × NVIDIA H100") and "the nearest is" in said
    assert "No TTFT below" in said and "No TPOT below" in said


def test_who_meets_the_targets_as_expected_and_not_surely_is_not_said_to_miss_them(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    out = tmp_path / "plan.json"
    asked = ["llama-3.1-70b", "--on", "16xh100-sxm", "--prompt", "4000", "--output", "300", "--rate", "4",
             "--ttft", "1s", "--tpot", "40ms", "--mode", "disaggregated"]  # fmt: skip
    assert plan("serve", *asked, "--json", str(out)) == 0
    run = json.loads(out.read_text())["answer"]["simulated"]
    said = " ".join(capsys.readouterr().out.split())
    assert run["meets"] and run["keeps_up"] and not run["surely"]
    assert "is shown to serve" in said and "with 80 % confidence: the nearest" in said
    assert "which meets the targets as expected, not surely" in said and "which falls behind" not in said
    assert plan("serve", *asked, "--confidence", "50") == 0
    assert capsys.readouterr().out.split()[0] == "Serve"


def test_a_zero_character_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert plan("train", "llama-3.1-8b", "--on", "8xh100-sxm", "--global-batch", "64", "--out", "a\0b") == 2
    assert "an argument has no zero character" in capsys.readouterr().err


def test_a_model_that_does_not_fit(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("serve", "llama-3.1-405b", "--on", "2xl4", "--prompt", "100", "--output", "10") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "cannot run on" in said and "they would fit 64 × NVIDIA L4" in said and "0 configurations" not in said


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--rate", "1e12/s"], "serves llama-3.1-8b at 1,000,000,000,000 requests/s"),
        (["--concurrency", "1e12"], "of the 1,000,000,000,000 requests in flight."),
        (["--tokens", "1000000000000"], "beside the activations of a step of 1,000,000,000,000 tokens"),
    ],
)
def test_what_cannot_be_is_said_by_its_name(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("serve", "llama-3.1-8b", "--on", "2xh100-sxm", *args, "--no-confirm") == 0
    text = " ".join(capsys.readouterr().out.split())
    assert said in text and "budget" not in text.split(" · ")[0] and " : " not in text


def test_any_gpu_within_a_budget(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["--any-gpu", "--budget", "6/h", "--prompt", "500", "--output", "100", "--ttft", "1s", "--tpot", "50ms"]
    assert plan("serve", "llama-3.1-8b", *asked, "--mode", "aggregated", "--no-confirm", "--json", "-") == 0
    d = json.loads(capsys.readouterr().out)
    assert len(d["question"]["machines"]) > 10
    assert all(m["price_source"] and m["usd_per_hour"] for m in d["question"]["machines"])
    assert all(e["usd_per_hour"] <= 6.0 + 1e-9 for e in [d["answer"], *d["front"]])


def test_a_trace_is_served(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    file = tmp_path / "t.csv"
    rows = [f"{0.2 * i},{400 + 7 * (i % 30)},{50 + i % 20}" for i in range(300)]
    rows[150] = "30.0,200000,10"  # longer than the model's context
    file.write_text("arrival,prompt,output\n" + "\n".join(rows) + "\n")
    asked = ["--trace", str(file), "--ttft", "1s", "--tpot", "40ms", "--statistic", "p90", "--mode", "aggregated"]
    assert plan("serve", "llama-3.1-8b", "--on", "2xh100-sxm", *asked, "--json", "-") == 0
    d = json.loads(capsys.readouterr().out)
    assert d["question"]["trace_requests"] == 300 and d["question"]["requests_per_s"] == pytest.approx(5.0, rel=0.01)
    assert d["met"] and d["answer"]["simulated"]["requests"] == 299
    assert d["question"]["too_long"] == 1 and d["answer"]["simulated"]["rejected"] == 0


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--ttft", "soon"], "--ttft"),
        (["--rate", "-1/s"], "--rate"),
        (["--rate", "0/s"], "--rate"),
        (["--rate", "1/s", "--concurrency", "4"], "one load only"),
        (["--prompt", "0"], "--prompt"),
        (["--prompt", "1M"], "context"),
        (["--engine", "vlmm"], "vllm"),
        (["--objective", "price"], "cost, throughput, latency"),
        (["--statistic", "median"], "p50"),
        (["--confidence", "70"], "50, 80, 90"),
        (["--mode", "both"], "aggregated"),
        (["--mode", "mixed"], "a second --on or --weights"),
        (["--kv", "fp9"], "fp8"),
        (["--draft", "-1"], "--draft"),
        (["--tokens", "1"], "--tokens"),
        (["--budget", "1/h"], "rent of one h100-sxm"),
        (["--budget", "40"], "40/h"),
        (["--router", "foo"], "power_of_two"),
        (["--seed", "-1"], "--seed"),
        (["--draft", "100000"], "--draft"),
        (["--on", "100000xh100-sxm"], "4,096"),
        (["--any-gpu"], "--on"),
        (["--trace", "nowhere.csv"], "nowhere.csv"),
        (["--html", "nowhere/x.html"], "nowhere"),
        (["--on", "4xh100-sxn"], "h100-sxm"),
    ],
)
def test_bad_input_is_one_line(args: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    asked = [a for a in ASKED if not (args[0] == "--trace" and a in ("--prompt", "1000", "--output", "200"))]
    if args[0] in ("--prompt", "--ttft"):
        place = asked.index(args[0])
        asked[place + 1], args = args[1], args[2:]
    # Only what is simulated has percentiles.
    quick = [] if "--statistic" in args else ["--no-confirm"]
    assert plan("serve", *asked, *args, *quick) == 2
    captured = capsys.readouterr()
    assert captured.out == "" and said in captured.err
    assert captured.err.startswith("tierwise: ") and captured.err.count("\n") == 1


def test_nothing_is_cheapest_where_no_rent_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("serve", "llama-3.1-8b", "--on", "2xgb200", "--no-confirm") == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "none known" in said and "the cheapest" not in said and "fewest devices for each token" in said


def test_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    assert plan("serve", "llama-3.1-8b", "--prompt", "10", "--output", "10") == 2
    assert "--any-gpu" in capsys.readouterr().err
    assert plan("serve", "llama-3.1-8b", "--on", "h100-sxm", "--no-confirm") == 0
    assert "2,048 tokens in · 256 out" in capsys.readouterr().out
    assert plan("sevre") == 2
    assert "'serve'" in capsys.readouterr().err
    assert plan() == 0
    assert "serve" in capsys.readouterr().out
    assert plan("serve", "whisper-large-v3", "--on", "h100-sxm", "--prompt", "10", "--output", "10") == 2
    assert "decoder" in capsys.readouterr().err


def test_the_numbers_said_are_the_simulated_ones(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("numba")
    data = tmp_path / "plan.json"
    assert plan("serve", "llama-3.1-8b", "--on", "2xh100-sxm", "--mode", "aggregated", "--json", str(data)) == 0
    said = " ".join(capsys.readouterr().out.split())
    d = json.loads(data.read_text())
    run = d["answer"]["simulated"]
    assert "Expected:" not in said and f"Simulated over {run['requests']:,} requests: TTFT" in said
    assert "The steady state had promised" in said
    # No queue: a wait of seconds would serve nobody more.
    assert run["ttft_s"]["mean"] < 3.0
