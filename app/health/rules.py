"""The checks of rules: is every owed window stored, is Stripe's data on time, does the report type exist?"""

import difflib
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.health import rows, rule_rows
from app.health.lateness import data_within
from app.health.registry import View, check
from app.health.results import Check, Link, LinkKind, Status, degraded, ok
from app.health.rule_rows import MissingType, OwedWindows, RuleRow
from app.health.text import TOLD_FOR, names
from app.observability.logs import redact
from app.sentences import count
from app.vocabulary import RunState

# Stripe makes a report in minutes, rarely in hours; the newest window is requested first.
STORED_WITHIN = timedelta(hours=6)
_MOST_TOLD = 5


class Trouble(StrEnum):
    """What is wrong with a rule; if several things are, the first."""

    TYPE_MISSING = "type_missing"
    UNPLANNED = "unplanned"  # its windows cannot be planned
    FAILED = "failed"  # windows that were given up, and perhaps others that are late
    KEY_REFUSED = "key_refused"  # nothing can be requested with the account's key
    LATE = "late"  # windows that take too long
    DATA_LATE = "data_late"  # Stripe's data does not reach as far as it should by now


# Problems that do not pass: somebody has to correct the rule or the key.
BLOCKING = frozenset({Trouble.TYPE_MISSING, Trouble.UNPLANNED, Trouble.KEY_REFUSED})


@dataclass(frozen=True, slots=True)
class RuleHealth:
    """A rule for one connected account: its state, what exists, and what is due next."""

    rule_id: uuid.UUID
    name: str
    account: str
    connected_account: str | None
    status: Status
    detail: str
    newest_window_end: datetime | None
    newest_state: str | None
    next_due_at: datetime | None
    expected_by: datetime | None
    trouble: Trouble | None = None


async def rules_of(view: View) -> list[RuleHealth]:
    """Every enabled rule that was looked at, those with problems first."""
    missing = {(one.account, one.report_type): line for one, line in await view.once(missing_types)}
    owed = await rule_rows.owed_windows(view.session, stored_within=STORED_WITHIN)
    owed_of = {(one.rule_id, one.connected_account): one for one in owed}
    looked_at = await rule_rows.rules(view.session, also=[(one.rule_id, one.connected_account) for one in owed])
    found = [_rule(row, view.now, missing, owed_of.get((row.id, row.connected_account))) for row in looked_at]
    return sorted(found, key=lambda rule: rule.status is Status.OK)


@check
async def freshness(view: View) -> Check:
    """Whether any rule is late."""
    rules = await view.once(rules_of)
    troubled = [rule for rule in rules if rule.status is not Status.OK]
    blocked = sorted({rule.name for rule in troubled if rule.trouble in BLOCKING})
    late = sorted({rule.name for rule in troubled if rule.trouble not in BLOCKING})
    if troubled:
        advice = "`rules` in GET /health says what each one waits for and since when"
        said = [f"{word}: {names(found)}" for word, found in (("late", late), ("blocked", blocked)) if found]
        return degraded("freshness", "; ".join(said), advice, link=Link(LinkKind.RULES))
    on_time = count(len({rule.rule_id for rule in rules}), "rule is on time", "rules are on time")
    return ok("freshness", on_time if rules else "no rule is enabled")


@check
async def report_types(view: View) -> Check:
    """Whether every type that an enabled rule names exists."""
    missing = [line for _, line in await view.once(missing_types)]
    if not missing:
        return ok("report_types", "; ".join(["every report type named by a rule has data", *await _new_versions(view)]))
    advice = "correct the name in the rule, or check the account and its mode (many types are live-only)"
    return degraded("report_types", f"missing: {names(missing)}", advice, link=Link(LinkKind.REPORT_TYPES))


@check
async def rechecks(view: View) -> Check:
    """Whether re-checks can find anything."""
    found = await rule_rows.proving_nothing(view.session)
    if not found:
        return ok("rechecks", "no re-check was answered with the file that it checks")
    said = [f"{one.report_type} of {one.account} (since {one.since:%F})" for one in found]
    detail = f"Stripe answers with the earlier file, so re-checks prove nothing for {names(said)}"
    advice = "take `recheck_days` out of the rule; a monthly rule beside a daily one (`kept`) still finds restatements"
    return degraded("rechecks", detail, advice, link=Link(LinkKind.REPORT_TYPES))


