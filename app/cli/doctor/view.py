"""How `tallyhook doctor` shows its findings, and a new signing secret, which appears only here and only once."""

from collections.abc import Sequence
from dataclasses import asdict

import typer

from app.cli.doctor.endpoint import Fixed
from app.cli.output import show_json as show_value
from app.health.results import Check, Status, worst
from app.settings import DEFAULT_ACCOUNT

_COLOURS = {Status.OK: "green", Status.DEGRADED: "yellow", Status.FAILING: "red"}


def show_json(findings: Sequence[Check], fixed: Sequence[Fixed]) -> None:
    """Output for programs: `status`, `findings`, `fixed`."""
    repairs = [asdict(one) | {"advice": _next_step(one)} for one in fixed]
    show_value({"status": worst(findings), "findings": [asdict(one) for one in findings], "fixed": repairs})


def show(findings: Sequence[Check], fixed: Sequence[Fixed]) -> None:
    """Output for people; colours only on a terminal."""
    for finding in findings:
        sign = typer.style(f"{finding.status:<8}", fg=_COLOURS[finding.status])
        name = finding.name if finding.account is None else f"{finding.account}/{finding.name}"
        typer.echo(f"{sign} {name:<24} {finding.detail}")
        if finding.advice is not None:
            typer.echo(f"{'':<8} {'':<24} → {finding.advice}")
    for one in fixed:
        typer.echo(f"\nThe webhook endpoint {one.url} of the account `{one.account}` is {one.action}.")
        if one.secret is not None:
            typer.echo(f"Its signing secret: {one.secret}\n{_next_step(one)}")


def _next_step(fixed: Fixed) -> str | None:
    """What to do with a new secret."""
    if fixed.secret is None:
        return None
    where = "STRIPE_WEBHOOK_SECRET (after a comma, if there is one already)"
    if fixed.account != DEFAULT_ACCOUNT:
        where = f"the `webhook_secrets` of `{fixed.account}` in STRIPE_ACCOUNTS"
    return f"It is not shown again: put it into {where}, and restart `tallyhook serve`."
