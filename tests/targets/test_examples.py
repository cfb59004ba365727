"""The examples of messages in the API document are what is really sent: the same keys, the same kinds of values.

`check.differs` and `columns.changed` need loaded files: tests/tables/test_announcing.py compares them.
"""

from datetime import date

from app.health.notices import announce_lasting
from app.resources import Resources
from app.simulator import Simulator
from app.vocabulary import MessageType, RunState
from tests import service
from tests.api.conftest import client_of
from tests.service import execute, fetch
from tests.targets.examples import unlike_its_example
from tests.targets.receivers import WebReceiver, web_receiver
from tests.targets.stories import add_target, make_due, send_due, store_reports

FROM_TABLES = {MessageType.CHECK_DIFFERS, MessageType.COLUMNS_CHANGED}


async def test_every_message_that_is_sent_looks_like_its_example(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    target = await add_target(res, url=receiver.url)

    # When everything happens that there are messages about
    async with client_of(res) as api, web_receiver() as gone:
        gone.always = 410
        await add_target(res, url=gone.url, name="gone", message_types=["run.stored"])
        await store_reports(res, simulator, days=31, cadence="monthly")
        await store_reports(
            res,
            simulator,
            days=32,
            name="wrong",
            starts_on=date(2026, 4, 1),
            parameters={"columns": ["no_such_column"]},
        )
        await send_due(res)
        (failed, *_) = await fetch(res, "select id from runs where state = 'failed'")
        (await api.post(f"/v1/runs/{failed['id']}/cancel")).raise_for_status()
        await execute(res, "update files set sha256 = repeat('0', 64)")
        again = {"from": "2026-03-01", "to": "2026-04-01", "rerun": True}
        (monthly,) = await fetch(res, "select id from rules where cadence = 'monthly'")
        (await api.post(f"/v1/rules/{monthly['id']}/backfill", json=again)).raise_for_status()
        await service.work_off(res)
        await _trouble_comes_and_goes(res)
        (await api.post(f"/v1/targets/{target.id}/test")).raise_for_status()
        await make_due(res)
        await send_due(res)

    # Then all of them have arrived, and each is as documented
    assert {MessageType(type_) for type_ in receiver.types} == set(MessageType) - FROM_TABLES
    unlike = {one.message["type"]: found for one in receiver.received if (found := unlike_its_example(one.message))}
    assert unlike == {}


async def _trouble_comes_and_goes(res: Resources) -> None:
    """A refused key, a missing type, a late rule; and the end of each."""
    await execute(
        res,
        "insert into account_holds (account, call_kind, reason, next_probe_at)"
        " values ('default', 'create', 'Invalid API Key', now())",
    )
    await execute(res, "update report_types set missing_since = now() - interval '1 day'")
    await announce_lasting(res)
    await execute(res, "delete from account_holds")
    await execute(res, "update report_types set missing_since = null")
    await execute(res, "update rule_progress set next_due_at = now() + interval '1 day'")
    await execute(res, "delete from runs where state = :state", state=RunState.FAILED)
    await announce_lasting(res)
