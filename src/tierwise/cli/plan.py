"""``tierwise plan``: the best way to reach a goal. Each goal is found by its place: ``cli/_plan/<goal>.py``."""

from __future__ import annotations

import typer

# What comes after the goal is the goal's own.
SETTINGS = {
    "context_settings": {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
    "add_help_option": False,
}


def command(ctx: typer.Context) -> None:
    """Plan how to reach a goal: `tierwise plan serve MODEL --on MACHINE ...`."""
    import importlib
    import pkgutil
    import textwrap

    from typer.main import get_command

    from tierwise.cli import HELP, _in_short, _plan, printed
    from tierwise.core.errors import UnknownName

    goals = sorted(i.name for i in pkgutil.iter_modules(_plan.__path__) if not i.name.startswith("_"))
    goal, *rest = [*ctx.args] or ["--help"]
    if goal in HELP["help_option_names"]:
        print("Usage: tierwise plan GOAL [OPTIONS] MODEL\n\nGoals:")
        for name in goals:
            said = _in_short(importlib.import_module(f"tierwise.cli._plan.{name}").command)
            print(textwrap.fill(said, 78, initial_indent=f"  {name:10}", subsequent_indent=" " * 12))
        print(f"\nTry 'tierwise plan {goals[0]} --help'.")
        return
    if goal not in goals:
        raise UnknownName("goal", goal, goals, f"What can be planned: {', '.join(goals)}.")
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    app.command(goal, context_settings=HELP)(importlib.import_module(f"tierwise.cli._plan.{goal}").command)
    made = get_command(app)
    code = made(printed(made, rest), standalone_mode=False, prog_name=f"tierwise plan {goal}")
    if isinstance(code, int) and code:
        raise typer.Exit(code)
