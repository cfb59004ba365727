"""`tallyhook rules`: rules as YAML, reviewed like code."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.api import Api, AsJson, command

# From the API (app/api/rule_apply.py).
Outcome = Mapping[str, Any]
DIFFERENT = 3  # 1 is an error and 2 bad usage, so that a pipeline can tell drift from failure

rules = typer.Typer(help="Rules as YAML, reviewed like code.", no_args_is_help=True)
File = Annotated[str, typer.Argument(help="A YAML file with a list under `rules:`; `-` reads standard input.")]
Prune = Annotated[bool, typer.Option("--prune", help="Also remove rules that are not in the file.")]


@command(rules)
async def export(api: Api, as_json: AsJson = False) -> None:
    """Print every rule as YAML, ordered by name, for `rules apply`."""
    import json

    import yaml

    from app.cli.output import show_json

    text = await api.text("/v1/rules.yaml")
    if as_json:
        show_json(json.loads(json.dumps(yaml.safe_load(text), default=str)))  # YAML has dates, JSON has none
    else:
        typer.echo(text, nl=False)


@command(rules)
async def diff(api: Api, file: File, prune: Prune = False, as_json: AsJson = False) -> None:
    """Show what `rules apply` would change. Exit code: 0 nothing, 3 something, 1 the file cannot be applied."""
    from app.cli.output import show_json

    outcome = await _applied(api, file, prune=prune, dry_run=True)
    if as_json:
        show_json({"different": bool(outcome["steps"]), **outcome})
    elif outcome["difference"]:
        _show_difference(outcome["difference"])
    _note(outcome)
    if outcome["steps"]:
        raise typer.Exit(DIFFERENT)


@command(rules)
async def apply(
    api: Api,
    file: File,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be done.")] = False,
    prune: Prune = False,
    as_json: AsJson = False,
) -> None:
    """Make the rules match the file, in one transaction: completely or not at all.

    Rules are identified by name. Rules that are not in the file stay, unless --prune.
    """
    from app.cli.output import show_json

    outcome = await _applied(api, file, prune=prune, dry_run=dry_run)
    if as_json:
        show_json({"applied": not dry_run, **outcome})
    else:
        _show_steps(outcome, dry_run=dry_run)
    _note(outcome)


async def _applied(api: Api, file: str, *, prune: bool, dry_run: bool) -> Outcome:
    name = "standard input" if file == "-" else file
    asked = {"yaml": _read(file), "file": name, "prune": prune, "dry_run": dry_run}
    outcome: Outcome = await api.post("/v1/rules/apply", asked)
    return outcome


def _read(file: str) -> str:
    try:
        raw = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
        return raw.decode("utf-8-sig")
    except OSError as error:
        raise typer.BadParameter(f"{file} cannot be read: {error.strerror}", param_hint="FILE") from error
    except UnicodeDecodeError as error:
        raise typer.BadParameter(f"{file} is not UTF-8 text", param_hint="FILE") from error


def _show_steps(outcome: Outcome, *, dry_run: bool) -> None:
    for step in outcome["steps"]:
        fields = f": {', '.join(step['fields'])}" if step["fields"] else ""
        counts = [(step["runs_planned"], "planned"), (step["runs_cancelled"], "cancelled")]
        runs = "".join(f" ({count} run{'' if count == 1 else 's'} {what})" for count, what in counts if count)
        typer.echo(f"{'would be ' if dry_run else ''}{step['action']} {step['name']}{fields}{runs}")
    unchanged = outcome["unchanged"]
    typer.echo(f"{unchanged} unchanged" if unchanged or outcome["steps"] else "there is nothing to do")


def _note(outcome: Outcome) -> None:
    """Show on standard error what is easily overlooked."""
    for step in outcome["steps"]:
        for warning in step["warnings"]:
            typer.echo(f"warning: {step['name']}: {warning}", err=True)
    if outcome["kept"]:
        typer.echo(f"not in the file, and kept (--prune removes them): {', '.join(outcome['kept'])}", err=True)
    if outcome["may_rename"]:
        typer.echo("a rule with a new name is a new rule: runs and files stay with the old one", err=True)


def _show_difference(difference: str) -> None:
    for line in difference.splitlines():
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        typer.secho(line, fg=colour)
