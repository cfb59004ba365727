"""`tallyhook rules`: rules as YAML, reviewed like code."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from app.cli.rules.changes import Outcome

DIFFERENT = 3  # 1 is an error and 2 bad usage, so that a pipeline can tell drift from failure

rules = typer.Typer(help="Rules as YAML, reviewed like code.", no_args_is_help=True)
File = Annotated[str, typer.Argument(help="A YAML file with a list under `rules:`; `-` reads standard input.")]
Prune = Annotated[bool, typer.Option("--prune", help="Also remove rules that are not in the file.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@rules.command()
def export(as_json: AsJson = False) -> None:
    """Print every rule as YAML, ordered by name; `rules apply` takes it back."""
    from app.cli.output import show_json
    from app.cli.rules.changes import as_text
    from app.cli.rules.file import as_written
    from app.cli.session import opened, run_once
    from app.db.models import Rule
    from app.rules import store

    async def read() -> list[Rule]:
        async with opened() as res, res.sessions() as session:
            return await store.read_all(session)

    saved = run_once(read)
    if as_json:
        plain = [as_written(store.values_of(rule)) for rule in saved]
        show_json({"rules": [{name: _json(value) for name, value in rule.items()} for rule in plain]})
    else:
        typer.echo(as_text(saved), nl=False)


@rules.command()
def diff(file: File, prune: Prune = False, as_json: AsJson = False) -> None:
    """Show what `rules apply` would change: exit code 0 nothing, 3 something, 1 that it cannot be applied."""
    from app.cli.output import show_json

    outcome = _applied(file, prune=prune, dry_run=True)
    if as_json:
        show_json({"different": bool(outcome.steps), **asdict(outcome)})
    elif outcome.difference:
        _show_difference(outcome.difference)
    _note(outcome)
    if outcome.steps:
        raise typer.Exit(DIFFERENT)


@rules.command()
def apply(
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be done without doing it.")] = False,
    prune: Prune = False,
    as_json: AsJson = False,
) -> None:
    """Apply the file's rules in one transaction, all or nothing.

    Rules are identified by name. Rules that the file does not name are kept, unless --prune is given.
    """
    from app.cli.output import show_json

    outcome = _applied(file, prune=prune, dry_run=dry_run)
    if as_json:
        show_json({"applied": not dry_run, **asdict(outcome)})
    else:
        _show_steps(outcome, dry_run=dry_run)
    _note(outcome)


def _applied(file: str, *, prune: bool, dry_run: bool) -> "Outcome":
    from app.cli.rules.changes import apply as apply_rules
    from app.cli.rules.file import read_rules
    from app.cli.session import opened, run_once

    name = "standard input" if file == "-" else file
    wanted = read_rules(_read(file), file=name)

    async def act() -> "Outcome":
        async with opened() as res:
            return await apply_rules(res, wanted, file=name, prune=prune, dry_run=dry_run)

    return run_once(act)


def _read(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="FILE") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8 text", param_hint="FILE") from error


def _show_steps(outcome: "Outcome", *, dry_run: bool) -> None:
    for step in outcome.steps:
        fields = f": {', '.join(step.fields)}" if step.fields else ""
        counts = [(step.runs_planned, "planned"), (step.runs_cancelled, "cancelled")]
        runs = "".join(f" ({count} run{'' if count == 1 else 's'} {what})" for count, what in counts if count)
        typer.echo(f"{'would be ' if dry_run else ''}{step.action} {step.name}{fields}{runs}")
    typer.echo(f"{outcome.unchanged} unchanged" if outcome.unchanged or outcome.steps else "there is nothing to do")


def _note(outcome: "Outcome") -> None:
    """Show what is easily overlooked, on standard error."""
    for step in outcome.steps:
        for warning in step.warnings:
            typer.echo(f"warning: {step.name}: {warning}", err=True)
    if outcome.kept:
        typer.echo(f"not in the file, and kept (--prune removes them): {', '.join(outcome.kept)}", err=True)
    if outcome.may_rename:
        typer.echo("a rule under a new name is a new rule: runs and files stay with the old one", err=True)


def _show_difference(difference: str) -> None:
    for line in difference.splitlines():
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        typer.secho(line, fg=colour)


def _json(value: object) -> object:
    return value if isinstance(value, str | int | float | list | dict | None) else str(value)
