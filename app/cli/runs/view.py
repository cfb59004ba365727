"""How the `runs` commands show runs."""

from collections.abc import Mapping, Sequence
from typing import Any

import typer

from app.cli.output import cell_of, show_json, show_list, show_table

# From the API.
Run = Mapping[str, Any]
_VERDICT_HEADINGS = ("id", "verdict", "name", "window", "currency", "difference", "reason")
_HEADINGS = ("id", "state", "rule", "window", "report_type", "connected_account", "attempt", "about")


def show_runs(found: Sequence[Run], names: Mapping[str, str]) -> None:
    """One line per run; `names` are those of rules by id."""
    show_table(_HEADINGS, [_row(run, names) for run in found])


def show_run(run: Run, *, as_json: bool) -> None:
    """Everything about a run; its history and the verdicts about its file last."""
    if as_json:
        show_json(run)
        return
    for name, value in run.items():
        if value is None or name in ("history", "checks"):
            continue
        inner = value.items() if isinstance(value, dict) else None
        shown = value if inner is None else ", ".join(f"{key} {one}" for key, one in inner if one is not None)
        typer.echo(f"{name + ':':<18} {shown}")
    typer.echo("history:")
    for move in run["history"]:
        typer.echo(f"  {move['at']}  {move['to_state']:<10} attempt {move['attempt']}  {move['reason']}")
    if run["checks"]:
        typer.echo("checks:")
        show_list(_VERDICT_HEADINGS, run["checks"], as_json=False)


def _row(run: Run, names: Mapping[str, str]) -> list[object]:
    rule = None if run["rule_id"] is None else names.get(run["rule_id"], run["rule_id"])
    return [
        run["id"],
        run["state"],
        rule,
        cell_of(run["window"]),
        run["report_type"],
        run["connected_account"],
        run["attempt"],
        _about(run),
    ]


def _about(run: Run) -> str | None:
    """What the list says about it: its file, its error, or why it waits."""
    if run["file"] is not None:
        return f"{run['file']['size']:,} bytes" + (" (removed)" if run["file"]["removed_at"] is not None else "")
    if run["error"] is not None:
        return f"{run['error']['kind']}: {run['error']['message']}"
    return None if run["waiting"] is None else f"waits: {run['waiting']['reason']}"
