"""Targets that want a stored report get a message: at least once, signed, and never delayed by another target."""

import asyncio
import uuid
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncSession
from standardwebhooks import Webhook
from structlog.testing import capture_logs

from app.errors import BadInput
from app.resources import Resources
from app.simulator import Simulator
from app.targets import deliveries, recovery, send, store
from app.targets.catalogue import DESCRIBED
from app.targets.messages import NewMessage, announce
from app.targets.send import claim_deliveries, deliver
from app.vocabulary import MessageType, TargetKind
from tests import service
from tests.runs.stories import somebody_waits_for_a_lock
from tests.service import execute, fetch
from tests.targets.receivers import MailServer, WebReceiver, web_receiver
from tests.targets.stories import add_target, make_due, rows_read, send_due, states, store_reports


async def test_a_stored_report_is_announced_signed_with_the_targets_secret(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    target = await add_target(res, url=receiver.url)

    await store_reports(res, simulator)
    await send_due(res)

    (sent,) = receiver.received
    secret = store.secret_of(target, res.settings)
    message = Webhook(secret).verify(sent.body, sent.headers)
    run = await service.only_run(res)
    assert message["type"] == "run.stored"
    assert message["id"] == sent.headers["webhook-id"]
    assert message["data"]["run"]["id"] == str(run["id"])
    assert message["data"]["run"]["rule_name"] == "daily-activity"
    assert message["data"]["run"]["window"] == {"first": "2026-03-01", "last": "2026-03-01", "timezone": "UTC"}
    assert message["data"]["file"]["url"] == f"https://reports.example.com/v1/runs/{run['id']}/file"
    assert await states(res) == [("run.stored", "delivered", 1)]


async def test_without_targets_nothing_is_written(res: Resources, simulator: Simulator) -> None:
    await store_reports(res, simulator)

    assert await fetch(res, "select 1 from messages") == []


async def test_the_message_is_created_in_the_transaction_of_the_move(
    res: Resources, simulator: Simulator, receiver: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    await add_target(res, url=receiver.url)

    async def broken(*args: object) -> None:
        raise RuntimeError("the process dies here")

    monkeypatch.setattr("app.targets.messages.wake", broken)
    await service.add_rule(res)
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-02"))
    with pytest.raises(RuntimeError):
        await service.work_off(res)

    assert [run["state"] for run in await fetch(res, "select state from runs")] == ["ready"]
    assert await fetch(res, "select 1 from messages") == []


async def test_an_error_of_ours_counts_as_a_failed_try_and_its_traceback_is_logged(
    res: Resources, simulator: Simulator, receiver: WebReceiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(*args: object) -> None:
        raise KeyError("ours")

    await add_target(res, url=receiver.url)
    await store_reports(res, simulator)
    monkeypatch.setattr(send, "SENDERS", {TargetKind.WEBHOOK: broken})

    with capture_logs() as lines:
        await send_due(res)

    (crash,) = [line for line in lines if line["event"] == "delivery.crashed"]
    assert crash["exc_info"]
    assert [dict(row) for row in await fetch(res, "select error from delivery_attempts")] == [
        {"error": "internal: KeyError"}
    ]


async def test_a_failed_run_is_announced_with_its_reason(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)

    await store_reports(res, simulator, parameters={"columns": ["no_such_column"]})
    await send_due(res)

    (sent,) = receiver.received
    assert sent.message["type"] == "run.failed"
    assert sent.message["data"]["run"]["error"]["kind"] == "rejected"
    assert sent.message["data"]["file"] is None


async def test_what_fails_is_tried_again_with_the_same_id_and_the_same_bytes(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)
    receiver.answers = [500, 503]

    await store_reports(res, simulator)
    for _ in range(3):
        await send_due(res)
        await make_due(res)

    assert len({sent.headers["webhook-id"] for sent in receiver.received}) == 1
    assert len({sent.body for sent in receiver.received}) == 1
    attempts = await fetch(res, "select number, status, answer from delivery_attempts order by id")
    assert [(one["number"], one["status"]) for one in attempts] == [(1, 500), (2, 503), (3, 200)]
    assert attempts[0]["answer"] == "seen"
    assert await states(res) == [("run.stored", "delivered", 3)]


async def test_after_ten_tries_it_is_failed_and_recover_sends_it_again(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    target = await add_target(res, url=receiver.url)
    receiver.always = 500

    await store_reports(res, simulator)
    for _ in range(12):
        await make_due(res)
        await send_due(res)
    given_up = await states(res)
    receiver.always = 200
    async with res.sessions.begin() as session:
        recovered = await recovery.recover(session, target.id, service.at("2026-01-01"))
    await send_due(res)

    assert given_up == [("run.stored", "failed", 10)]
    assert recovered == 1
    assert await states(res) == [("run.stored", "delivered", 1)]


async def test_a_pause_that_the_receiver_asks_for_is_heeded(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)
    receiver.answers = [(429, {"retry-after": "120"})]

    await store_reports(res, simulator)
    await send_due(res)

    (waits,) = await fetch(
        res, "select due_at > clock_timestamp() + interval '100 s' as is_long from deliveries where state = 'pending'"
    )
    assert waits["is_long"]


async def test_410_disables_the_target_and_the_others_are_notified(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    async with web_receiver() as gone:
        gone.always = 410
        await add_target(res, url=gone.url, name="gone")
        await add_target(res, url=receiver.url, name="well")
        await store_reports(res, simulator)
        await send_due(res)

    (target,) = await fetch(res, "select enabled, disabled_reason from targets where name = 'gone'")
    assert not target["enabled"]
    assert "410" in target["disabled_reason"]
    assert "target.disabled" in receiver.types


async def test_a_target_that_failed_for_days_is_disabled_and_what_comes_then_is_skipped_until_it_is_recovered(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    target = await add_target(res, url=receiver.url)
    receiver.always = 500
    await store_reports(res, simulator, days=3)
    await send_due(res)
    await make_due(res)
    await send_due(res)
    await execute(res, "update targets set failing_since = now() - interval '6 days'")
    await execute(res, "update delivery_attempts set at = now() - interval '1 day'")
    await make_due(res)

    await send_due(res)
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-05"))
    await service.work_off(res)
    disabled = {state for type_, state, _ in await states(res) if type_ == "run.stored"}
    receiver.always = 200
    async with res.sessions.begin() as session:
        found = await store.get(session, target.id, lock=True)
        again = store.as_it_is(found)
        await store.change(session, found, replace(again, enabled=True), settings=res.settings, by="test")
        await recovery.recover(session, target.id, service.at("2026-01-01"))
    receiver.received.clear()
    await send_due(res)

    assert disabled == {"skipped"}
    assert receiver.types.count("run.stored") == 4


async def test_a_dead_target_holds_up_no_other(res: Resources, simulator: Simulator, receiver: WebReceiver) -> None:
    await add_target(res, url="http://127.0.0.1:9/", name="dead")
    await add_target(res, url=receiver.url, name="well")
    await store_reports(res, simulator, days=9)

    claims = await claim_deliveries(res, 100)

    by_target = [claim.target.name for claim in claims]
    assert by_target.count("dead") <= deliveries.AT_ONCE
    assert by_target.count("well") == deliveries.AT_ONCE
    for claim in claims:
        await deliver(res, claim)
    again = [claim.target.name for claim in await claim_deliveries(res, 100)]
    assert again.count("well") == deliveries.AT_ONCE
    assert again.count("dead") == deliveries.AT_ONCE_WHILE_FAILING


async def test_with_few_slots_a_target_that_works_goes_before_one_that_fails(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    for number in range(5):
        await add_target(res, url="http://127.0.0.1:9/", name=f"dead {number}")
    await add_target(res, url=receiver.url, name="well")
    await execute(res, "update targets set failing_since = now() where name like 'dead%'")
    await store_reports(res, simulator, days=9)

    claims = await claim_deliveries(res, 4)

    assert [claim.target.name for claim in claims] == ["well"] * 4


async def test_a_claim_reads_what_it_takes_however_many_messages_wait(res: Resources, receiver: WebReceiver) -> None:
    await add_target(res, url=receiver.url)
    async with res.sessions.begin() as session:
        waiting = [NewMessage(MessageType.PING, {"text": "ping"}, f"ping/{number}") for number in range(2000)]
        await announce(session, waiting)
    await execute(res, "analyze deliveries")
    first = await claim_deliveries(res, 2)

    async with res.sessions.begin() as session:
        values = {"worker": res.worker_id, "seconds": 60, "limit": 32, "signs": True, "most": 500}
        values |= {"at_once": deliveries.AT_ONCE, "at_once_while_failing": deliveries.AT_ONCE_WHILE_FAILING}
        await session.execute(text("set local enable_seqscan = off"))  # as with so many rows that it costs too much
        explain = text(f"explain (analyze, format json) {deliveries._CLAIM.text}")
        plan = (await session.execute(explain, values)).scalar_one()[0]["Plan"]

    assert len(first) == 2
    assert 0 < rows_read("deliveries", plan) < 50


async def test_a_claim_whose_process_died_is_taken_over_and_the_late_record_changes_nothing(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)
    await store_reports(res, simulator)
    (slow,) = await claim_deliveries(res, 10)
    await execute(res, "update deliveries set lease_until = clock_timestamp() - interval '1 s'")

    (second,) = await claim_deliveries(res, 10)
    await deliver(res, second)
    late = deliveries.Outcome(delivered=False, milliseconds=1, status=500)
    async with res.sessions.begin() as session:
        await deliveries.record(session, slow, late, retry_in=[5.0])

    assert await states(res) == [("run.stored", "delivered", 1)]


async def test_without_a_signing_key_webhooks_wait_and_other_targets_do_not(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)
    await add_target(res, TargetKind.SLACK, url="finance")
    await store_reports(res, simulator)
    await make_due(res)

    async with res.sessions.begin() as session:
        claims = await deliveries.claim(session, worker=res.worker_id, seconds=60, limit=10, signs=False)

    assert [claim.target.kind for claim in claims] == ["slack"]
    assert await states(res) == [("run.stored", "pending", 0)] * 2


async def test_a_target_hears_only_of_the_rules_accounts_and_types_that_it_names(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    rule = await store_reports(res, simulator)
    await add_target(res, url=receiver.url, name="this rule", rule_ids=[rule.id])
    await add_target(res, url=receiver.url, name="another rule", rule_ids=[uuid.uuid4()])
    await add_target(res, url=receiver.url, name="failures", message_types=["run.failed"])
    await add_target(res, url=receiver.url, name="account", accounts=["default"], message_types=["run.stored"])
    simulator.advance(service.REPORT_TYPE, to=service.at("2026-03-03"))

    await service.work_off(res)

    told = await fetch(res, "select name from deliveries join targets on targets.id = target_id order by name")
    assert [one["name"] for one in told] == ["account", "this rule"]


async def test_a_mail_collects_what_happened_within_a_minute_problems_first(
    res: Resources, simulator: Simulator, smtp: MailServer
) -> None:
    await add_target(res, TargetKind.EMAIL, recipients=["books@example.com"])
    await store_reports(res, simulator, days=3, parameters={"columns": ["no_such_column"]})
    await store_reports(res, simulator, days=3, name="well", starts_on=service.at("2026-03-02").date())
    assert await fetch(res, "select 1 from deliveries where due_at > clock_timestamp() + interval '1 minute'") == []
    await make_due(res)

    calls = await send_due(res)

    (mail,) = smtp.mails
    text = mail.get_content()  # type: ignore[attr-defined]
    assert calls == 1
    # Folded: with some versions of Python the space that begins the second line is read as part of it.
    assert mail["Subject"].strip() == "Tallyhook: Reports failed: daily-activity (3), Reports stored: well (2)"
    assert "2026-03-02" in text
    assert text.index("no_such_column") < text.index("Reports stored")
    assert "https://reports.example.com/runs/" in text
    assert {state for _, state, _ in await states(res)} == {"delivered"}


@pytest.mark.parametrize(("silent_at", "word"), [("DATA", "timed_out"), ("QUIT", None)])
async def test_a_mail_server_that_falls_silent_holds_up_nobody_and_no_mail_is_sent_twice(
    res: Resources, simulator: Simulator, smtp: MailServer, monkeypatch: pytest.MonkeyPatch, silent_at: str, word: str
) -> None:
    monkeypatch.setattr(
        "app.targets.mail.MAIL_SECONDS" if silent_at == "DATA" else "app.targets.mail.QUIT_SECONDS", 0.2
    )
    await add_target(res, TargetKind.EMAIL, recipients=["books@example.com"])
    await store_reports(res, simulator, parameters={"columns": ["no_such_column"]})
    smtp.silent_at = silent_at
    await make_due(res)
    await send_due(res)
    smtp.silent_at = ""
    await make_due(res)
    await send_due(res)

    assert len(smtp.mails) == 1
    words = [one["error"] for one in await fetch(res, "select error from delivery_attempts order by id")]
    assert words == ([word, None] if word else [None])


@pytest.mark.parametrize(
    ("host", "error", "users"),
    [
        pytest.param("0.0.0.0", "mail_server_away", [], id="elsewhere"),
        pytest.param("127.0.0.1", None, [b"tallyhook"], id="on this machine"),
    ],
)
async def test_the_password_of_the_mail_server_never_leaves_the_machine_without_tls(
    res: Resources, simulator: Simulator, smtp: MailServer, host: str, error: str | None, users: list[bytes]
) -> None:
    url = SecretStr(smtp.url.replace("smtp://127.0.0.1", f"smtp://tallyhook:secret@{host}"))
    res = replace(res, settings=res.settings.model_copy(update={"smtp_url": url}))
    await add_target(res, TargetKind.EMAIL, recipients=["books@example.com"])
    await store_reports(res, simulator, parameters={"columns": ["no_such_column"]})
    await make_due(res)

    await send_due(res)

    (tried,) = await fetch(res, "select error, answer from delivery_attempts")
    assert tried["error"] == error
    assert ("STARTTLS" in tried["answer"]) is (error is not None)
    assert smtp.users == users


async def test_a_mail_server_that_says_later_is_tried_again(
    res: Resources, simulator: Simulator, smtp: MailServer
) -> None:
    await add_target(res, TargetKind.EMAIL, recipients=["books@example.com"])
    await store_reports(res, simulator, parameters={"columns": ["no_such_column"]})
    smtp.refuses = True
    await make_due(res)
    await send_due(res)
    smtp.refuses = False
    await make_due(res)

    await send_due(res)

    assert len(smtp.mails) == 1
    words = [one["error"] for one in await fetch(res, "select error from delivery_attempts order by id")]
    assert words == ["smtp_451", None]


async def test_slack_gets_one_post(res: Resources, simulator: Simulator, receiver: WebReceiver) -> None:
    await add_target(res, TargetKind.SLACK, url="finance")
    await store_reports(res, simulator, days=12)
    await make_due(res)

    await send_due(res)

    (sent,) = receiver.received
    assert "Reports stored: daily-activity (12)" in sent.message["text"]
    assert "and 2 more" in sent.message["text"]


async def test_a_folder_gets_a_copy_of_every_file(res: Resources, simulator: Simulator) -> None:
    (folder,) = res.settings.target_folders
    await add_target(res, TargetKind.FOLDER, url=f"{folder}/books")

    await store_reports(res, simulator)
    await send_due(res)
    await execute(res, "update deliveries set state = 'pending', due_at = now()")
    await send_due(res)

    (file,) = await fetch(res, "select filename, size from files")
    copied = Path(folder.removeprefix("file://")) / "books" / "default" / service.REPORT_TYPE / file["filename"]
    assert copied.stat().st_size == file["size"]
    assert len(list(copied.parent.iterdir())) == 1


async def test_a_restatement_is_announced_beside_the_stored_revision(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url, message_types=["run.restated"])
    await store_reports(res, simulator)
    await execute(res, "update files set sha256 = repeat('0', 64)")
    await execute(
        res,
        """insert into runs (id, account, rule_id, report_type, window_key, revision, interval_start, interval_end,
           timezone, parameters, state, attempts_granted)
           select gen_random_uuid(), account, rule_id, report_type, window_key, 2, interval_start, interval_end,
           timezone, parameters, 'planned', 3 from runs""",
    )
    await execute(
        res,
        """insert into attempts (run_id, number, account, idempotency_key)
           select id, 1, account, gen_random_uuid() from runs where revision = 2""",
    )

    await service.work_off(res)
    await send_due(res)

    assert receiver.types == ["run.restated"]
    assert receiver.received[0].message["data"]["before"]["sha256"] == "0" * 64


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"url": "ftp://receiver.example/"}, "/url"),
        ({"url": "https://user:secret@receiver.example/"}, "/url"),
        ({"url": "https://169.254.169.254/latest"}, "/url"),
        ({"url": "https://0x0a.1/"}, "/url"),
        ({"url": "https://receiver.example/", "message_types": ["run.stord"]}, "/message_types/0"),
        ({"url": "https://receiver.example/", "accounts": ["nobody"]}, "/accounts/0"),
        ({"kind": TargetKind.EMAIL, "recipients": []}, "/recipients"),
        ({"kind": TargetKind.EMAIL, "recipients": ["a b"]}, "/recipients/0"),
        ({"kind": TargetKind.SLACK, "url": "nowhere"}, "/url"),
        ({"kind": TargetKind.FOLDER, "url": "file:///etc"}, "/url"),
    ],
)
async def test_a_target_that_cannot_work_is_refused(res: Resources, changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(BadInput) as refused:
        await add_target(res, **changes)

    assert [error.pointer for error in refused.value.errors] == [pointer]


async def test_old_messages_are_pruned_with_their_deliveries_and_pending_ones_are_kept(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    await add_target(res, url=receiver.url)
    await store_reports(res, simulator, days=2)
    (first, _) = await claim_deliveries(res, 10)
    await deliver(res, first)
    await execute(res, "update messages set created_at = now() - :age", age=timedelta(days=100))

    async with res.sessions.begin() as session:
        pruned = await recovery.prune(session, days=90, limit=10)
    left = len(await states(res))
    # An older process may still promise to send to a target that was removed.
    await execute(res, "update targets set deleted_at = now()")
    async with res.sessions.begin() as session:
        pruned_later = await recovery.prune(session, days=90, limit=10)

    assert (pruned, left) == (1, 1)
    assert pruned_later == 1


def test_every_message_type_is_described() -> None:
    assert set(DESCRIBED) == set(MessageType)


async def test_what_a_dead_worker_had_claimed_is_taken_over_as_soon_as_the_rest_of_its_work(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    """The claim is renewed while it is being sent, so it need not be longer than every lane's."""
    await add_target(res, url=receiver.url)
    await store_reports(res, simulator)

    soon = res.settings.model_copy(update={"stalled_after_seconds": 5.0})
    await claim_deliveries(replace(res, settings=soon), 10)

    (claimed,) = await fetch(res, "select extract(epoch from lease_until - now()) as left from deliveries")
    assert 0 < claimed["left"] <= 5


async def test_two_failures_at_once_of_which_one_disables_the_target_do_not_wait_for_each_other(
    res: Resources, simulator: Simulator, receiver: WebReceiver
) -> None:
    # Given two messages of one target that are being sent, and both were refused for good
    target = await add_target(res, url=receiver.url)
    await store_reports(res, simulator, days=2)
    first, second = await claim_deliveries(res, 2)
    gone = deliveries.Outcome(delivered=False, milliseconds=1, status=410, is_gone=True)

    async def fails(session: AsyncSession, claim: deliveries.DeliveryClaim) -> None:
        await deliveries.record(session, claim, gone, retry_in=[60.0])

    async def fails_too() -> None:
        async with res.sessions.begin() as session:
            await fails(session, second)
            await store.disable_if_hopeless(session, target.id, is_gone=True, after_days=0)

    # When one is being recorded while the other disables the target and skips what is pending
    async with res.sessions.begin() as session:
        await fails(session, first)
        beside = asyncio.create_task(fails_too())
        await somebody_waits_for_a_lock(res)
        await store.disable_if_hopeless(session, target.id, is_gone=True, after_days=0)
    await beside

    # Then both have come to an end, and what was not delivered is skipped
    assert {state for _, state, _ in await states(res)} == {"skipped"}
