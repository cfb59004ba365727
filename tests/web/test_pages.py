"""Pages without a browser: bounded, guarded, and honest about what they cannot show."""

import re
import uuid
from datetime import UTC, date, datetime, timedelta

import pytest

from app.errors import NotNow
from app.health.results import Link, LinkKind
from app.health.text import span
from app.resources import Resources
from app.simulator import Simulator
from app.upkeep.reconcile import reconcile
from app.web.accounts import settings_shown
from app.web.preview import Preview, preview_of
from app.web.render import POLICY
from app.web.today import link_path
from app.web.words import days, sentence, size
from tests.days import today
from tests.service import READ_TOKEN, REPORT_TYPE, add_rule, at, execute, fetch, work_off
from tests.web.visiting import heading, log_in, plain, submit, visitor

EVERY_LIST = (
    "/ /rules /months/2026-03 /runs /events /audit /tables /checks /targets /deliveries /accounts /setup /report-types"
)


@pytest.mark.parametrize("path", EVERY_LIST.split())
async def test_every_page_of_an_empty_service_answers_and_runs_nothing_inline(res: Resources, path: str) -> None:
    async with visitor(res) as client:
        await log_in(client)
        page = await client.get(path)

    assert page.status_code == 200
    assert page.headers["content-security-policy"] == POLICY
    assert "unsafe" not in POLICY
    assert not re.search(r"<[^>]+ (style|on\w+)=|<style|<script(?! src=)|javascript:", page.text)


async def test_what_others_wrote_is_shown_as_text(res: Resources) -> None:
    await add_rule(res, name="<script>alert(1)</script>")
    async with visitor(res) as client:
        await log_in(client)
        pages = [await client.get(path) for path in ("/", "/rules", "/audit")]

    assert all("<script>alert" not in page.text for page in pages)
    assert "&lt;script&gt;alert(1)" in pages[1].text


async def test_a_failed_run_is_on_the_first_page_until_a_newer_revision_takes_its_place(
    res: Resources, simulator: Simulator
) -> None:
    await add_rule(res, name="activity")
    simulator.advance("balance_change_from_activity.itemized.7", to=at("2026-03-02"))
    await work_off(res)
    await execute(res, "update runs set state = 'failed', error = '{\"message\": \"bad luck\"}'")
    async with visitor(res) as client:
        await log_in(client)
        assert "Bad luck." in (await client.get("/")).text

        (run,) = await fetch(res, "select * from runs")
        copied = {name: value for name, value in run.items() if name not in ("id", "revision", "state", "error")}
        names = ", ".join(copied)
        await execute(
            res,
            f"insert into runs (id, revision, state, {names}) select :id, 2, 'stored', {names} from runs",
            id=uuid.uuid4(),
        )

        assert "Bad luck." not in (await client.get("/")).text


async def test_every_page_says_that_a_rule_with_a_refused_key_is_blocked(res: Resources, simulator: Simulator) -> None:
    rule = await add_rule(res, name="eu payouts")
    simulator.advance(rule.report_type, to=at("2026-03-02"))
    await work_off(res)
    (run,) = await fetch(res, "select id from runs")
    await execute(res, "update runs set state = 'planned', stored_at = null")
    await execute(res, "insert into account_holds values ('default', 'create', '401: revoked', now(), 0, now())")
    async with visitor(res) as client:
        await log_in(client)
        pages = {
            path: (await client.get(path)).text
            for path in (
                "/",
                "/rules",
                f"/rules/{rule.id}",
                "/months/2026-03",
                f"/runs/{run['id']}",
                "/runs",
                "/setup",
                f"/rules/{rule.id}/days/2026-03-01",
            )
        }

    for path, page in pages.items():
        assert 'class="state blocked"' in page or "blocked: eu payouts." in page, path
        assert "</span> planned" not in page or path.startswith("/runs/"), path  # there it is a line of the history
    assert "1 of 1 rule needs attention." in pages["/"]
    assert "key refused" in pages["/"]


