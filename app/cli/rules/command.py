"""`tallyhook rules export|diff|apply`, and the same of `targets`: both as YAML, reviewed like code."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from app.cli.api import Api, AsJson, command

# From the API (app/api/as_code/apply.py).
Outcome = Mapping[str, Any]
DIFFERENT = 3  # 1 is an error and 2 bad usage, so that a pipeline can tell drift from failure

rules = typer.Typer(help="Rules: their reports and coverage, and all of them as YAML.", no_args_is_help=True)
File = Annotated[
    str, typer.Argument(help="A YAML file with lists under `rules:` and `targets:`; `-` reads standard input.")
]
Prune = Annotated[bool, typer.Option("--prune", help="Also remove what is not in the file.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done, and do nothing.")]


@command(rules)
async def export(api: Api, as_json: AsJson = False) -> None:
    """Print every rule and target as YAML, ordered by name, without secrets; `rules apply` reads it."""
    await show_file(api, None, as_json=as_json)


@command(rules)
async def diff(api: Api, file: File, prune: Prune = False, as_json: AsJson = False) -> None:
    """Show what `rules apply` would change: exit code 0 if nothing, 3 if something, 1 if it cannot be applied."""
    await show_diff(api, file, None, prune=prune, as_json=as_json)


@command(rules)
async def apply(api: Api, file: File, dry_run: DryRun = False, prune: Prune = False, as_json: AsJson = False) -> None:
    """Make rules and targets match the file, in one transaction: all or nothing.

    They are identified by name. What the file does not name stays, unless --prune; a file without `targets:` leaves
    all targets alone.
    """
    await apply_file(api, file, None, prune=prune, dry_run=dry_run, as_json=as_json)


async def show_file(api: Api, only: str | None, *, as_json: bool) -> None:
    """Print rules and targets as YAML, or one of them."""
    import json

    import yaml

    from app.cli.output import show_json

    text = await api.text("/v1/rules.yaml", only=only)
    if as_json:
        show_json(json.loads(json.dumps(yaml.safe_load(text), default=str)))  # YAML has dates, JSON has none
    else:
        typer.echo(text, nl=False)


async def show_diff(api: Api, file: str, only: str | None, *, prune: bool, as_json: bool) -> None:
    """Print what applying the file would change; ends with exit code 3 when that is something."""
    from app.cli.output import show_json

    outcome = await _applied(api, file, only, prune=prune, dry_run=True)
    if as_json:
        show_json({"different": bool(outcome["steps"]), **outcome})
    elif outcome["difference"]:
        _show_difference(outcome["difference"])
    _note(outcome)
    if outcome["steps"]:
        raise typer.Exit(DIFFERENT)


async def apply_file(api: Api, file: str, only: str | None, *, prune: bool, dry_run: bool, as_json: bool) -> None:
    """Apply the file, or one of its lists, and print what that did."""
    from app.cli.output import show_json

    outcome = await _applied(api, file, only, prune=prune, dry_run=dry_run)
    if as_json:
        show_json({"applied": not dry_run, **outcome})
    else:
        _show_steps(outcome, dry_run=dry_run)
    _note(outcome)


async def _applied(api: Api, file: str, only: str | None, *, prune: bool, dry_run: bool) -> Outcome:
    name = "standard input" if file == "-" else file
    asked = {"yaml": _read(file), "file": name, "prune": prune, "dry_run": dry_run, "only": only}
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
    from app.sentences import count

    for step in outcome["steps"]:
        runs = [(step["runs_planned"], "planned"), (step["runs_cancelled"], "cancelled")]
        parts = [", ".join(step["fields"]), *(f"{count(number, 'run')} {what}" for number, what in runs if number)]
        about = "; ".join(filter(None, parts))
        done = f"would be {step['action']}" if dry_run else step["action"]
        typer.echo(f"{done}: {_called(step)}{f' ({about})' if about else ''}")
    unchanged = outcome["unchanged"]
    typer.echo(f"{unchanged} unchanged" if unchanged or outcome["steps"] else "there is nothing to do")


def _called(step: Mapping[str, Any]) -> str:
    return f"target {step['name']}" if step["kind"] == "target" else str(step["name"])


def _note(outcome: Outcome) -> None:
    """Show on standard error what is easily overlooked."""
    for step in outcome["steps"]:
        for warning in step["warnings"]:
            typer.echo(f"{'note' if step['kind'] == 'target' else 'warning'}: {step['name']}: {warning}", err=True)
    kept = [*outcome["kept"], *(f"target {name}" for name in outcome["kept_targets"])]
    if kept:
        typer.echo(f"not in the file, and kept (--prune removes them): {', '.join(kept)}", err=True)
    if outcome["may_rename"]:
        typer.echo("a rule with a new name is a new rule: runs and files stay with the old one", err=True)


def _show_difference(difference: str) -> None:
    for line in difference.splitlines():
        colour = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1])
        typer.secho(line, fg=colour)