async def _new_versions(view: View) -> list[str]:
    found = await rule_rows.new_versions(view.session, within=TOLD_FOR)
    return [
        f"{one.id} of {one.account} has been {one.resolves_to} since {one.resolved_since:%F},"
        f" {one.resolved_before} before"
        for one in found[:_MOST_TOLD]
    ]


async def missing_types(view: View) -> list[tuple[MissingType, str]]:
    """The types that rules name and that do not exist, each with a sentence."""
    found = []
    for one in await rule_rows.missing_types(view.session):
        if one.reason is not None:
            why = redact(one.reason)
        elif one.listed:
            near = difflib.get_close_matches(one.report_type, await view.once(_known_types), n=1)
            why = "Stripe does not list it for this account" + (f"; did you mean {near[0]}?" if near else "")
        else:
            why = "Stripe has no data for it"
        found.append((one, f"{one.report_type} of {one.account} (rule {one.rule!r}): {why}"))
    return found


async def _known_types(view: View) -> list[str]:
    return await rule_rows.known_types(view.session)


def _rule(row: RuleRow, now: datetime, missing: Mapping[tuple[str, str], str], owed: OwedWindows | None) -> RuleHealth:
    newest, expected_by = _newest(row, now)
    following = None
    if expected_by is None:
        following, expected_by = _next(row, now)
    type_missing = missing.get((row.account, row.report_type)) if row.type_missing else None
    owed_line = None if owed is None else _owed(owed)
    unplanned = None if row.problem is None else f"it cannot be planned: {row.problem}; correct the rule"
    has_failed = owed is not None and owed.failed_end is not None
    refused = f"Stripe refuses the key of the account {row.account}, so none of its reports can be requested"
    kinds = (
        (Trouble.TYPE_MISSING, type_missing),
        (Trouble.UNPLANNED, unplanned),
        (Trouble.FAILED, owed_line if has_failed else None),
        (Trouble.KEY_REFUSED, refused if row.key_refused else None),
        (Trouble.LATE, owed_line or newest),
        (Trouble.DATA_LATE, following),
    )
    trouble, detail = next(((kind, said) for kind, said in kinds if said), (None, None))
    return RuleHealth(
        rule_id=row.id,
        name=row.name,
        account=row.account,
        connected_account=row.connected_account,
        status=Status.OK if detail is None else Status.DEGRADED,
        detail=detail or "on time",
        newest_window_end=row.window_end,
        newest_state=row.state,
        next_due_at=row.next_due_at,
        expected_by=expected_by,
        trouble=trouble,
    )


def _owed(owed: OwedWindows) -> str:
    """What is wrong with windows that are owed, new or old."""
    said = []
    if owed.failed_end is not None:
        windows = count(owed.failed, "window", most=rows.MOST_COUNTED)
        said.append(f"{windows} failed, the newest until {owed.failed_end:%F %H:%M} UTC: see its error, then retry")
    if owed.late_end is not None:
        windows = count(owed.late, "window is", "windows are", most=rows.MOST_COUNTED)
        said.append(f"{windows} late, the newest until {owed.late_end:%F %H:%M} UTC: the run's `waiting` says why")
    return "; ".join(said)


def _newest(row: RuleRow, now: datetime) -> tuple[str | None, datetime | None]:
    """What is wrong with the newest window, and by when it is expected; neither once it is done."""
    if row.planned_at is None or row.state in (RunState.STORED, RunState.CANCELLED):
        return None, None
    expected_by = row.planned_at + STORED_WITHIN
    if row.state != RunState.FAILED and now > expected_by:
        return f"the window until {row.window_end:%F %H:%M} UTC is late: still {row.state}", expected_by
    return None, expected_by


def _next(row: RuleRow, now: datetime) -> tuple[str | None, datetime | None]:
    """What is wrong with the next window, and by when it is expected, as far as that is known."""
    if row.next_due_at is None:
        late = now > row.created_at + STORED_WITHIN
        return ("Stripe has not announced data for its report type yet" if late else None), None
    expected_by = row.next_due_at + data_within(row.report_type, row.longest_data_age)
    if now <= expected_by:
        return None, expected_by
    due = f"{row.next_due_at:%F %H:%M} UTC"
    if row.data_available_end is None:
        return f"Stripe has no data yet, but should have it until {due} by now", expected_by
    return f"Stripe's data reaches {row.data_available_end:%F %H:%M} UTC, but should reach {due} by now", expected_by
