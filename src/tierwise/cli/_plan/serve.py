"""``tierwise plan serve``: which machine, how many, divided how, to serve a model within latency targets."""

from __future__ import annotations

import typer


def command(
    model: str = typer.Argument(..., help="Catalog name, hf:org/name, or a config.json."),
    on: list[str] = typer.Option([], "--on", help="Machine and how many at most: 32xh200-sxm. Repeat to compare."),
    any_gpu: bool = typer.Option(False, "--any-gpu", help="Every GPU of the catalog that has a rent."),
    budget: str | None = typer.Option(None, help="Dollars at most: 40/h."),
    prompt: str | None = typer.Option(None, help="Mean tokens of a prompt (2048; a trace has its own)."),
    output: str | None = typer.Option(None, help="Mean tokens of an answer (256; a trace has its own)."),
    rate: str | None = typer.Option(None, help="Requests that arrive: 40/s, 2400/min."),
    trace: str | None = typer.Option(None, help="File of requests to serve; it gives rate and lengths."),
    rate_scale: float = typer.Option(1.0, "--rate-scale", help="Play the trace so many times as fast."),
    concurrency: str | None = typer.Option(None, help="Requests that clients keep in flight."),
    ttft: str | None = typer.Option(None, help="Time to first token at most: 600ms."),
    tpot: str | None = typer.Option(None, help="Time per output token at most: 25ms."),
    statistic: str = typer.Option(
        "mean", help="Of the requests, what must meet the targets: mean, p50, p90, p95, p99."
    ),
    objective: str = typer.Option("cost", help="cost, throughput or latency."),
    engine: list[str] = typer.Option(["vllm"], help="vllm, sglang or trtllm. Repeat to compare."),
    mode: list[str] = typer.Option([], help="aggregated or disaggregated; both are tried by default."),
    weights: list[str] = typer.Option(
        [], help="Formats of weights to try beside the checkpoint's own (changes answers)."
    ),
    kv: list[str] = typer.Option([], help="Formats of the KV cache to try beside the model's own (changes answers)."),
    draft: list[int] = typer.Option([], help="Draft tokens a step to try, where the model can speculate."),
    budget_tokens: list[int] = typer.Option([], "--tokens", help="Token budgets of a step to try."),
    confirm: bool = typer.Option(True, "--confirm/--no-confirm", help="Simulate the finalists."),
    router: str = typer.Option(
        "", help="How requests find an engine: power_of_two, or prefix_aware for shared prefixes."
    ),
    seed: int = typer.Option(0, help="Of synthetic traffic."),
    out: str | None = typer.Option(None, help="Folder for launch files."),
    html: str | None = typer.Option(None, help="Write a self-contained HTML report."),
    json: str | None = typer.Option(None, help='Write everything as JSON; "-" prints it instead of the tables.'),
) -> None:
    """The deployment that meets the targets best, why, and what else there was."""
    from tierwise.cli._plan._question import Asked, question
    from tierwise.core.files import check_writable, write
    from tierwise.report.plan_data import cloud, to_dict
    from tierwise.search.confirm import can_simulate
    from tierwise.search.serve import plan

    for target in (html, json):
        if target is not None:
            check_writable(target)
    asked = question(Asked(
        model, tuple(on), any_gpu, budget, prompt, output, rate, trace, rate_scale, concurrency, ttft, tpot, statistic,
        objective, tuple(engine), tuple(mode), tuple(weights), tuple(kv), tuple(draft), tuple(budget_tokens), router,
        seed,
    ))  # fmt: skip
    answer = plan(asked, confirm=confirm and can_simulate())
    found = to_dict(answer)
    if out is not None:
        from tierwise.cli._plan._launch import launch

        launch(answer, found, out)
    if html is not None:
        from tierwise.report.plan_report import page

        write(html, page(found, cloud(answer)))
    if json is not None:
        import json as jsonlib

        write(json, jsonlib.dumps(found, indent=2, allow_nan=False))
    if json != "-":
        from tierwise.report.console import console
        from tierwise.report.plan_report import show

        show(found, console())
        for what, path in (("report", html), ("launch files", out), ("JSON", json)):
            if path not in (None, "-"):
                print(f"{what} written to {path}")
