"""``tierwise explain``: how long each phase takes, what bounds it, what fills the memory, what would help."""

from __future__ import annotations

import typer


def command(
    model: str = typer.Argument(..., help="Catalog name, hf:org/name, or a config.json, GGUF, safetensors, ONNX file."),
    on: str = typer.Option(..., "--on", help="Machine: h100-sxm, 8xh200-sxm, dgx-h100, or a YAML file."),
    batch: str = typer.Option("1", help='Requests at once, or "max" for as many as fit.'),
    prompt: str | None = typer.Option(None, help="Tokens in each prompt (default 2048)."),
    output: str = typer.Option("256", help="Tokens generated per request."),
    images: str | None = typer.Option(None, help="Images per request, for models that see."),
    image_size: str | None = typer.Option(None, help="Side of an image in pixels."),
    tp: int | None = typer.Option(None, help="Tensor-parallel degree."),
    pp: int | None = typer.Option(None, help="Pipeline-parallel degree."),
    dp: int | None = typer.Option(None, help="Data-parallel degree (of attention, for mixtures of experts)."),
    ep: int | None = typer.Option(None, help="Expert-parallel degree."),
    weights: str | None = typer.Option(None, help="Format of linear weights: bf16, fp8, nvfp4, int4-g128, q4_k, …"),
    activations: str | None = typer.Option(None, help="Format of activations: bf16, fp8, int8, …"),
    kv: str | None = typer.Option(None, help="Format of the KV cache: fp8, int4-g64, int2-g32, …"),
    chunk: str | None = typer.Option(None, help="Most prompt tokens in one pass (default 8192)."),
    eager: bool = typer.Option(False, "--eager", help="Kernels are launched one by one, not from a recorded graph."),
    unfused: bool = typer.Option(False, "--unfused", help="Attention writes its scores to memory."),
    framework: str | None = typer.Option(None, help="Run the model's code line by line in it: transformers."),
    ops: int = typer.Option(12, help="Rows of the op table; 0 for none."),
    html: str | None = typer.Option(None, help="Write a self-contained HTML report."),
    trace: str | None = typer.Option(None, help="Write a timeline for Perfetto (ui.perfetto.dev)."),
    json: str | None = typer.Option(None, help='Write everything as JSON; "-" prints it instead of the tables.'),
) -> None:
    """Explain what a model costs on a machine."""
    from tierwise.advise import advise
    from tierwise.cli._scenario import Flags, scenario
    from tierwise.core.files import check_writable, write
    from tierwise.evaluation import evaluate, largest_batch, longest_context

    for target in (html, trace, json):
        if target is not None:
            check_writable(target)
    result = evaluate(
        scenario(
            Flags(model, on, batch, prompt, output, images, image_size, tp, pp, dp, ep, weights, activations, kv,
                  chunk, eager, unfused, framework)
        )
    )  # fmt: skip
    advice = advise(result)
    generates = result.scenario.model.task == "generate"
    most = float(largest_batch(result.scenario))
    longest = float(longest_context(result.scenario)) if generates else None
    found = {"advice": advice, "largest_batch": most, "longest_context": longest}
    if html is not None:
        from tierwise.report.explain_report import page

        write(html, page(result, **found))  # type: ignore[arg-type]
    if trace is not None:
        import json as jsonlib

        from tierwise.report.explain_trace import perfetto

        write(trace, jsonlib.dumps(perfetto(result)))
    if json is not None:
        import json as jsonlib

        from tierwise.report.explain_data import to_dict

        write(json, jsonlib.dumps(to_dict(result, **found), indent=2, allow_nan=False))  # type: ignore[arg-type]
    if json != "-":
        from tierwise.report.console import console
        from tierwise.report.explain_report import show

        show(result, console(), ops=ops, **found)  # type: ignore[arg-type]
        for what, path in (("report", html), ("timeline", trace), ("JSON", json)):
            if path not in (None, "-"):
                print(f"{what} written to {path}")
