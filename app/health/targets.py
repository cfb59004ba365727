"""The check of targets: do messages arrive?"""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text

from app.db.rows import fetch
from app.health.registry import View, check
from app.health.results import Check, Link, LinkKind, degraded, ok
from app.health.text import names, span
from app.sentences import count

_MOST = 100


@dataclass(frozen=True, slots=True)
class TargetRow:
    """A target: since when it fails, why it was disabled, and whether it can work with the current settings."""

    name: str
    kind: str
    enabled: bool
    failing_since: datetime | None
    disabled_reason: str | None
    is_disabled_by_us: bool


@check
async def targets(view: View) -> Check:
    """Whether messages to every target arrive."""
    found = await fetch(view.session, TargetRow, _TARGETS, {"limit": _MOST + 1})
    problems = [line for line in (_problem(row, view) for row in found) if line is not None]
    if not problems:
        number = count(len(found), "target", most=_MOST)
        return ok("targets", f"no target has a problem ({number})" if found else "no target is set up")
    advice = "see GET /v1/deliveries?state=failed, then POST /v1/targets/{id}/recover"
    return degraded("targets", names(problems), advice, link=Link(LinkKind.TARGETS))


def _problem(row: TargetRow, view: View) -> str | None:
    if row.is_disabled_by_us:
        return f"target {row.name} is disabled: {row.disabled_reason}"
    if row.enabled and row.kind == "webhook" and not view.settings.signing_key:
        return f"target {row.name} waits for TALLYHOOK_SIGNING_KEY"
    if row.enabled and row.failing_since is not None:
        return f"target {row.name} has failed for {span(view.now - row.failing_since)}"
    return None


_TARGETS = text("""
select name, kind, enabled, failing_since, disabled_reason,
    not enabled and disabled_reason is not null and disabled_reason not like 'disabled by %' as is_disabled_by_us
from targets where deleted_at is null order by failing_since nulls last, name limit :limit
""")
