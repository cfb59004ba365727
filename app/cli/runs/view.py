"""How the `runs` commands show runs and the progress of a download."""

import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import typer

from app.api.schemas.runs import RunDetailOut, RunOut
from app.cli.output import show_json, show_table

_HEADINGS = ("id", "state", "rule", "report_type", "connected_account", "from", "to", "attempt", "about")


def show_runs(found: Sequence[RunOut], names: Mapping[uuid.UUID, str]) -> None:
    """One line per run."""
    show_table(_HEADINGS, [_row(run, names) for run in found])


def show_run(run: RunDetailOut, *, as_json: bool) -> None:
    """Everything about a run, its history last."""
    if as_json:
        show_json(run.model_dump(mode="json"))
        return
    for name, value in run.model_dump(mode="json", exclude={"history"}, exclude_none=True).items():
        inner = value.items() if isinstance(value, dict) else None
        shown = value if inner is None else ", ".join(f"{key} {one}" for key, one in inner if one is not None)
        typer.echo(f"{name + ':':<18} {shown}")
    typer.echo("history:")
    for move in run.history:
        typer.echo(f"  {move.at:%Y-%m-%dT%H:%M:%SZ}  {move.to_state:<10} attempt {move.attempt}  {move.reason}")


def _row(run: RunOut, names: Mapping[uuid.UUID, str]) -> list[object]:
    rule = None if run.rule_id is None else names.get(run.rule_id)
    window = (run.interval_start, run.interval_end)
    return [run.id, run.state, rule, run.report_type, run.connected_account, *window, run.attempt, _about(run)]


def _about(run: RunOut) -> str | None:
    """The most interesting fact: its file, its error, or what it waits for."""
    if run.file is not None:
        return f"{run.file.size:,} bytes" + (" (removed)" if run.file.removed_at is not None else "")
    if run.error is not None:
        return f"{run.error.kind}: {run.error.message}"
    return None if run.waiting is None else f"waits: {run.waiting.reason}"


@contextmanager
def progress(name: str, *, total: int) -> Iterator[Callable[[int], None]]:
    """A progress bar of bytes on a terminal, nothing elsewhere; gives what takes each number of bytes done."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TransferSpeedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(name, total=total)
        yield lambda done: bar.advance(task, done)
