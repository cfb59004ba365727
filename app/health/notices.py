"""Announces lasting states (a late rule, a refused key, a missing type) to targets when they begin and end."""

from uuid import UUID

from app.health import rows
from app.health.registry import View
from app.health.results import Status
from app.health.rules import missing_types, rules_of
from app.health.text import calls
from app.observability.logs import redact
from app.resources import Resources
from app.rules.months import announce_complete_months
from app.targets.messages import announce_missed
from app.targets.notices import Lasting, announce_changes
from app.vocabulary import MessageType

# Longer than the timetable's period: what an older version records beside us is announced soon after.
UNTOLD_SECONDS = 3600.0

TYPES = (MessageType.RULE_LATE, MessageType.ACCOUNT_HELD, MessageType.REPORT_TYPE_MISSING)


async def announce_lasting(res: Resources) -> None:
    """Announce changed states, missed messages and complete months."""
    async with res.sessions.begin() as session:
        view = View(session, res.settings, await rows.now(session))
        await announce_changes(session, TYPES, [*await _late(view), *await _held(view), *await _missing(view)])
    async with res.sessions.begin() as session:
        await announce_missed(session, seconds=UNTOLD_SECONDS)
        await announce_complete_months(session)


async def _late(view: View) -> list[Lasting]:
    found: dict[UUID, Lasting] = {}
    for rule in await view.once(rules_of):
        if rule.status is not Status.OK:
            found.setdefault(
                rule.rule_id,
                Lasting(
                    MessageType.RULE_LATE,
                    str(rule.rule_id),
                    f"{rule.name} is late: {rule.detail}",
                    f"{rule.name} is on time again",
                    account=rule.account,
                    rule_id=rule.rule_id,
                    data={"rule_id": str(rule.rule_id), "rule_name": rule.name},
                ),
            )
    return list(found.values())


async def _held(view: View) -> list[Lasting]:
    held = await rows.holds(view.session, configured=sorted(view.settings.accounts))
    return [
        Lasting(
            MessageType.ACCOUNT_HELD,
            f"{hold.account}/{hold.call_kind}",
            f"{hold.account}: Stripe refuses the key for {calls(hold.call_kind)}: {redact(hold.reason)}",
            f"{hold.account}: Stripe accepts the key again for {calls(hold.call_kind)}",
            account=hold.account,
            data={"call_kind": hold.call_kind},
        )
        for hold in held
    ]


async def _missing(view: View) -> list[Lasting]:
    return [
        Lasting(
            MessageType.REPORT_TYPE_MISSING,
            f"{one.account}/{one.report_type}",
            line,
            f"{one.report_type} of {one.account} is available",
            account=one.account,
            data={"report_type": one.report_type},
        )
        for one, line in await view.once(missing_types)
    ]