async def test_pages_health_and_coverage_agree_on_when_a_report_type_is_missing(res: Resources) -> None:
    rule = await add_rule(res, name="mistyped", report_type="payouts.itemised.5")
    month = f"/v1/rules/{rule.id}/coverage?from=2026-03-01&to=2026-03-02"
    token = {"Authorization": f"Bearer {READ_TOKEN}"}
    said = {}
    for age in ("59 minutes", "61 minutes"):
        await execute(res, f"update rules set created_at = now() - interval '{age}'")
        async with visitor(res) as client:  # a new process, which has not judged yet
            await log_in(client)
            health = (await client.get("/health", headers=token)).json()
            (window,) = (await client.get(month, headers=token)).json()["data"]
            pages = [(await client.get(path)).text for path in ("/", "/rules", f"/rules/{rule.id}", "/months/2026-03")]
        (check,) = [one["status"] for one in health["checks"] if one["name"] == "report_types"]
        said[age] = (check, window["state"], ['class="state blocked"' in page for page in pages])
        assert window["waiting"]["reason"] == "report_type_missing"  # nothing else could end the wait
        assert ("no such report type" in pages[0]) == (check == "degraded")

    assert said == {
        "59 minutes": ("ok", "waiting", [False] * 4),
        "61 minutes": ("degraded", "waiting", [True] * 4),
    }


async def test_the_rules_page_says_which_rules_have_every_connected_account(res: Resources) -> None:
    itemized = "connected_account_balance_change_from_activity.itemized.3"
    for connected in (None, "together", "each"):
        await add_rule(res, name=f"said {connected}", report_type=itemized, connected=connected)
    await add_rule(res, name="of the platform itself")

    async with visitor(res) as client:
        await log_in(client)
        page = (await client.get("/rules")).text

    assert page.count("every connected account") == 3


async def test_no_page_calls_a_report_type_missing_while_the_key_may_not_ask(
    res: Resources, simulator: Simulator
) -> None:
    rule = await add_rule(res, name="payouts")
    await execute(res, "update rules set created_at = now() - interval '61 minutes'")
    simulator.inject("status", status=401, match={"method": "GET", "path": "report_types"})
    with pytest.raises(NotNow):
        await reconcile(res)

    async with visitor(res) as client:
        await log_in(client)
        pages = [(await client.get(path)).text for path in ("/", "/rules", f"/rules/{rule.id}", "/months/2026-03")]

    said = [re.findall("[^>]*(?:no such report type|not have this report)[^<]*", page) for page in pages]
    assert said == [[], [], [], []]


@pytest.mark.parametrize("call_kind", ["create", "read", "files"])
async def test_pages_agree_on_what_a_refused_key_blocks(res: Resources, simulator: Simulator, call_kind: str) -> None:
    rule = await add_rule(res, name="eu payouts")
    simulator.advance(rule.report_type, to=at("2026-03-02"))
    await work_off(res)
    (run,) = await fetch(res, "select id from runs")
    await execute(res, "update rules set enabled = false")  # no day without a run
    await execute(res, f"insert into account_holds values ('default', '{call_kind}', '403: no', now(), 0, now())")
    paths = f"/rules/{rule.id} /rules/{rule.id}/days/2026-03-01 /months/2026-03 /runs/{run['id']} /runs".split()
    blocked = {}
    async with visitor(res) as client:
        await log_in(client)
        for state in ("planned", "requested", "ready"):
            await execute(res, f"update runs set state = '{state}', stored_at = null")
            pages = [(await client.get(path)).text for path in paths]
            seen = ['class="state blocked"' in page for page in pages]
            assert len(set(seen)) == 1, dict(zip(paths, seen, strict=True))
            blocked[state] = seen[0]

    assert blocked == {"planned": call_kind == "create", "requested": False, "ready": call_kind == "files"}


