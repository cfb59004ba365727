"""Lasting states are announced once when they begin and once when they end; missed messages are made up for; months are
completed."""

from app.health.notices import announce_lasting
from app.resources import Resources
from app.rules import months
from app.runs import manual
from app.simulator import Simulator
from app.targets.messages import announce_missed
from tests import service
from tests.service import execute, fetch
from tests.targets.receivers import WebReceiver
from tests.targets.stories import add_target, months_told, rows_read, send_due, store_reports


async def test_a_refused_key_is_announced_once_and_its_end_once(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)
    await execute(
        res,
        "insert into account_holds (account, call_kind, reason, next_probe_at)"
        " values ('default', 'create', 'Invalid API Key', now())",
    )

    await announce_lasting(res)
    await announce_lasting(res)
    await execute(res, "delete from account_holds")
    await announce_lasting(res)
    await announce_lasting(res)
    await send_due(res)

    assert receiver.types == ["account.held", "account.released"]
    held, released = [sent.message["data"] for sent in receiver.received]
    assert "Invalid API Key" in held["text"]
    assert held["since"] == released["since"]


async def test_a_key_that_is_refused_again_later_is_announced_again(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)
    hold = (
        "insert into account_holds (account, call_kind, reason, next_probe_at) values ('default', 'read', 'no', now())"
    )
    for _ in range(2):
        await execute(res, hold)
        await announce_lasting(res)
        await execute(res, "delete from account_holds")
        await announce_lasting(res)

    await send_due(res)

    assert receiver.types == ["account.held", "account.released"] * 2


async def test_a_rule_with_a_failed_window_is_late_and_then_on_time(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url, message_types=["rule.late", "rule.on_time"])
    await store_reports(res, simulator)
    # The next window is due tomorrow: only the failed one is wrong.
    await execute(res, "update rule_progress set next_due_at = now() + interval '1 day'")
    await execute(res, "update runs set state = 'failed'")
    await announce_lasting(res)
    await execute(res, "update runs set state = 'stored'")

    await announce_lasting(res)
    await send_due(res)

    assert receiver.types == ["rule.late", "rule.on_time"]
    assert receiver.received[0].message["data"]["rule_name"] == "daily-activity"


