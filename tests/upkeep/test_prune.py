"""What is past its retention is deleted, kind by kind, and nothing else."""

from uuid import uuid4

import pytest

from app.resources import Resources
from app.upkeep import prune as pruning
from app.upkeep.prune import KEPT, prune
from tests.service import execute, fetch

# A row of each kind, so many days old.
ROWS = {
    "processes": """
        insert into workers (id, host, pid, seen_at) values (:id, 'h', 1, now() - :age * interval '1 day')
    """,
    "unclaimed Stripe runs": """
        insert into unclaimed_runs (account, stripe_run_id, report_type, parameters, created_at)
        values ('default', cast(cast(:id as uuid) as text), 't', '{}', now() - :age * interval '1 day')
    """,
    "events": """
        insert into events (account, stripe_event_id, type, payload_sha256, status, received_at)
        values ('default', cast(cast(:id as uuid) as text), 't', 's', 'handled', now() - :age * interval '1 day')
    """,
    "messages": """
        insert into messages (id, type, data, dedupe_key, created_at)
        values (:id, 'ping', '{}', cast(cast(:id as uuid) as text), now() - :age * interval '1 day')
    """,
}  # fmt: skip
TABLES = {"processes": "workers", "unclaimed Stripe runs": "unclaimed_runs"}


@pytest.mark.parametrize("what", KEPT)
async def test_everything_too_old_of_each_kind_is_forgotten_however_much_it_is(
    res: Resources, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    monkeypatch.setattr(pruning, "BATCH", 2)
    days = KEPT[what].days(res.settings)
    for age in [days + 1] * 5 + [days - 0.5]:
        await execute(res, ROWS[what], id=uuid4(), age=age)

    await prune(res)

    assert len(await fetch(res, f"select 1 from {TABLES.get(what, what)}")) == 1


async def test_old_events_are_forgotten_but_never_one_that_was_not_handled(res: Resources) -> None:
    await execute(
        res,
        "insert into events (account, stripe_event_id, type, payload_sha256, status, received_at)"
        " select 'default', 'evt_' || status || age, 't', 's', status, now() - age * interval '1 day'"
        " from unnest(array['handled', 'ignored', 'pending', 'failed']) as status, unnest(array[89, 91]) as age",
    )

    await prune(res)

    left = {row["stripe_event_id"] for row in await fetch(res, "select stripe_event_id from events")}
    assert left == {"evt_handled89", "evt_ignored89", "evt_pending89", "evt_failed89", "evt_pending91", "evt_failed91"}