async def test_a_rejected_run_offers_first_what_its_advice_says(res: Resources, simulator: Simulator) -> None:
    rule = await add_rule(res, name="activity")
    simulator.advance(rule.report_type, to=at("2026-03-02"))
    await work_off(res)
    (run,) = await fetch(res, "select id from runs")
    async with visitor(res) as client:
        await log_in(client)
        await execute(res, 'update runs set state = \'failed\', error = \'{"kind": "rejected", "message": "No"}\'')
        rejected = (await client.get(f"/runs/{run['id']}")).text
        retry, cancel = [
            plain((await client.get(f"/runs/{run['id']}/{action}")).text) for action in ("retry", "cancel")
        ]
        await execute(res, "update runs set rule_id = null")
        by_hand, retry_by_hand = [plain((await client.get(f"/runs/{run['id']}{to}")).text) for to in ("", "/retry")]
        await execute(res, 'update runs set error = \'{"kind": "timed_out"}\', rule_id = :rule', rule=rule.id)
        timed_out = (await client.get(f"/runs/{run['id']}")).text

    first = re.compile(r'<a class="button" href="([^"]+(?:edit|retry|cancel))"')
    assert first.findall(rejected) == [f"/rules/{rule.id}/edit"]
    assert first.findall(timed_out) == [f"/runs/{run['id']}/retry"]
    assert rejected.count(f"/rules/{rule.id}/edit") == 2  # the button, and the advice
    assert "Cancel…" not in rejected
    assert "with its rule’s current parameters. It gets up to 3 more attempts." in retry
    assert "Mark this report as not needed" in cancel
    assert "The run will be cancelled: no file will be fetched" in cancel
    assert "March 2026 counts it as cancelled, and can be closed without it." in cancel
    # one that no rule asked for has no rule to change, and none whose parameters a retry could take
    assert "Request a run with other values" in by_hand
    assert "with the same parameters." in retry_by_hand


async def test_a_page_that_asks_says_what_follows(res: Resources, simulator: Simulator) -> None:
    rule = await add_rule(res, name="activity", enabled=False)
    simulator.advance(rule.report_type, to=at("2026-03-05"))
    await work_off(res)
    async with visitor(res) as client:
        await log_in(client)
        on, off, delete = [
            (await client.get(f"/rules/{rule.id}/{action}")).text for action in ("enable", "disable", "delete")
        ]
        await submit(client, f"/rules/{rule.id}/enable")
        await work_off(res)
        backfill = (await client.get(f"/rules/{rule.id}/backfill?from=2026-03-01&through=2026-03-04&rerun=yes")).text

    assert "4 reports of 1–4 Mar 2026 will be requested at once." in plain(on)
    assert "the days that the rule does not cover" in off
    assert "This is final" in delete
    assert "kept as earlier revisions" in backfill


async def test_small_things_are_said_in_full(res: Resources, simulator: Simulator) -> None:
    rule = await add_rule(res, name="activity", timezone="Asia/Tokyo", settle_hours=1)
    simulator.advance(rule.report_type, to=at("2026-03-02"))
    await work_off(res)
    (run,) = await fetch(res, "select id from runs")
    await execute(res, "update accounts set livemode = false")
    async with visitor(res) as client:
        await log_in(client)
        await submit(client, f"/rules/{rule.id}/disable")
        audit = (await client.get("/audit")).text
        await submit(client, f"/rules/{rule.id}/enable")
        pages = {
            path: (await client.get(path)).text for path in ("/", "/events", f"/runs/{run['id']}", f"/rules/{rule.id}")
        }

    assert re.search(rf'href="/rules/{rule.id}">activity</a>', audit)  # also where only another value changed
    assert "test mode, no real money: default." in pages["/"]
    assert "<label>State" in pages["/events"]
    assert "00:00 JST</span>" in pages[f"/runs/{run['id']}"]
    assert "<dt>Extra wait</dt><dd>1 hour</dd>" in pages[f"/rules/{rule.id}"]


