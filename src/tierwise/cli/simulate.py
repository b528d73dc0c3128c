"""``tierwise simulate``: requests of a trace (or made up by rule) played against replicas of a model."""

from __future__ import annotations

import typer


def command(
    model: str = typer.Argument(..., help="Catalog name, hf:org/name, or a config.json, GGUF, safetensors file."),
    on: str = typer.Option(..., "--on", help="Machine and all its devices: h100-sxm, 8xh200-sxm, or a YAML file."),
    tp: int | None = typer.Option(None, help="Tensor-parallel degree of one engine."),
    pp: int | None = typer.Option(None, help="Pipeline-parallel degree."),
    dp: int | None = typer.Option(None, help="Data-parallel degree of attention inside one engine."),
    ep: int | None = typer.Option(None, help="Expert-parallel degree."),
    replicas: int | None = typer.Option(None, help="Engines (default: as many as the machine holds)."),
    prefill_replicas: int | None = typer.Option(None, help="Engines that only prefill, before others that decode."),
    decode_replicas: int | None = typer.Option(None, help="Engines that only decode."),
    prefill_plan: str | None = typer.Option(None, help="Degrees of those that only prefill, where they are others "
                                                       "than those that decode have: tp=2,ep=2."),
    weights: str | None = typer.Option(None, help="Format of linear weights: bf16, fp8, …"),
    activations: str | None = typer.Option(None, help="Format of activations."),
    kv: str | None = typer.Option(None, help="Format of the KV cache: fp8, …"),
    trace: str | None = typer.Option(None, help="File of requests (CSV, JSON, JSON lines, .gz) or a recorded run."),
    format: str | None = typer.Option(None, help="Its format, where it is not recognized."),
    rate_scale: float = typer.Option(1.0, help="Play arrivals so many times as fast."),
    limit: int | None = typer.Option(None, help="The first so many requests only."),
    rate: str | None = typer.Option(None, help="Requests made up at this rate: 4/s (sessions, with --turns)."),
    concurrency: int | None = typer.Option(None, help="Requests a client keeps in flight, instead of a rate."),
    requests: int = typer.Option(1000, help="How many to make up."),
    arrivals: str | None = typer.Option(None, help="poisson, gamma:cv=2, bursty, diurnal, or your file.py."),
    prompt: str = typer.Option("1024", help="Tokens of made-up prompts: a number, or lognormal:mean=1000,cv=1, …"),
    output: str = typer.Option("256", help="Tokens of made-up answers, likewise."),
    turns: str = typer.Option("1", help="Turns of a made-up session, likewise."),
    think: float = typer.Option(0.0, help="Seconds from an answer to the next turn of a made-up session."),
    shared: int = typer.Option(0, help="Tokens in front of every made-up prompt, shared by all."),
    search: str | None = typer.Option(None, help="Each request is a question answered by tree search: "
                                                 "width=16,keep=4,depth=8,step=64."),
    engine: str = typer.Option("vllm", help="vllm, sglang or trtllm: whose host times and kernels."),
    scheduler: list[str] = typer.Option(["chunked"], help="Policy or your file.py. Repeat to compare."),
    router: list[str] = typer.Option(["round_robin"], help="Policy or your file.py. Repeat to compare."),
    kv_manager: list[str] = typer.Option(["paged"], help="Policy or your file.py. Repeat to compare."),
    autoscaler: str = typer.Option("", help="Policy or your file.py."),
    startup: str = typer.Option("60s", help="Until a new replica serves: 60s, or its weights from disk, host, peer."),
    max_seqs: int = typer.Option(256, help="Sequences in one step."),
    budget: int = typer.Option(8192, help="Tokens in one step."),
    max_len: int = typer.Option(0, help="Tokens one request may have (default: the model's own)."),
    block: int = typer.Option(16, help="Tokens of one KV block."),
    memory: float = typer.Option(0.9, help="Share of the devices' memory that the engine takes."),
    prefix_cache: bool = typer.Option(True, help="Reuse full blocks of earlier requests."),
    host_cache: str | None = typer.Option(None, help="Host memory for blocks of earlier requests: 64GB."),
    disk_cache: str | None = typer.Option(None, help="Disk for them, likewise."),
    pooled: bool = typer.Option(False, "--pooled", help="Replicas share these tiers over the network."),
    swap: bool = typer.Option(False, "--swap", help="Preempted requests move to host memory."),
    eager: bool = typer.Option(False, "--eager", help="Steps are launched kernel by kernel."),
    prefill_share: float = typer.Option(0.0, help="Share of the units for prefill beside decode; 0 for in turn."),
    draft: int = typer.Option(0, help="Draft tokens a step."),
    accept: float = typer.Option(0.7, help="Probability that a draft token is right."),
    adapters: int = typer.Option(0, help="LoRA adapters an engine holds at once."),
    fail: list[str] = typer.Option([], help="A replica that fails: SECONDS:REPLICA:SECONDS-DOWN. Repeat for more."),
    calibration: str | None = typer.Option(None, help="What `tierwise calibrate --from-run` wrote about this machine."),
    ttft: str | None = typer.Option(None, help="Target: time to first token, 600ms."),
    tpot: str | None = typer.Option(None, help="Target: time per output token, 25ms."),
    seed: int = typer.Option(0, help="Of all that is random."),
    html: str | None = typer.Option(None, help="Write a self-contained HTML report."),
    trace_out: str | None = typer.Option(None, help="Write a timeline for Perfetto (ui.perfetto.dev)."),
    parquet: str | None = typer.Option(None, help="Write one row a request (.parquet or .csv)."),
    json: str | None = typer.Option(None, help='Write everything as JSON; "-" prints it instead of the tables.'),
) -> None:  # fmt: skip
    """Play requests against a deployment: what each waits and gets, what is busy, whether it keeps up."""
    from itertools import product

    from tierwise.cli._simulate import Asked, deployment, played, traffic, written
    from tierwise.core.files import check_writable
    from tierwise.core.units import parse
    from tierwise.report.serving_requests import ENDINGS

    for target, endings in ((html, ()), (trace_out, ()), (parquet, ENDINGS), (json, ())):
        if target is not None:
            check_writable(target, endings)
    asked = Asked(**{k: v for k, v in locals().items() if k in Asked.__dataclass_fields__})
    target_ttft, target_tpot = (
        None if x is None else parse(x, "time", n) for x, n in ((ttft, "--ttft"), (tpot, "--tpot"))
    )
    chosen = list(product(scheduler, router, kv_manager))
    plans = [deployment(asked, *policies) for policies in chosen]
    # Everything that can be wrong with the question has been said by now; then the trace, which may be long.
    runs = played(traffic(asked), plans, seed, calibration)
    many = {n: len(set(x)) > 1 for n, x in (("scheduler", scheduler), ("router", router), ("kv", kv_manager))}
    names = [" ".join(p for p, several in zip(c, many.values(), strict=True) if several) for c in chosen[: len(runs)]]
    written(runs, names, target_ttft, target_tpot, html, trace_out, parquet, json)
