"""``tierwise explain``: how long each phase takes, what bounds it, what fills the memory, what would help."""

from __future__ import annotations

import typer

from tierwise.cli._flags import BATCH, DEGREES, FORMATS, KERNELS, TRAINING, Flags, flags, refuse

# What a run of requests has and training has not.
_SERVED = (*BATCH, *FORMATS, *(x for x in KERNELS if x != "schedule"), "engine", "technique", "sensitivity")
# What to give in place of some of them.
_INSTEAD = {
    "batch": ": --micro-batch, a number or max (the largest that fits), and --global-batch",
    "prompt": ": --seq", "output": ": --seq", "engine": ": --trainer", "framework": ": --trainer",
    "activations": ": --precision", "weights": ": --precision",
}  # fmt: skip


@flags("machine", *BATCH, *DEGREES, *FORMATS, *KERNELS, "engine", "technique", *TRAINING, "sensitivity", "html",
       "trace_out", "table", "json", "save")  # fmt: skip
def command(asked: Flags, ops: int = typer.Option(12, help="Rows of the op table; 0 for none.")) -> None:
    """Explain what a model costs on a machine."""
    if asked.train:
        from tierwise.cli._training import explain

        refuse_requests(asked)
        return explain(asked)
    refuse(asked, TRAINING[1:], "nothing without --train")
    from tierwise.cli._files import check, told, write_json
    from tierwise.cli._progress import progress
    from tierwise.core.files import write
    from tierwise.report.tables import ENDINGS, write_table

    check(asked, "html", "trace_out", "json", "save", table=ENDINGS)
    with progress("pricing one pass") as tell:
        from tierwise.advise import advise
        from tierwise.cli._scenario import asked_for
        from tierwise.evaluation import evaluate, largest_batch, longest_context
        from tierwise.report.explain_data import check_one, scalar_dict

        scenario, form = asked_for(asked)
        result = evaluate(scenario)
        check_one(result, asked.source or "explain")
        tell("trying what would help", 0, 0, "")
        advice = advise(result)
        generates = result.scenario.model.task == "generate"
        most = float(largest_batch(result.scenario))
        longest = float(longest_context(result.scenario)) if generates else None
        found = {"advice": advice, "largest_batch": most, "longest_context": longest}
        if asked.sensitivity:
            from tierwise.influence import sensitivity

            found["moved"] = sensitivity(result.scenario)
        data = scalar_dict(result, asked.source or "explain", **found)  # type: ignore[arg-type]
    if asked.save is not None:
        from tierwise.scenario.files import write_form

        write_form(form, asked.save)
    if asked.html is not None:
        from tierwise.report.explain_report import page

        write(asked.html, page(result, data=data))
    if asked.trace_out is not None:
        from tierwise.report.explain_trace import perfetto

        write_json(asked.trace_out, perfetto(result, data), indent=None)
    if asked.json is not None:
        from tierwise.report.explain_data import signed

        write_json(asked.json, signed(data))
    if asked.table is not None:
        from tierwise.report.explain_data import op_rows

        write_table(asked.table, op_rows(data))
    if "-" not in (asked.json, asked.save):
        from tierwise.report.console import console
        from tierwise.report.explain_report import show

        show(result, console(), ops=ops, data=data)
        told(asked, "html", "trace_out", "table", "json", "save")


def refuse_requests(asked: Flags) -> None:
    """Refuse what a run of requests has where a training step is asked for.

    Raises:
        TierwiseError: such a flag is given; says what to give in its place.
    """
    for name in _SERVED:
        refuse(asked, [name], f"nothing with --train{_INSTEAD.get(name, '')}")