async def test_today_says_how_many_reports_each_rule_misses_by_day(res: Resources, simulator: Simulator) -> None:
    day = today()
    simulator.advance(REPORT_TYPE, to=datetime.now(UTC) - timedelta(days=6))
    late = await add_rule(res, name="late", starts_on=day - timedelta(days=9))
    old = await add_rule(res, name="old", report_type="payouts.itemised.5", starts_on=day - timedelta(days=60))
    await work_off(res)
    async with visitor(res) as client:
        await log_in(client)
        page = plain((await client.get("/")).text)

    lines = {
        rule.name: " ".join(re.sub(r"<[^>]+>", " ", page[page.index(f'href="/rules/{rule.id}"') :][:900]).split())
        for rule in (late, old)
    }
    assert re.search(r"\(6 reports\) Stripe’s data reaches .* UTC ; 6 reports wait for more", lines["late"]), lines[
        "late"
    ]
    assert "(29 reports in the last 30 days)" in lines["old"]


async def test_with_more_rules_than_fit_those_in_trouble_come_first_and_everything_is_counted(res: Resources) -> None:
    await execute(
        res,
        """insert into rules (id, account, name, report_type, enabled, cadence, timezone, starts_on, settle_hours,
               parameters, connected_accounts)
           select gen_random_uuid(), 'default', 'rule ' || to_char(n, 'FM0000'), 'payouts.itemized.5', true, 'daily',
               'UTC', '2026-03-01', 0, '{}', '{}' from generate_series(1, 250) as n""",
    )
    async with visitor(res) as client:
        await log_in(client)
        pages = [await client.get(f"/?page={page}") for page in (1, 3, 99)]

    rows = [re.findall(r'<th [^>]*scope="row"><a href="/rules/[^"]+">([^<]+)', page.text) for page in pages]
    assert [len(row) for row in rows] == [100, 50, 50]
    assert rows[1] == rows[2] == [f"rule {number:04}" for number in range(201, 251)]
    assert "250 rules" in pages[0].text
    assert all(len(page.content) < 300_000 for page in pages)


async def test_a_page_that_is_not_there_says_so(res: Resources) -> None:
    await add_rule(res, name="daily")
    async with visitor(res) as client:
        await log_in(client)
        for path in ("/nothing", "/rules/none", f"/runs/{uuid.uuid4()}", "/months/2026-13", "/targets/x",
                     "/months/9999-12", "/months/9999-12/pack.zip", "/months/1969-12", "/rules/daily/days/abc",
                     "/rules/daily/days/9999-12-31", "/rules/daily?account=%00", "/events/%00",
                     f"/events/{'9' * 5000}"):  # fmt: skip
            page = await client.get(path)
            assert page.status_code == 404, path
            assert heading(page).startswith("There is no such"), path
        assert (await client.get("/runs?state=odd")).status_code == 422
        assert (await submit(client, f"/runs/{uuid.uuid4()}/retry")).status_code == 404


async def test_an_action_is_noted_under_the_persons_name(res: Resources) -> None:
    rule = await add_rule(res)
    async with visitor(res) as client, visitor(res) as reader:
        await log_in(client)
        await log_in(reader, READ_TOKEN)
        assert (await submit(reader, f"/rules/{rule.id}/disable")).status_code == 403
        assert (await submit(client, f"/rules/{rule.id}/disable")).status_code == 303

    assert not (await fetch(res, "select enabled from rules"))[0]["enabled"]
    noted = await fetch(res, "select actor from audit where action = 'rule.changed'")
    assert [entry["actor"] for entry in noted] == ["admin"]


async def test_a_change_that_somebody_made_meanwhile_is_not_overwritten(res: Resources) -> None:
    rule = await add_rule(res, name="contested")
    form = {"name": "contested", "report_type": rule.report_type, "cadence": "daily", "timezone": "UTC", "do": "save"}
    async with visitor(res) as client:
        await log_in(client)
        first = await submit(client, f"/rules/{rule.id}/edit", **form, version="1", settle_hours="5")
        second = await submit(client, f"/rules/{rule.id}/edit", **form, version="1", settle_hours="7")

    assert first.status_code == 303
    assert second.status_code == 422
    assert "version 2" in second.text
    assert (await fetch(res, "select settle_hours from rules"))[0]["settle_hours"] == 5