async def test_a_target_of_some_accounts_is_sent_what_is_late_there_also_if_it_came_later(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await store_reports(res, simulator)
    await execute(res, "update rule_progress set next_due_at = now() + interval '1 day'")
    await execute(res, "update runs set state = 'failed'")
    await announce_lasting(res)
    assert await fetch(res, "select 1 from messages") == []

    await add_target(res, url=receiver.url, accounts=["default"])
    await announce_lasting(res)
    await announce_lasting(res)
    await send_due(res)

    assert receiver.types == ["rule.late"]
    assert receiver.received[0].message["data"]["account"] == "default"


async def test_a_month_is_announced_when_its_last_report_is_stored_and_never_again(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url, message_types=["month.complete"])
    await store_reports(res, simulator, days=30)
    await announce_lasting(res)
    before = await fetch(res, "select 1 from messages where type = 'month.complete'")
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-04-01"))
    await service.work_off(res)

    await announce_lasting(res)
    await announce_lasting(res)
    await execute(res, "delete from messages")
    await announce_lasting(res)

    assert before == []
    assert await fetch(res, "select 1 from messages where type = 'month.complete'") == []
    await execute(res, "delete from notices where type = 'month.complete'")
    await announce_lasting(res)
    (told,) = await fetch(res, "select data from messages where type = 'month.complete'")
    assert told["data"]["month"] == "2026-03"
    assert told["data"]["windows"] == 31


async def test_a_month_of_weeks_is_complete_although_its_last_week_belongs_to_the_next(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url, message_types=["month.complete"])
    await store_reports(res, simulator, days=28, cadence="weekly")
    await announce_lasting(res)
    before = await fetch(res, "select 1 from messages where type = 'month.complete'")
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-30"))
    await service.work_off(res)

    await announce_lasting(res)

    assert before == []
    (told,) = await fetch(res, "select data from messages where type = 'month.complete'")
    assert (told["data"]["month"], told["data"]["windows"]) == ("2026-03", 4)


async def test_a_month_is_complete_when_its_last_open_report_is_cancelled_days_later(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url, message_types=["month.complete"])
    await store_reports(res, simulator, days=31)
    await execute(res, "update runs set state = 'failed' where window_key = '2026-03-07'")
    await execute(res, "update run_moves set at = at - interval '3 days'")
    (failed,) = await fetch(res, "select id from runs where state = 'failed'")
    await announce_lasting(res)
    before = await fetch(res, "select 1 from messages where type = 'month.complete'")

    async with res.sessions.begin() as session:
        await manual.cancel(session, failed["id"], by="test")
    for _ in range(2):
        await announce_lasting(res)

    assert before == []
    (told,) = await fetch(res, "select data from messages where type = 'month.complete'")
    assert (told["data"]["month"], told["data"]["windows"]) == ("2026-03", 30)


async def test_a_month_with_reports_under_way_is_dismissed_without_counting_them(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    # Given a cancelled run in a month of a backfill for 500 connected accounts
    await add_target(res, url=receiver.url, message_types=["month.complete"])
    await store_reports(res, simulator, days=31)
    taken = "account, rule_id, report_type, window_key, interval_start, interval_end, timezone, parameters"
    await execute(res, f"insert into runs (id, connected_account, state, attempts_granted, {taken})"
        f" select gen_random_uuid(), 'acct_' || number, 'planned', 1, {taken}"
        " from runs cross join generate_series(1, 500) as number")  # fmt: skip
    await execute(res, "update runs set state = 'cancelled' where window_key = '2026-03-07' and state = 'stored'")
    await execute(res, "analyze runs")

    plan = await fetch(res, f"explain (analyze, format json) {months._COMPLETE.text}")

    assert rows_read("runs", plan[0]["QUERY PLAN"][0]["Plan"]) < 500

    # A revision of what is stored may be under way: the month has every report
    await execute(res, "delete from runs where connected_account is not null")
    await execute(res, f"insert into runs (id, revision, state, attempts_granted, {taken})"
        f" select gen_random_uuid(), 2, 'planned', 1, {taken} from runs where window_key = '2026-03-08'")  # fmt: skip
    assert await months_told(res) == [("2026-03", 30)]


async def test_a_month_with_a_failed_report_is_not_complete_and_one_with_a_cancelled_report_is(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url, message_types=["month.complete"])
    await store_reports(res, simulator, days=31)
    await execute(res, "update runs set state = 'failed' where window_key = '2026-03-07'")
    await announce_lasting(res)
    failed = await fetch(res, "select 1 from messages where type = 'month.complete'")
    await execute(res, "update runs set state = 'cancelled' where window_key = '2026-03-07'")

    await announce_lasting(res)

    assert failed == []
    (told,) = await fetch(res, "select data from messages where type = 'month.complete'")
    assert told["data"]["windows"] == 30


async def test_a_run_that_an_older_version_moved_without_a_message_is_announced_once(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)
    await store_reports(res, simulator, days=2)
    await execute(res, "delete from messages")

    async with res.sessions.begin() as session:
        first = await announce_missed(session, seconds=3600)
    async with res.sessions.begin() as session:
        second = await announce_missed(session, seconds=3600)
    await send_due(res)

    assert (first, second) == (2, 0)
    assert receiver.types == ["run.stored", "run.stored"]


async def test_rechecks_that_are_not_announced_are_not_missed_either(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)
    await store_reports(res, simulator, days=4)
    first, differs, unchanged, failed = await fetch(res, "select id from runs order by window_key")
    await execute(
        res,
        "update runs set recheck = true, revision = 2, window_key = '2026-03-01' where id = :id",
        id=differs["id"],
    )
    for run, state in ((unchanged, "cancelled"), (failed, "failed")):
        await execute(res, "update runs set recheck = true, state = :state where id = :id", state=state, id=run["id"])
        await execute(res, "update run_moves set to_state = :state where run_id = :id and to_state = 'stored'",
                      state=state, id=run["id"])  # fmt: skip
    await execute(res, "delete from messages")

    async with res.sessions.begin() as session:
        missed = [await announce_missed(session, seconds=3600) for _ in range(2)]

    assert missed == [2, 0]
    messages = await fetch(res, "select type, subject from messages order by type")
    assert [(one["type"], one["subject"]) for one in messages] == [
        ("run.restated", str(differs["id"])),
        ("run.stored", str(first["id"])),
    ]
