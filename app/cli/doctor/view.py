"""How `tallyhook doctor` shows its findings, and a new signing secret, which appears only here and only once."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import typer

from app.cli.doctor.endpoint import Fixed
from app.cli.output import show_json as show_value
from app.health.results import Check, Link, LinkKind, Status, worst

# The list that shows what a finding is about, and the filters that the command takes.
_COMMANDS: Mapping[LinkKind, str] = {
    LinkKind.CHECKS: "tallyhook checks list",
    LinkKind.EVENTS: "tallyhook events list",
    LinkKind.LOADS: "tallyhook tables list",
    LinkKind.REPORT_TYPES: "tallyhook report-types",
    LinkKind.RULES: "tallyhook rules list",
    LinkKind.RUNS: "tallyhook runs list",
    LinkKind.TARGETS: "tallyhook targets list",
}
_COLOURS = {Status.OK: "green", Status.DEGRADED: "yellow", Status.FAILING: "red"}


def show_json(findings: Sequence[Check], fixed: Sequence[Fixed]) -> None:
    """Output for programs: `status`, `findings`, `fixed`."""
    repairs = [asdict(one) for one in fixed]
    show_value({"status": worst(findings), "findings": [_as_json(one) for one in findings], "fixed": repairs})


def show(findings: Sequence[Check], fixed: Sequence[Fixed]) -> None:
    """Output for people; colours only on a terminal."""
    for finding in findings:
        sign = typer.style(f"{finding.status:<8}", fg=_COLOURS[finding.status])
        name = finding.name if finding.account is None else f"{finding.account}/{finding.name}"
        typer.echo(f"{sign} {name:<24} {finding.detail}")
        if finding.advice is not None:
            typer.echo(f"{'':<8} {'':<24} → {finding.advice}")
        if finding.link is not None and finding.status is not Status.OK and (command := command_of(finding.link)):
            typer.echo(f"{'':<8} {'':<24} → {command}")
    for one in fixed:
        typer.echo(f"\nThe webhook endpoint {one.url} of the account `{one.account}` is {one.action}.")
        if one.secret is not None:
            typer.echo(f"Its signing secret: {one.secret}\n{one.advice}")


def _as_json(finding: Check) -> dict[str, Any]:
    return asdict(finding) | {"command": None if finding.link is None else command_of(finding.link)}


def command_of(link: Link) -> str | None:
    """The command that lists what a link leads to; None where doctor itself says it all."""
    command = _COMMANDS.get(link.kind)
    filters = {} if link.kind is LinkKind.LOADS else link.filter
    return command and " ".join([command, *(f"--{name} {value}" for name, value in filters.items())])