async def test_a_target_that_is_off_says_whether_a_person_or_its_receiver_did_that(res: Resources) -> None:
    targets = {"disabled by anna": uuid.uuid4(), "the receiver answered 410 Gone": uuid.uuid4()}
    for reason, target in targets.items():
        await execute(
            res,
            """insert into targets (id, name, kind, recipients, message_types, enabled, disabled_reason)
               values (:id, :reason, 'email', '{anna@example.com}', '{*}', false, :reason)""",
            id=target,
            reason=reason,
        )
    async with visitor(res) as client:
        await log_in(client)
        pages = [(await client.get(f"/targets/{target}")).text for target in targets.values()]

    assert [re.findall('<p class="problem">(.*?)</p>', page) for page in pages] == [
        ["Switched off by anna."],
        ["Switched off: the receiver answered 410 Gone."],
    ]


async def test_settings_are_shown_without_their_secrets(res: Resources) -> None:
    shown = {name: value for name, value, _ in settings_shown(res.settings)}

    assert shown["STRIPE_API_KEY"] == shown["TALLYHOOK_ADMIN_TOKEN"] == shown["STRIPE_WEBHOOK_SECRET"] == "set"
    for secret in res.settings.secret_values():
        assert all(secret not in value for value in shown.values())


def test_every_link_of_a_check_has_a_page() -> None:
    assert {link_path(Link(kind)).split("?")[0] for kind in LinkKind} <= set(EVERY_LIST.split())


def test_a_preview_ends_with_the_last_whole_row_and_knows_amounts() -> None:
    shown = preview_of(b"id,net,note\na,1.50,x\nb,-2,\nc,3", is_whole=False)

    assert isinstance(shown, Preview)
    assert shown.is_number == [False, True, False]
    assert [row[0] for row in shown.rows] == ["a"]
    assert preview_of(b"x" * 100, is_whole=False) == "The first line is too long to be shown: download the file."


def test_a_length_of_time_is_rounded_to_the_nearest() -> None:
    assert span(timedelta(hours=5, minutes=59)) == "6 hours"
    assert span(timedelta(hours=5, minutes=29)) == "5 hours"
    assert span(timedelta(days=2, hours=13)) == "3 days"
    assert span(timedelta(seconds=59)) == "59 seconds"
    assert span(timedelta(seconds=1)) == "1 second"


def test_values_are_written_for_people() -> None:
    assert days(date(2026, 10, 1), date(2026, 10, 31)) == "Oct 2026"
    assert days(date(2026, 11, 30), date(2026, 12, 6)) == "30 Nov – 6 Dec 2026"
    assert (size(999), size(53_075), size(12_345_678)) == ("999 B", "53.1 kB", "12.3 MB")
    assert sentence("payouts.itemised.5 is missing") == "payouts.itemised.5 is missing."
    assert sentence("it waits") == "It waits."
    assert sentence("default: 1 of 1 signed") == "default: 1 of 1 signed."


async def test_a_database_that_goes_away_in_the_middle_of_an_action_is_reported_on_the_page(
    res: Resources, simulator: Simulator
) -> None:
    await add_rule(res)
    simulator.advance("balance_change_from_activity.itemized.7", to=at("2026-03-02"))
    await reconcile(res)
    (run, *_) = await fetch(res, "select id from runs")
    # A move goes to the driver directly: its errors are not SQLAlchemy's.
    await execute(
        res,
        "create function go_away() returns trigger language plpgsql as"
        " $$ begin raise exception 'going' using errcode = '57P01'; end $$",
    )
    await execute(res, "create trigger go_away before insert on run_moves for each row execute function go_away()")
    async with visitor(res) as client:
        await log_in(client)
        answer = await submit(client, f"/runs/{run['id']}/cancel")

    assert (answer.status_code, heading(answer)) == (503, "The database does not answer")
    assert {one["state"] for one in await fetch(res, "select state from runs")} == {"planned"}
